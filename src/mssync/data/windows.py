"""Windows of one pyramid level, and groups of them that a syncer is trained and scored on.

Windows of a group never overlap: within a clip they start at least five samples apart.

Axes: S motion samples of all clips end to end, R = 4 S audio rows, C clips, G groups, N windows
of a group, 5 motion samples and 20 audio rows of a window, P = 68 points, D = 2, M mel bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mssync import pyramid
from mssync.data import augment
from mssync.data.clips import Clip

# `cross_clip`: a group is pooled over clips. `same_clip`: it comes from one clip, which is harder.
Pairs = Literal["cross_clip", "same_clip"]

MIN_GROUP = 4
SPACING = pyramid.MOTION_WINDOW


@dataclass(frozen=True)
class Batch:
    """Windows in groups, motion and audio aligned.

    Attributes:
        motion_GN5PD: (G, N, 5, 68, 2), in crop sides.
        audio_GN20M: (G, N, 20, M), log mel energies.
    """

    motion_GN5PD: NDArray[np.float32]
    audio_GN20M: NDArray[np.float32]


@dataclass(frozen=True)
class Tiling:
    """All non-overlapping windows of a set of clips, in groups.

    Attributes:
        groups: Start of each window, by group.
        dropped: Windows that filled no group.
    """

    groups: list[NDArray[np.int64]]
    dropped: int


class Windows:
    """Every window of one level of some clips.

    Args:
        clips: At least one.
        level: Level of the pyramid.
        kernel: Odd width of the pyramid's box mean, in samples.
        valid_only: Leave out windows that touch padding.

    Attributes:
        count: Windows in all, overlapping ones too.
        too_short: Clips that have not one window at this level.
        windows_C: Windows of each other clip.
        slots_C: Windows that a group can take from each of them, whatever the phase.

    Raises:
        ValueError: If there is no clip.
    """

    def __init__(self, clips: Sequence[Clip], *, level: int, kernel: int, valid_only: bool) -> None:
        if not clips:
            raise ValueError("windows of no clip do not exist")
        usable = [clip for clip in clips if _reaches(clip.frames, level, kernel)]
        allowed = [_allowed(clip.frames, level, kernel, valid_only=valid_only) for clip in usable]
        kept = [(clip, span) for clip, span in zip(usable, allowed, strict=True) if span]
        self.level = level
        self.too_short = len(clips) - len(kept)
        self.windows_C = np.array([len(span) for _, span in kept], dtype=np.int64)
        self.slots_C = np.maximum(self.windows_C // SPACING, 1)
        self.count = int(self.windows_C.sum())
        if not kept:
            return
        streams = [_streams(clip, level, kernel) for clip, _ in kept]
        self._motion_SPD = np.concatenate([motion for motion, _ in streams])
        self._audio_RM = np.concatenate([audio for _, audio in streams])
        self._low_CD = np.stack([motion.min(axis=(0, 1)) for motion, _ in streams])
        self._high_CD = np.stack([motion.max(axis=(0, 1)) for motion, _ in streams])
        before = np.cumsum([0, *(len(motion) for motion, _ in streams[:-1])])
        # First allowed window of each clip, counted from the first sample of all.
        self._first_C = before + np.array([span.start for _, span in kept])

    def group_size(self, pairs: Pairs, largest: int) -> int:
        """Size of the largest group that exists, at most `largest`.

        Below `MIN_GROUP` this level cannot be trained with this kind of pairs.
        """
        if not self.count:
            return 0
        slots = self.slots_C.sum() if pairs == "cross_clip" else self.slots_C.max()
        return min(largest, int(slots))

    def sample(
        self,
        pairs: Pairs,
        *,
        groups: int,
        largest: int,
        rng: np.random.Generator,
        audio_range: float | None = None,
    ) -> Batch:
        """Draw groups of one size.

        `cross_clip` groups have `group_size` windows. `same_clip` groups have as many as the clip
        of the first one gives, at most `largest`; the others come from clips that give as many.

        Args:
            pairs: Kind of group.
            groups: Number of groups.
            largest: Most windows in a group.
            rng: Source of every draw.
            audio_range: Augment, with this range of the log energies; one draw for each clip of
                each group. None: do not augment.

        Raises:
            ValueError: If no group of `MIN_GROUP` windows exists.
        """
        size = self.group_size(pairs, largest)
        if size < MIN_GROUP:
            raise ValueError(
                f"level {self.level} has no {pairs} group of {MIN_GROUP} windows, only {size}"
            )
        draw = self._draw_cross_clip if pairs == "cross_clip" else self._draw_same_clip
        clip_GN, slot_GN = draw(groups, size, rng)
        # Starts of a clip form a circle; slots are spaced on it from a random phase. So every
        # window is as likely as any other, and no two overlap.
        phase_GC = rng.integers(0, self.windows_C, (groups, len(self.windows_C)))
        phase_GN = np.take_along_axis(phase_GC, clip_GN, axis=1)
        start_GN = self._first_C[clip_GN] + (phase_GN + SPACING * slot_GN) % self.windows_C[clip_GN]
        batch = self.gather(start_GN)
        return batch if audio_range is None else self._augment(batch, clip_GN, audio_range, rng)

    def gather(self, start_GN: NDArray[np.int64]) -> Batch:
        """The windows that start at these samples: (G, N) -> a batch of (G, N)."""
        samples_GN5 = start_GN[..., None] + np.arange(pyramid.MOTION_WINDOW)
        first_row_GN = start_GN[..., None] * pyramid.ROWS_PER_SAMPLE
        rows_GN20 = first_row_GN + np.arange(pyramid.AUDIO_WINDOW)
        return Batch(self._motion_SPD[samples_GN5], self._audio_RM[rows_GN20])

    def tile(self, pairs: Pairs, largest: int, rng: np.random.Generator) -> Tiling:
        """Group all non-overlapping windows, for scoring.

        Args:
            pairs: Kind of group; `cross_clip` windows are pooled in random order.
            largest: Size of a group where there are as many windows, of all clips or of the clip.
            rng: Source of the order.
        """
        if not self.count:
            return Tiling([], 0)
        by_clip = [
            first + np.arange(0, windows, SPACING)
            for first, windows in zip(self._first_C, self.windows_C, strict=True)
        ]
        pools = [rng.permutation(np.concatenate(by_clip))] if pairs == "cross_clip" else by_clip
        groups: list[NDArray[np.int64]] = []
        for pool in pools:
            size = min(largest, len(pool))
            if size >= MIN_GROUP:
                groups.extend(pool[start : start + size] for start in _starts(len(pool), size))
        total = sum(len(starts) for starts in by_clip)
        return Tiling(groups, total - sum(len(group) for group in groups))

    def _draw_cross_clip(
        self, groups: int, size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and slot of each window, both (G, N)."""
        end_C = np.cumsum(self.slots_C)
        chosen_GN = np.stack([rng.choice(end_C[-1], size, replace=False) for _ in range(groups)])
        clip_GN = np.searchsorted(end_C, chosen_GN, side="right")
        return clip_GN, chosen_GN - (end_C - self.slots_C)[clip_GN]

    def _draw_same_clip(
        self, groups: int, size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and slot of each window, both (G, N); N is the first clip's, at most `size`."""
        first = rng.choice(np.flatnonzero(self.slots_C >= MIN_GROUP))
        size = min(size, int(self.slots_C[first]))
        others = rng.choice(np.flatnonzero(self.slots_C >= size), groups - 1)
        clip_G = np.array([first, *others])
        slot_GN = np.stack([rng.choice(self.slots_C[clip], size, replace=False) for clip in clip_G])
        return np.broadcast_to(clip_G[:, None], slot_GN.shape), slot_GN

    def _augment(
        self,
        batch: Batch,
        clip_GN: NDArray[np.int64],
        audio_range: float,
        rng: np.random.Generator,
    ) -> Batch:
        # The pyramid is linear, so that augmenting windows of a level equals augmenting the clip.
        group_GN = np.arange(len(clip_GN))[:, None] * len(self.windows_C) + clip_GN
        sample, index = np.unique(group_GN, return_inverse=True)
        clip = sample % len(self.windows_C)
        drawn = augment.draw(
            self._low_CD[clip], self._high_CD[clip], audio_range=audio_range, rng=rng
        )
        motion_GN5PD, audio_GN20M = batch.motion_GN5PD, batch.audio_GN20M
        motion, audio = drawn.take(index.reshape(-1)).apply(
            motion_GN5PD.reshape(-1, *motion_GN5PD.shape[2:]),
            audio_GN20M.reshape(-1, *audio_GN20M.shape[2:]),
        )
        return Batch(motion.reshape(motion_GN5PD.shape), audio.reshape(audio_GN20M.shape))


def _reaches(frames: int, level: int, kernel: int) -> bool:
    """Whether every `down` on the way to the level has samples enough to reflect."""
    return level == 0 or pyramid.length(frames, level - 1) > kernel // 2


def _allowed(frames: int, level: int, kernel: int, *, valid_only: bool) -> range:
    if valid_only:
        return pyramid.valid_windows(frames, level, kernel=kernel)
    return range(pyramid.window_count(pyramid.length(frames, level)))


def _streams(
    clip: Clip, level: int, kernel: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Motion and audio of a level, audio reflected at the end to four rows a sample."""
    motion_TPD = pyramid.array_at_level(clip.motion_TPD, level, kernel=kernel)
    audio_AM = pyramid.array_at_level(clip.audio_AM, level, kernel=kernel)
    missing = pyramid.ROWS_PER_SAMPLE * len(motion_TPD) - len(audio_AM)
    return motion_TPD, np.pad(audio_AM, ((0, missing), (0, 0)), mode="reflect")


def _starts(total: int, size: int) -> range:
    """Starts of whole groups."""
    return range(0, total - size + 1, size)
