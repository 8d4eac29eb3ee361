"""What `evaluate` shows: tables, curves and videos of its gallery."""

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
from mssync.points import ALL, title_of
from mssync.render import gallery
from mssync.render.gallery import GalleryEntry, MetricRow, MetricTable, SyncPlot
from mssync.stages._scores import Excerpt, Motion, Scores, SyncScores
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
        columns = [LABELS[system] for system in systems]
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
        [LABELS[system] for system in systems],
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
        [LABELS[system] for system in columns],
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
        [LABELS[system] for system in (sync.CEILING, *systems)],
        [
            MetricRow(
                label="Rigid points",
                values=[Estimate(1000 * value, None, None, sequences) for value in values],
                normalised=None,
                n=sequences,
            )
        ],
    )


def sync_plots(scores: SyncScores, generated: Sequence[str]) -> list[SyncPlot]:
    """Distance over shift, one plot per level, all points."""
    systems = [sync.CEILING, *generated, RETRIEVAL, *sync.FLOORS]
    return [
        SyncPlot(
            gallery.level_label(level),
            [float(shift) for shift in found[sync.CEILING].curves[0].shifts_s],
            {
                LABELS[system]: [float(value) for value in found[system].mean_curve]
                for system in systems
            },
        )
        for level, found in scores[ALL].items()
    ]


def entries(
    pieces: Sequence[Excerpt],
    shown: Mapping[str, Sequence[Motion]],
    scores: SyncScores,
    media: Mapping[str, Source],
    store: MediaStore,
    *,
    at_most: int,
) -> list[GalleryEntry]:
    """The clips that are shown, evenly taken over all.

    Raises:
        InputError: If the media of a clip are gone from the store.
    """
    chosen = np.linspace(0, len(pieces) - 1, min(at_most, len(pieces))).round().astype(int)
    return [
        GalleryEntry(
            clip_id=f"{pieces[i].clip_id} @ frame {pieces[i].start}",
            speaker=pieces[i].speaker_id,
            motions={LABELS[sync.CEILING]: pieces[i].motion_TPD}
            | {LABELS[name]: motions[i] for name, motions in shown.items()},
            waveform=sound(pieces[i], media[pieces[i].clip_id], store),
            scores=_clip_scores(scores, [sync.CEILING, *shown], i),
        )
        for i in chosen
    ]


def _clip_scores(
    scores: SyncScores, systems: Sequence[str], index: int
) -> dict[str, dict[str, float | None]]:
    return {
        f"LSE-D level {level}": {
            LABELS[system]: found[system].per_clip("lse_d")[index] for system in systems
        }
        for level, found in scores[ALL].items()
    }


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
