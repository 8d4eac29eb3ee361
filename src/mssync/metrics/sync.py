"""LSE-D, LSE-C and offset at every level of the pyramid (docs/ms-sync.md, section 7).

SyncNet's definitions on this project's evaluators: the Euclidean distance of motion window i to
audio window i + s is averaged over the windows of a clip, which gives one curve over the shift s.
LSE-D is its minimum, LSE-C its median minus its minimum, the offset the shift of the minimum.

Sign: a positive offset means that the sound comes later than the motion it belongs to.

Axes: N windows, T frames, A = 4 T audio rows, P = 68 points, D = 2, M mel bands, W windows of one
clip, E embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync.metrics import bootstrap
from mssync.metrics.bootstrap import Estimate
from mssync.pyramid import (
    array_at_level,
    audio_windows,
    length,
    motion_windows,
    valid_windows,
    window_count,
)
from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

# How far the offset is searched at levels 0..3: 0.6, 0.56, 0.48 and 0.32 s either way.
SEARCH_SAMPLES = (15, 7, 3, 1)

# Names of the reference systems.
CEILING = "ground_truth"
OTHER_AUDIO = "other_audio"
SHIFTED_AUDIO = "shifted_audio"
STATIC = "static"
FLOORS = (OTHER_AUDIO, SHIFTED_AUDIO, STATIC)

SCORES = ("lse_d", "lse_c", "distance_at_0", "offset_s", "abs_offset_s")
NORMALISED = ("lse_d", "lse_c", "distance_at_0")

_BATCH_WINDOWS = 2048  # bounds memory: the activations of one call of an evaluator

Motion = NDArray[np.float32]
Audio = NDArray[np.float32]
Pair = tuple[Motion, Audio]


class Evaluator(Protocol):
    """A trained judge of one level: two towers into one space, not normalised."""

    @property
    def level(self) -> int:
        """Level of the pyramid, 0..3."""

    @property
    def from_mean(self) -> bool:
        """Whether motion is wanted less the clip's mean face."""

    def embed_motion(self, motion_N5PD: Tensor) -> Tensor:
        """(N, 5, 68, 2) -> (N, E)."""

    def embed_audio(self, audio_N20M: Tensor) -> Tensor:
        """(N, 20, 26) -> (N, E)."""


@dataclass(frozen=True)
class SyncCurve:
    """Mean distance of one clip's motion to its audio, over the shift between them.

    Attributes:
        level: Level of the pyramid.
        shifts: Audio window minus motion window, in samples of the level, ascending.
        distances: Mean distance at each shift; nan where the clip has no such pair.
        pairs: Pairs of windows each mean is over.
        padded: The clip is too short for a window without padding, so padded ones were taken.
    """

    level: int
    shifts: NDArray[np.int64]
    distances: NDArray[np.float64]
    pairs: NDArray[np.int64]
    padded: bool

    @property
    def shifts_s(self) -> NDArray[np.float64]:
        """The shifts in seconds."""
        seconds: NDArray[np.float64] = self.shifts * (2**self.level / FRAME_RATE_HZ)
        return seconds

    @property
    def lse_d(self) -> float:
        """Least distance; lower is better."""
        return float(np.nanmin(self.distances))

    @property
    def lse_c(self) -> float:
        """Confidence: median minus least distance; higher is better."""
        return float(np.nanmedian(self.distances)) - self.lse_d

    @property
    def distance_at_0(self) -> float:
        """Distance as delivered, without search; lower is better."""
        return float(self.distances[self.shifts == 0][0])

    @property
    def offset_samples(self) -> int:
        """Shift of the least distance; positive: the sound is late."""
        return int(self.shifts[np.nanargmin(self.distances)])

    @property
    def offset_s(self) -> float:
        """`offset_samples` in seconds."""
        return float(self.offset_samples * 2**self.level / FRAME_RATE_HZ)

    @property
    def abs_offset_s(self) -> float:
        """Size of the offset in seconds; lower is better."""
        return abs(self.offset_s)


@dataclass(frozen=True)
class SystemSync:
    """One system's scores at one level.

    Attributes:
        curves: One a clip, in the order given.
        mean_curve: Mean over clips of the distances, at the shifts of any curve.
        scores: Mean over clips of each of `SCORES`.
        normalised: Each of `NORMALISED` between the floor of another clip's audio (0) and the
            ground truth (1); `value` None where the two cannot be told apart.
    """

    curves: tuple[SyncCurve, ...]
    mean_curve: NDArray[np.float64]
    scores: dict[str, Estimate]
    normalised: dict[str, Estimate]

    def per_clip(self, score: str) -> list[float]:
        """One of `SCORES`, clip by clip."""
        return _per_clip(self.curves, score)


def distance_curves(
    pairs: Sequence[Pair], evaluator: Evaluator, *, kernel: int, device: str = "cpu"
) -> list[SyncCurve]:
    """Distance over shift of each clip, at the evaluator's level.

    Windows that several clips share are embedded once. Only windows that touch no padding of the
    pyramid are taken, unless a clip is too short to have one (then all, and `padded` says so).
    Only pairs of windows that exist are averaged: nothing is padded with zeros.

    Args:
        pairs: One (motion, audio) a clip: landmarks at 25 Hz, float32 (T, 68, 2), and log mel
            energies, float32 (4 T, 26).
        evaluator: The judge.
        kernel: Width of the pyramid's box mean.
        device: Where the evaluator lives.

    Raises:
        ValueError: If an audio has not four rows a frame, or a clip has no whole window.
    """
    return [
        _curve(distance_WW, evaluator.level, padded=padded)
        for distance_WW, padded in _all_distances(pairs, evaluator, kernel=kernel, device=device)
    ]


def window_distances(
    pairs: Sequence[Pair], evaluator: Evaluator, *, kernel: int, device: str = "cpu"
) -> list[NDArray[np.float64]]:
    """Distance of every motion window to the audio window of every shift: (W, S) each.

    Columns are the shifts of `SEARCH_SAMPLES` at the evaluator's level, ascending, nan where the
    audio has no such window. Windows that touch padding are left out as in `distance_curves`, and
    arguments and errors are the same.
    """
    search = SEARCH_SAMPLES[evaluator.level]
    rows = []
    for distance_WW, _ in _all_distances(pairs, evaluator, kernel=kernel, device=device):
        windows = len(distance_WW)
        audio_WS = np.arange(windows)[:, None] + np.arange(-search, search + 1)
        exists_WS = (audio_WS >= 0) & (audio_WS < windows)
        taken_WS = distance_WW[np.arange(windows)[:, None], audio_WS.clip(0, windows - 1)]
        rows.append(np.where(exists_WS, taken_WS, np.nan))
    return rows


def score_systems(
    systems: Mapping[str, Sequence[Pair]],
    evaluator: Evaluator,
    *,
    kernel: int,
    rng: np.random.Generator,
    resamples: int,
    device: str = "cpu",
) -> dict[str, SystemSync]:
    """Score systems, ceiling and floors at the evaluator's level.

    Args:
        systems: Name -> one (motion (T, 68, 2), audio (4 T, 26)) a clip, the same clips in the
            same order in every system. `CEILING` and `OTHER_AUDIO` must be among them: take
            `reference_systems` and add the generated motions.
        evaluator: The judge of one level and one set of points.
        kernel: Width of the pyramid's box mean.
        rng: Draws the resamples, the same ones for every system.
        resamples: Bootstrap resamples of sequences.
        device: Where the evaluator lives.

    Returns:
        Name -> scores, in the order given.

    Raises:
        ValueError: If a reference is missing, or systems differ in their number of clips.
    """
    _check_systems(systems)
    flat = [pair for pairs in systems.values() for pair in pairs]
    remaining = iter(distance_curves(flat, evaluator, kernel=kernel, device=device))
    curves = {name: tuple(next(remaining) for _ in pairs) for name, pairs in systems.items()}
    # the same resamples for all: else chance may take ceiling and floor apart for one system only
    seed = int(rng.integers(2**63))
    return {
        name: _summary(own, curves, np.random.default_rng(seed), resamples)
        for name, own in curves.items()
    }


def reference_systems(pairs: Sequence[Pair], speakers: Sequence[str]) -> dict[str, list[Pair]]:
    """The ceiling and the three floors of these real clips, for `score_systems`.

    * `CEILING`: the clips as they are.
    * `OTHER_AUDIO`: each motion with another clip's audio, another speaker's where there is one.
    * `SHIFTED_AUDIO`: the sound 1 s late, outside every search range; the clip is 1 s shorter.
    * `STATIC`: the first frame, held, with the clip's own audio.

    Args:
        pairs: Real (motion (T, 68, 2), audio (4 T, 26)), all of one length over 1 s.
        speakers: Who speaks in each.

    Raises:
        ValueError: If there are fewer than two clips, or their lengths differ.
    """
    if len({len(motion) for motion, _ in pairs}) != 1:
        raise ValueError("reference systems need clips of one length: audio is swapped among them")
    donors = other_clips(speakers)
    late_frames, late_rows = FRAME_RATE_HZ, FRAME_RATE_HZ * ROWS_PER_FRAME
    return {
        CEILING: list(pairs),
        OTHER_AUDIO: [
            (motion, pairs[donor][1]) for (motion, _), donor in zip(pairs, donors, strict=True)
        ],
        SHIFTED_AUDIO: [(motion[late_frames:], audio[:-late_rows]) for motion, audio in pairs],
        STATIC: [(np.repeat(motion[:1], len(motion), axis=0), audio) for motion, audio in pairs],
    }


def other_clips(speakers: Sequence[str]) -> list[int]:
    """For each clip the index of another one, each used once, of another speaker if possible.

    Clips sorted by speaker are rotated by the largest speaker's share, which leaves nobody with a
    clip of their own speaker unless one speaker has more than half of all.

    Raises:
        ValueError: If there are fewer than two clips.
    """
    clips = len(speakers)
    if clips < 2:
        raise ValueError(f"another clip's audio takes two clips or more, found {clips}")
    order = sorted(range(clips), key=lambda clip: speakers[clip])
    largest = max(list(speakers).count(speaker) for speaker in speakers)
    step = largest if largest < clips else 1
    donors = dict(zip(order, order[step:] + order[:step], strict=True))
    return [donors[clip] for clip in range(clips)]


def seen(motion_TPD: Motion, evaluator: Evaluator) -> Motion:
    """Motion (T, 68, 2) as an evaluator wants it: as it is, or less its own mean face."""
    return motion_TPD - motion_TPD.mean(axis=0) if evaluator.from_mean else motion_TPD


def embed_motion(motion_N5PD: Tensor, evaluator: Evaluator, *, device: str = "cpu") -> Tensor:
    """Embeddings (N, E) on the CPU of any number of motion windows (N, 5, 68, 2)."""
    return _embed(evaluator.embed_motion, motion_N5PD, device)


def embed_audio(audio_N20M: Tensor, evaluator: Evaluator, *, device: str = "cpu") -> Tensor:
    """Embeddings (N, E) on the CPU of any number of audio windows (N, 20, 26)."""
    return _embed(evaluator.embed_audio, audio_N20M, device)


def check_rows(motion_TPD: Motion, audio_AM: Audio) -> None:
    """Refuse a pair that is not on one clock.

    Raises:
        ValueError: If the audio has not four rows a frame.
    """
    frames, rows = len(motion_TPD), len(audio_AM)
    if rows != ROWS_PER_FRAME * frames:
        raise ValueError(f"{frames} frames need {ROWS_PER_FRAME * frames} audio rows, found {rows}")


def _embed(tower: Callable[[Tensor], Tensor], windows: Tensor, device: str) -> Tensor:
    with torch.inference_mode():
        return torch.cat(
            [
                tower(batch.to(device)).float().cpu()
                for batch in torch.split(windows, _BATCH_WINDOWS)
            ]
        )


def _embed_each(clips: Sequence[Tensor], embed: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Embeddings (W, E) of each clip's windows (W, ...), equal windows being embedded once.

    Systems share most of their windows: all of the audio, and the motion of three of the four
    reference systems.
    """
    windows = torch.cat(list(clips))
    numbers: dict[bytes, int] = {}
    index = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in windows.numpy()])
    _, first = np.unique(index, return_index=True)
    embedded = embed(windows[torch.from_numpy(first)])[torch.from_numpy(index)]
    return list(torch.split(embedded, [len(clip) for clip in clips]))


def windows_of_motion(motion_TPD: Motion, evaluator: Evaluator, *, kernel: int) -> Tensor:
    """All windows at an evaluator's level, as it wants them: (T, 68, 2) -> (W, 5, 68, 2)."""
    seen_TPD = seen(motion_TPD, evaluator)
    at_level_TPD = array_at_level(seen_TPD, evaluator.level, kernel=kernel)
    flat_BTC = torch.from_numpy(at_level_TPD).reshape(1, len(at_level_TPD), -1)
    windows_WFC = motion_windows(flat_BTC)[0]
    return windows_WFC.reshape(*windows_WFC.shape[:2], *motion_TPD.shape[1:])


def windows_of_audio(audio_AM: Audio, level: int, *, kernel: int) -> Tensor:
    """The audio of the same windows: (4 T, 26) -> (W, 20, 26)."""
    at_level_AM = array_at_level(audio_AM, level, kernel=kernel)
    windows = window_count(length(len(audio_AM) // ROWS_PER_FRAME, level))
    return audio_windows(torch.from_numpy(at_level_AM)[None], windows=windows)[0]


def _all_distances(
    pairs: Sequence[Pair], evaluator: Evaluator, *, kernel: int, device: str
) -> Iterator[tuple[NDArray[np.float64], bool]]:
    """Distance of every motion window of a clip to every audio window; are the windows padded?"""
    level = evaluator.level
    for motion_TPD, audio_AM in pairs:
        _check(motion_TPD, audio_AM, level)
    motions = _embed_each(
        [windows_of_motion(motion_TPD, evaluator, kernel=kernel) for motion_TPD, _ in pairs],
        lambda windows: embed_motion(windows, evaluator, device=device),
    )
    audios = _embed_each(
        [windows_of_audio(audio_AM, level, kernel=kernel) for _, audio_AM in pairs],
        lambda windows: embed_audio(windows, evaluator, device=device),
    )
    for motion_WE, audio_WE, (motion_TPD, _) in zip(motions, audios, pairs, strict=True):
        valid = valid_windows(len(motion_TPD), level, kernel=kernel)
        taken = slice(valid.start, valid.stop) if valid else slice(None)
        distance_WW = torch.cdist(
            motion_WE[taken].double(),
            audio_WE[taken].double(),
            compute_mode="donot_use_mm_for_euclid_dist",
        ).numpy()
        yield distance_WW, not valid


def _curve(distance_WW: NDArray[np.float64], level: int, *, padded: bool) -> SyncCurve:
    search = SEARCH_SAMPLES[level]
    shifts = np.arange(-search, search + 1)
    diagonals = [np.diagonal(distance_WW, offset=shift) for shift in shifts]
    return SyncCurve(
        level=level,
        shifts=shifts,
        distances=np.array([row.mean() if len(row) else np.nan for row in diagonals]),
        pairs=np.array([len(row) for row in diagonals]),
        padded=padded,
    )


def _summary(
    own: Sequence[SyncCurve],
    curves: Mapping[str, Sequence[SyncCurve]],
    rng: np.random.Generator,
    resamples: int,
) -> SystemSync:
    return SystemSync(
        curves=tuple(own),
        mean_curve=_mean_curve(own),
        scores={
            score: bootstrap.mean(_per_clip(own, score), rng=rng, resamples=resamples)
            for score in SCORES
        },
        normalised={
            score: bootstrap.normalised(
                _per_clip(own, score),
                ceiling_N=_per_clip(curves[CEILING], score),
                floor_N=_per_clip(curves[OTHER_AUDIO], score),
                rng=rng,
                resamples=resamples,
            )
            for score in NORMALISED
        },
    )


def _per_clip(curves: Sequence[SyncCurve], score: str) -> list[float]:
    return [float(getattr(curve, score)) for curve in curves]


def _mean_curve(curves: Sequence[SyncCurve]) -> NDArray[np.float64]:
    """Mean over the clips that have the shift; nan where none has."""
    distances = np.array([curve.distances for curve in curves])
    present = np.isfinite(distances)
    total = np.where(present, distances, 0).sum(axis=0)
    count = present.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _check(motion_TPD: Motion, audio_AM: Audio, level: int) -> None:
    check_rows(motion_TPD, audio_AM)
    frames = len(motion_TPD)
    if not 0 <= level < len(SEARCH_SAMPLES):
        raise ValueError(f"levels are 0..{len(SEARCH_SAMPLES) - 1}, found {level}")
    if window_count(length(frames, level)) == 0:
        raise ValueError(f"{frames} frames have no whole window at level {level}")


def _check_systems(systems: Mapping[str, Sequence[Pair]]) -> None:
    missing = {CEILING, OTHER_AUDIO} - set(systems)
    if missing:
        raise ValueError(f"normalised scores need {sorted(missing)} among the systems")
    counts = {name: len(pairs) for name, pairs in systems.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"every system needs the same clips, found {counts}")
