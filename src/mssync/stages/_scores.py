"""What `evaluate` measures: held-out sequences, what systems make of them, and their scores.

Axes: T frames, A = 4 T audio rows, P = 68 points, D = 2, M mel bands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mssync import records
from mssync.data.clips import Clip
from mssync.data.dataset import Dataset
from mssync.errors import StageFailedError
from mssync.losses.rigidity import rigidity
from mssync.metrics import baselines, bootstrap, coupling, dynamics, frechet, sync
from mssync.metrics.bootstrap import Estimate
from mssync.metrics.sync import Evaluator, SystemSync
from mssync.models.generator import Generator
from mssync.params import Evaluate, Retrieval
from mssync.points import ALL
from mssync.timing import ROWS_PER_FRAME

Motion = NDArray[np.float32]
Pair = tuple[Motion, NDArray[np.float32]]


@dataclass(frozen=True)
class Excerpt:
    """A held-out piece of a clip.

    Attributes:
        clip_id: The clip.
        speaker_id: Who speaks.
        start: First frame in the clip.
        motion_TPD: Ground truth, (T, 68, 2).
        audio_AM: (4 T, 26).
    """

    clip_id: str
    speaker_id: str
    start: int
    motion_TPD: Motion
    audio_AM: NDArray[np.float32]

    @property
    def name(self) -> str:
        """Clip and first frame."""
        return f"{self.clip_id} @ frame {self.start}"

    @property
    def pair(self) -> Pair:
        """Motion and audio."""
        return self.motion_TPD, self.audio_AM


def excerpts(clips: Sequence[Clip], *, frames: int, at_most: int) -> list[Excerpt]:
    """Pieces of `frames` frames that do not overlap, evenly taken over all there are."""
    return _evenly(
        [
            Excerpt(
                clip.clip_id,
                clip.speaker_id,
                start,
                clip.motion_TPD[start : start + frames],
                clip.audio_AM[start * ROWS_PER_FRAME : (start + frames) * ROWS_PER_FRAME],
            )
            for clip in clips
            for start in range(0, clip.frames - frames + 1, frames)
        ],
        at_most,
    )


def test_set(pieces: Sequence[Excerpt]) -> str:
    """SHA-256 of what is scored: which pieces, their motion and their sound."""
    return records.digest(
        *(
            content
            for piece in pieces
            for content in (
                f"{piece.clip_id} {piece.start} {len(piece.motion_TPD)}",
                piece.motion_TPD.tobytes(),
                piece.audio_AM.tobytes(),
            )
        )
    )


def clips_of(version: Dataset, split: str, *, at_most: int | None = None) -> list[Clip]:
    """Clips of a split, sorted by id; where there are more than `at_most`, evenly taken."""
    ids = sorted(row["clip_id"] for row in version.rows if row["split"] == split)
    only = ids if at_most is None else _evenly(ids, at_most)
    return sorted(version.clips(split, only=set(only)), key=lambda clip: clip.clip_id)


Item = TypeVar("Item")


def _evenly(found: Sequence[Item], at_most: int) -> list[Item]:
    chosen = np.linspace(0, len(found) - 1, min(at_most, len(found))).round().astype(int)
    return [found[index] for index in chosen]


def baselines_of(
    pieces: Sequence[Excerpt], training: Sequence[Clip], params: Retrieval
) -> dict[str, list[Motion]]:
    """Motion of each piece without a model: cut out of the training clips, and the held face.

    Raises:
        StageFailedError: If no training clip is as long as a piece.
    """
    longest = max(clip.frames for clip in training)
    if longest < params.piece_frames:
        raise StageFailedError(
            f"retrieval cuts pieces of {params.piece_frames} frames, the longest training clip has "
            f"{longest}: lower evaluate.retrieval.piece_frames, or train on longer clips"
        )
    searched = baselines.bank([(clip.motion_TPD, clip.audio_AM) for clip in training])
    retrieved = [
        baselines.retrieve(
            piece.motion_TPD[0],
            piece.audio_AM,
            searched,
            piece_frames=params.piece_frames,
            candidates=params.candidates,
            continuity=params.continuity,
            blend_frames=params.blend_frames,
        )
        for piece in pieces
    ]
    held = [np.repeat(piece.motion_TPD[:1], len(piece.motion_TPD), axis=0) for piece in pieces]
    return {baselines.RETRIEVAL: retrieved, sync.STATIC: held}


def generate(model: Generator, pieces: Sequence[Excerpt], device: torch.device) -> list[Motion]:
    """What a generator makes of each piece's first frame and sound: (T, 68, 2) each."""
    source_BPD = torch.from_numpy(np.stack([piece.motion_TPD[0] for piece in pieces]))
    audio_BAM = torch.from_numpy(np.stack([piece.audio_AM for piece in pieces]))
    with torch.inference_mode():
        motion_BTPD = model.generate(source_BPD.to(device), audio_BAM.to(device))
    return list(motion_BTPD.cpu().numpy())


SyncScores = dict[str, dict[int, dict[str, SystemSync]]]


@dataclass(frozen=True)
class Scores:
    """What every system scored.

    Attributes:
        pieces: What was scored.
        seed: Draws the resamples of clips and speakers.
        resamples: Their number.
        sync: Synchrony by point set, level and system; ceiling and floors are among the systems.
        dynamics: System -> `score_dynamics`.
        coupling: Measure -> system -> estimate; ceiling and one floor are among the systems.
        frechet: System -> distance.
        rigidity: System -> mean and ground truth of `rigidity_values`.
        sequences: Metric -> system -> its value on each piece, in their order; ceiling and the
            floor of another clip's audio are among the systems where the metric has them.
    """

    pieces: Sequence[Excerpt]
    seed: int
    resamples: int
    sync: SyncScores
    dynamics: dict[str, dict[str, Any]]
    coupling: dict[str, dict[str, Estimate]]
    frechet: dict[str, dict[str, Any]]
    rigidity: dict[str, dict[str, float]]
    sequences: dict[str, dict[str, list[float]]]

    def metrics(self, system: str) -> dict[str, Any]:
        """One system's scores as JSON, each beside those of its references."""
        return (
            sync_metrics(self.sync, system, self.pieces, seed=self.seed, resamples=self.resamples)
            | {"dynamics": self.dynamics[system]}
            | {"frechet": self.frechet[system], "rigidity": self.rigidity[system]}
            | {
                measure: {
                    "value": found[system].value,
                    "low": found[system].low,
                    "high": found[system].high,
                    sync.CEILING: found[sync.CEILING].value,
                    sync.OTHER_AUDIO: found[sync.OTHER_AUDIO].value,
                }
                for measure, found in self.coupling.items()
            }
        )


def score(
    motions: Mapping[str, Sequence[Motion]],
    pieces: Sequence[Excerpt],
    training: Sequence[Clip],
    evaluators: Mapping[str, Sequence[Evaluator]],
    params: Evaluate,
    *,
    kernel: int,
    seed: int,
    device: torch.device,
) -> Scores:
    """Score systems by every measure there is.

    Args:
        motions: System -> its motion of each piece.
        pieces: Held-out pieces.
        training: Training clips, whose principal axes small samples are compared in.
        evaluators: Point set -> judges, one a level.
        params: The stage's section.
        kernel: Width of the pyramid's box mean.
        seed: Draws the resamples.
        device: Where the evaluators live.
    """
    synchrony = score_sync(
        motions, pieces, evaluators, params, kernel=kernel, seed=seed, device=device
    )
    coupled, stiff = coupling_values(motions, pieces), rigidity_values(motions, pieces)
    return Scores(
        pieces,
        seed,
        params.bootstrap,
        synchrony,
        {name: score_dynamics(made, pieces, params, seed) for name, made in motions.items()},
        score_coupling(coupled, params, seed),
        score_frechet(
            motions,
            pieces,
            [clip.motion_TPD for clip in training],
            evaluators[ALL][0],
            axes=params.frechet_axes,
            device=device,
        ),
        {
            name: {
                "value": float(np.mean(stiff[name])),
                sync.CEILING: float(np.mean(stiff[sync.CEILING])),
            }
            for name in motions
        },
        sync_values(synchrony) | coupled | {"rigidity": stiff},
    )


def score_sync(
    generated: Mapping[str, Sequence[Motion]],
    pieces: Sequence[Excerpt],
    evaluators: Mapping[str, Sequence[Evaluator]],
    params: Evaluate,
    *,
    kernel: int,
    seed: int,
    device: torch.device,
) -> SyncScores:
    """Synchrony of every system, ceiling and floors: by point set, level and system."""
    systems = sync.reference_systems(
        [piece.pair for piece in pieces], [piece.speaker_id for piece in pieces]
    )
    for name, motions in generated.items():
        systems[name] = [
            (motion, piece.audio_AM) for motion, piece in zip(motions, pieces, strict=True)
        ]
    return {
        points: {
            evaluator.level: sync.score_systems(
                systems,
                evaluator,
                kernel=kernel,
                rng=np.random.default_rng([seed, evaluator.level]),
                resamples=params.bootstrap,
                device=str(device),
            )
            for evaluator in judges
        }
        for points, judges in evaluators.items()
    }


def sync_metrics(
    scores: SyncScores, system: str, pieces: Sequence[Excerpt], *, seed: int, resamples: int
) -> dict[str, Any]:
    """One system's synchrony as JSON: score -> points -> level -> value, interval, references.

    Beside the interval over sequences stand those over clips and over speakers.
    """
    groups = {
        "by_clip": [piece.clip_id for piece in pieces],
        "by_speaker": [piece.speaker_id for piece in pieces],
    }
    metrics = dict[str, Any]()
    for score in sync.SCORES:
        for points, levels in scores.items():
            for level, systems in levels.items():
                own = systems[system]
                padded = sum(curve.padded for curve in own.curves)
                entry = asdict(own.scores[score]) | {"padded_sequences": padded}
                entry |= {
                    reference: systems[reference].scores[score].value
                    for reference in (sync.CEILING, *sync.FLOORS)
                }
                for name, group in groups.items():
                    found = bootstrap.clustered_mean(
                        own.per_clip(score),
                        group,
                        rng=np.random.default_rng([seed, level]),
                        resamples=resamples,
                    )
                    entry[name] = {"low": found.low, "high": found.high, "n": found.n}
                if score == "distance_at_0":
                    entry["curve"] = _curve(own)
                if score in sync.NORMALISED:
                    place = own.normalised[score]
                    entry |= {
                        "normalised": place.value,
                        "normalised_low": place.low,
                        "normalised_high": place.high,
                    }
                by_level = metrics.setdefault(score, {}).setdefault(points, {})
                by_level[f"level{level}"] = entry
    return metrics


def _curve(own: SystemSync) -> dict[str, list[float | None]]:
    """Mean distance over the shift between motion and sound."""
    return {
        "shift_s": [float(shift) for shift in own.curves[0].shifts_s],
        "distance": [float(each) if np.isfinite(each) else None for each in own.mean_curve],
    }


def score_dynamics(
    made: Sequence[Motion], pieces: Sequence[Excerpt], params: Evaluate, seed: int
) -> dict[str, Any]:
    """How a system moves beside how the people moved: measure -> value, interval, ground truth."""
    found = dict[str, Any]()
    real = [piece.motion_TPD for piece in pieces]

    def estimate(values: Sequence[float]) -> Estimate:
        rng = np.random.default_rng([seed, 97])
        return bootstrap.mean(values, rng=rng, resamples=params.bootstrap)

    for name, compare in dynamics.COMPARED.items():
        errors = [compare(motion, truth) for motion, truth in zip(made, real, strict=True)]
        found[name] = asdict(estimate(errors)) | {sync.CEILING: 0.0}
    for name, measure in dynamics.MEASURED.items():
        own, truth = ([measure(motion) for motion in given] for given in (made, real))
        found[name] = asdict(estimate(own)) | {sync.CEILING: estimate(truth).value}
    found["diversity"] = {
        "value": dynamics.diversity(made),
        sync.CEILING: dynamics.diversity(real),
    }
    return found


def score_frechet(
    motions: Mapping[str, Sequence[Motion]],
    pieces: Sequence[Excerpt],
    training: Sequence[Motion],
    judge: Evaluator,
    *,
    axes: int,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Fréchet distances of every system to the ground truth, N beside each: system -> distance."""
    real = [piece.motion_TPD for piece in pieces]
    features: dict[str, Callable[[Sequence[Motion]], NDArray[np.float64]]] = {
        "fd_frame": frechet.frame_features,
        "fd_time": frechet.time_features,
        "fd_motion": lambda given: frechet.motion_features(given, judge, device=str(device)),
    }
    found: dict[str, dict[str, Any]] = {system: {} for system in motions}
    for name, extract in features.items():
        basis, truth = frechet.principal_axes(extract(training), axes), extract(real)
        for system, made in motions.items():
            found[system][name] = asdict(frechet.frechet(truth, extract(made), basis=basis))
    return found


def sync_values(scores: SyncScores) -> dict[str, dict[str, list[float]]]:
    """Synchrony of each piece: `lse_d.all.level0` -> system -> values."""
    return {
        f"{score}.{points}.level{level}": {
            system: found.per_clip(score) for system, found in systems.items()
        }
        for score in sync.SCORES
        for points, levels in scores.items()
        for level, systems in levels.items()
    }


def rigidity_values(
    motions: Mapping[str, Sequence[Motion]], pieces: Sequence[Excerpt]
) -> dict[str, list[float]]:
    """How much points that speech does not move leave an affine motion of the first frame.

    Returns:
        System, the ground truth among them -> root mean square of each piece, in crop sides.
    """

    def each(given: Sequence[Motion]) -> list[float]:
        motion_BTPD = torch.from_numpy(np.stack(given))
        return [float(value) for value in rigidity(motion_BTPD, motion_BTPD[:, 0])]

    everything = {**motions, sync.CEILING: [piece.motion_TPD for piece in pieces]}
    return {system: each(given) for system, given in everything.items()}


def coupling_values(
    motions: Mapping[str, Sequence[Motion]], pieces: Sequence[Excerpt]
) -> dict[str, dict[str, list[float]]]:
    """Correlation of head speed, and of mouth opening, with loudness.

    Returns:
        Measure -> system, ceiling and one floor among them -> value of each piece.
    """
    measures = {
        "head_speed_loudness": coupling.speech_head_coupling,
        "mouth_opening_loudness": coupling.speech_mouth_coupling,
    }
    donors = sync.other_clips([piece.speaker_id for piece in pieces])
    real = [piece.motion_TPD for piece in pieces]
    everything = {sync.CEILING: real, **motions, sync.OTHER_AUDIO: real}
    sounds = {name: [piece.audio_AM for piece in pieces] for name in everything}
    sounds[sync.OTHER_AUDIO] = [pieces[donor].audio_AM for donor in donors]
    return {
        measure: {
            system: [couple(m, a) for m, a in zip(given, sounds[system], strict=True)]
            for system, given in everything.items()
        }
        for measure, couple in measures.items()
    }


def score_coupling(
    values: Mapping[str, Mapping[str, Sequence[float]]], params: Evaluate, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Means of `coupling_values` with their intervals: measure -> system."""
    return {
        measure: {
            system: bootstrap.mean(
                found,
                rng=np.random.default_rng([seed, 99]),  # the same resamples for every system
                resamples=params.bootstrap,
            )
            for system, found in systems.items()
        }
        for measure, systems in values.items()
    }
