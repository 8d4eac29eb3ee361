"""What `evaluate` shows: tables, curves and clips of its gallery."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mssync.data.dataset import Source
from mssync.errors import InputError
from mssync.media import decode
from mssync.media.sound import read_sound
from mssync.media.store import MediaStore
from mssync.metrics import sync
from mssync.metrics.baselines import RETRIEVAL
from mssync.metrics.bootstrap import Estimate
from mssync.metrics.coupling import head_speed
from mssync.metrics.sync import Evaluator
from mssync.points import ALL, title_of
from mssync.render import gallery, plots
from mssync.render.gallery import MetricRow, MetricTable, Page, Plots
from mssync.render.payload import Failure, GalleryEntry, Trace
from mssync.stages._scores import Excerpt, Motion, Scores, SyncScores
from mssync.stages._traces import rigidities, traces
from mssync.timing import SAMPLES_PER_FRAME

LABELS = {
    sync.CEILING: "Ground truth",
    sync.OTHER_AUDIO: "Another clip's audio",
    sync.SHIFTED_AUDIO: "Audio 1 s late",
    sync.STATIC: "Static face",
    RETRIEVAL: "Retrieval",
    "generated": "Generated",
    "champion": "Champion",
}
RIGIDITY = "Rigid points, 1/1000 crop"
Direction = Literal["lower", "higher"]
_SYNC_TABLES: tuple[tuple[str, str, str, Direction], ...] = (
    (
        "lse_d",
        "LSE-D: distance of motion and sound",
        "Distance between what the face does and what is heard, at the best shift.",
        "lower",
    ),
    (
        "lse_c",
        "LSE-C: confidence of synchrony",
        "How much the best shift stands out from the others.",
        "higher",
    ),
    (
        "abs_offset_s",
        "Offset, seconds",
        "How far the best shift is from the one delivered.",
        "lower",
    ),
)


def label(system: str) -> str:
    """A system's name for the reader."""
    return LABELS.get(system, system)


def tables(scores: Scores, generated: Sequence[str]) -> list[MetricTable]:
    """Everything that was measured, of the generated systems, baselines, ceiling and floors."""
    return [
        *sync_tables(scores.sync, generated),
        coupling_table(scores.coupling, generated),
        frechet_table(scores.frechet, generated),
        rigidity_table(
            scores.rigidity,
            generated,
            sequences=next(iter(scores.coupling.values()))[sync.CEILING].n,
        ),
    ]


def sync_tables(scores: SyncScores, generated: Sequence[str]) -> list[MetricTable]:
    """One table per score: rows are levels and point sets, columns the systems."""
    systems = [sync.CEILING, *generated, RETRIEVAL, *sync.FLOORS]
    tables = []
    for score, title, explanation, better in _SYNC_TABLES:
        rows = [
            MetricRow(
                label=f"{gallery.level_label(level)}, {title_of(points)}",
                values=[found[system].scores[score] for system in systems],
                normalised=found[generated[0]].normalised.get(score),
                n=found[generated[0]].scores[score].n,
            )
            for points, levels in scores.items()
            for level, found in levels.items()
        ]
        columns = [label(system) for system in systems]
        tables.append(MetricTable(title, explanation, better, columns, rows))
    return tables


def coupling_table(
    coupling: Mapping[str, Mapping[str, Estimate]], generated: Sequence[str]
) -> MetricTable:
    """Correlation of movement with loudness."""
    systems = [sync.CEILING, *generated, RETRIEVAL, sync.STATIC, sync.OTHER_AUDIO]
    names = {
        "head_speed_loudness": "Head speed",
        "mouth_opening_loudness": "Mouth opening",
    }
    rows = [
        MetricRow(
            label=names[measure],
            values=[found[system] for system in systems],
            normalised=None,
            n=found[generated[0]].n,
        )
        for measure, found in coupling.items()
    ]
    return MetricTable(
        "Movement and loudness",
        "Correlation of movement with the loudness of the speech, over 0.2 s.",
        "closer to the ground truth",
        [label(system) for system in systems],
        rows,
    )


def frechet_table(
    distances: Mapping[str, Mapping[str, Mapping[str, Any]]], generated: Sequence[str]
) -> MetricTable:
    """Fréchet distances; `distances` is system -> name -> distance, distance_in_axes, n."""
    names = {"fd_frame": "FD-frame", "fd_time": "t-FD", "fd_motion": "FD-motion"}
    columns = [*generated, RETRIEVAL, sync.STATIC]
    rows = [
        MetricRow(
            label=f"{title}{suffix}",
            values=[
                Estimate(distances[system][name][field], None, None, distances[system][name]["n"])
                for system in columns
            ],
            normalised=None,
            n=distances[generated[0]][name]["n"],
        )
        for name, title in names.items()
        for field, suffix in (("distance", ""), ("distance_in_axes", ", principal axes"))
        if distances[generated[0]][name][field] is not None
    ]
    return MetricTable(
        "Fréchet distances to the ground truth",
        "How far shapes and movements are, as a whole, from those of real faces; at this N only.",
        "lower",
        [label(system) for system in columns],
        rows,
    )


def rigidity_table(
    rigidity: Mapping[str, Mapping[str, float]], generated: Sequence[str], *, sequences: int
) -> MetricTable:
    """What points that speech does not move leave of an affine motion."""
    systems = [*generated, RETRIEVAL, sync.STATIC]
    values = [rigidity[systems[0]][sync.CEILING], *(rigidity[name]["value"] for name in systems)]
    return MetricTable(
        "Does the face keep its shape?",
        "How far points that speech does not move are from an affine image of the first frame, "
        "in thousandths of the crop.",
        "closer to the ground truth",
        [label(system) for system in (sync.CEILING, *systems)],
        [
            MetricRow(
                label="Rigid points",
                values=[Estimate(1000 * value, None, None, sequences) for value in values],
                normalised=None,
                n=sequences,
            )
        ],
    )


def sync_plots(scores: SyncScores, generated: Sequence[str]) -> Plots:
    """Distance over shift, one plot per level, all points."""
    systems = [sync.CEILING, *generated, RETRIEVAL, *sync.FLOORS]
    return Plots(
        "Sync curves",
        "Mean distance between motion and sound when one is shifted against the other. In sync "
        "means a clear valley at 0 s; a flat line means that motion and sound have nothing to do "
        "with each other. The dot marks the lowest point.",
        [label(system) for system in systems],
        [
            (
                gallery.level_label(level),
                plots.sync_curves(
                    [float(shift) for shift in found[sync.CEILING].curves[0].shifts_s],
                    {
                        label(system): [float(value) for value in found[system].mean_curve]
                        for system in systems
                    },
                ),
            )
            for level, found in scores[ALL].items()
        ],
    )


def drift_plots(shown: Sequence[GalleryEntry]) -> Plots:
    """Mean distance of motion and sound over the time since the first frame, one plot per level."""
    systems = list(shown[0].motions)
    levels = zip(*(entry.traces for entry in shown), strict=True)
    return Plots(
        "Drift",
        f"Mean distance of motion and sound over time, unshifted, of the {len(shown)} clips shown. "
        "A line that climbs is a face that leaves its sound, or its shape, as it goes on.",
        systems,
        [
            (
                gallery.level_label(traces[0].level),
                plots.lines(_mean_over_time(traces, systems), x_label="time", unit=" s"),
            )
            for traces in levels
            if any(np.isfinite(values).any() for values in traces[0].systems.values())
        ],
    )


def _mean_over_time(
    traces: Sequence[Trace], systems: Sequence[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """System -> times and means over clips; nan where one has no value."""
    first = traces[0]
    times_s = [
        first.start_s + step * first.step_s for step in range(len(first.systems[systems[0]]))
    ]
    return {
        name: (times_s, np.stack([trace.systems[name] for trace in traces]).mean(axis=0).tolist())
        for name in systems
    }


def entries(
    pieces: Sequence[Excerpt],
    shown: Mapping[str, Sequence[Motion]],
    scores: SyncScores,
    media: Mapping[str, Source],
    store: MediaStore,
    *,
    at_most: int,
    judges: Sequence[Evaluator],
    kernel: int,
    device: str = "cpu",
    failures: Sequence[Mapping[str, Sequence[Failure]]] = (),
) -> list[GalleryEntry]:
    """The clips that are shown, the failures first.

    Args:
        pieces: Sequences that were scored.
        shown: System -> its motion of each; the first is the one that is judged.
        scores: Synchrony of all systems.
        media: Where each clip's media are.
        store: Holds them.
        at_most: Clips shown. Of more, half are the worst, the others evenly taken over the rest.
        judges: Evaluators of all points, one a level.
        kernel: Width of the pyramid's box mean.
        device: Where the judges live.
        failures: System -> what is wrong with its motion, one mapping a sequence; empty where no
            verdicts are known.

    Raises:
        InputError: If the media of a clip are gone from the store.
    """
    found = []
    for place in _worst_first(next(iter(shown)), scores, failures, len(pieces), at_most):
        piece = pieces[place]
        motions = {sync.CEILING: piece.motion_TPD} | {
            name: motions[place] for name, motions in shown.items()
        }
        named = {label(name): motion for name, motion in motions.items()}
        found.append(
            GalleryEntry(
                clip_id=f"{piece.clip_id} @ frame {piece.start}",
                speaker=piece.speaker_id,
                motions=named,
                waveform=sound(piece, media[piece.clip_id], store),
                scores=_clip_scores(scores, list(motions), place)
                | {RIGIDITY: {name: 1000 * rigidities(motion) for name, motion in named.items()}},
                failures={
                    label(name): wrong
                    for name, wrong in (failures[place] if failures else {}).items()
                },
                head_speeds={
                    name: head_speed(motion).astype(np.float32) for name, motion in named.items()
                },
                traces=traces(named, piece.audio_AM, judges, kernel=kernel, device=device),
            )
        )
    return found


def _worst_first(
    judged: str,
    scores: SyncScores,
    failures: Sequence[Mapping[str, Sequence[Failure]]],
    pieces: int,
    at_most: int,
) -> list[int]:
    """Places of the sequences shown: those that failed, then by the distance of their lips."""
    levels = scores[ALL]
    lips = np.nan_to_num(levels[min(levels)][judged].per_clip("lse_d"), nan=np.inf)

    def badness(place: int) -> tuple[bool, float]:
        return bool(failures and failures[place].get(judged)), float(lips[place])

    order = sorted(range(pieces), key=badness, reverse=True)
    if pieces <= at_most:
        return order
    worst, rest = order[: at_most // 2], order[at_most // 2 :]
    evenly = np.linspace(0, len(rest) - 1, at_most - len(worst)).round().astype(int)
    return worst + [rest[place] for place in evenly]


def _clip_scores(
    scores: SyncScores, systems: Sequence[str], index: int
) -> dict[str, dict[str, float | None]]:
    return {
        f"LSE-D level {level}": {
            label(system): found[system].per_clip("lse_d")[index] for system in systems
        }
        for level, found in scores[ALL].items()
    }


def page(
    report: Mapping[str, Any],
    scores: Scores,
    clips: Sequence[GalleryEntry],
    generated: Sequence[str],
    *,
    summary: str,
    facts: Mapping[str, str],
    extra: Sequence[MetricTable] = (),
    notes: Sequence[str] = (),
) -> Page:
    """The gallery of an evaluation.

    Args:
        report: What `metrics.json` holds.
        scores: What was measured.
        clips: What is shown.
        generated: Systems with a generator, the one that is judged first.
        summary: The result in words.
        facts: What was evaluated.
        extra: Tables that come before those of `scores`.
        notes: What a reader must know first, e.g. the decision.
    """
    curves = [sync_plots(scores.sync, generated)]
    if clips:
        curves.append(drift_plots(clips))
    return Page(
        title="Ground truth beside generated",
        summary=summary,
        facts=facts,
        notes=notes,
        tables=[*extra, *tables(scores, generated)],
        entries=clips,
        clips_note=(
            f"{len(clips)} of {report['sequences']} sequences, the failures first, then those "
            "whose lips fit the sound least. Each shows the real face beside generated ones that "
            "heard the same sound: a generated face is given one frame of the speaker and the "
            "speech, nothing else. Retrieval moves that frame as training clips moved where they "
            "sounded most alike. Under the faces: the distance of motion and sound at each level, "
            "at this moment (lower is better). Under the sound: the same over time."
        ),
        plots=curves,
        judged=label(generated[0]),
    )


def sound(piece: Excerpt, source: Source, store: MediaStore) -> NDArray[np.float32]:
    """What is heard while a piece is shown: 640 samples a frame.

    Raises:
        InputError: If the clip's media are gone from the store.
    """
    media = store.path(source.sha256)
    if not media.is_file():
        raise InputError(
            f"the sound of {piece.clip_id} is gone from the media store: make retry fetches it"
        )
    waveform = read_sound(media, decode.read_clock(media)).waveform_N
    start = (source.first_frame + piece.start) * SAMPLES_PER_FRAME
    return waveform[start : start + len(piece.motion_TPD) * SAMPLES_PER_FRAME]
