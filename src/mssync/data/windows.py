"""Windows of one pyramid level, and groups of them that a syncer is trained and scored on.

Windows of a group never overlap: within a clip they start at least five samples apart.

Axes: C clips, G groups, N windows of a group, 5 motion samples and 20 audio rows of a window,
P = 68 points, D = 2, M mel bands.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync import pyramid
from mssync.data.augment import Augmentation, augmentation, uniforms
from mssync.data.pack import ALL, Pack

# `cross_clip`: a group is pooled over clips. `same_clip`: it comes from one clip, which is harder.
Pairs = Literal["cross_clip", "same_clip"]

MIN_GROUP = 4
SPACING = pyramid.MOTION_WINDOW


@dataclass(frozen=True)
class Batch:
    """Windows in groups, motion and audio aligned.

    Attributes:
        motion_GN5PD: (G, N, 5, 68, 2), in crop sides; positions, or less the clip's mean face.
        audio_GN20M: (G, N, 20, M), log mel energies.
    """

    motion_GN5PD: Tensor
    audio_GN20M: Tensor


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
        pack: The clips.
        level: Level of the pyramid.
        kernel: Odd width of the pyramid's box mean, in samples.
        valid_only: Leave out windows that touch padding.
        device: Where batches are wanted.
        from_mean: Motion is wanted less the mean face of its clip.

    Attributes:
        count: Windows in all, overlapping ones too.
        too_short: Clips that have not one window at this level.
        windows_C: Windows of each other clip.
        slots_C: Windows that a group can take from each of them, whatever the phase.

    Raises:
        ValueError: If there is no clip.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        level: int,
        kernel: int,
        valid_only: bool,
        device: torch.device,
        from_mean: bool = False,
    ) -> None:
        if not len(pack):
            raise ValueError("windows of no clip do not exist")
        self._level = pack.level(level, kernel=kernel, device=device)
        skipped_C, windows_C = _allowed(
            pack.frames_C, self._level.samples_C, level, kernel, valid_only=valid_only
        )
        kept = np.flatnonzero(windows_C)
        self.level = level
        self.too_short = len(pack) - len(kept)
        self.windows_C = windows_C[kept]
        self.slots_C = np.maximum(self.windows_C // SPACING, 1)
        self.count = int(self.windows_C.sum())
        # First allowed window of each clip, counted from the first sample of all.
        self._first_C = (self._level.first_C + skipped_C)[kept]
        self._end_C = np.cumsum(self.slots_C)
        self._by_slots = np.argsort(self.slots_C, kind="stable")
        self._slots = self.slots_C[self._by_slots]
        self._low_CD = torch.from_numpy(pack.low_CD[kept]).to(device)
        self._high_CD = torch.from_numpy(pack.high_CD[kept]).to(device)
        self._mean_CPD = torch.from_numpy(pack.mean_faces[kept]).to(device) if from_mean else None

    def group_size(self, pairs: Pairs, largest: int) -> int:
        """Size of the largest group that exists, at most `largest`.

        Below `MIN_GROUP` this level cannot be trained with this kind of pairs.
        """
        if not self.count:
            return 0
        slots = self.slots_C.sum() if pairs == "cross_clip" else self.slots_C.max()
        return min(largest, int(slots))

    def draw(
        self,
        pairs: Pairs,
        step: int,
        *,
        seed: int,
        groups: int,
        largest: int,
        audio_range: float | None = None,
        share: slice = ALL,
    ) -> Batch:
        """The groups of one training step, all of one size.

        `cross_clip` groups have `group_size` windows. `same_clip` groups have as many as the clip
        of the first one gives, at most `largest`; the others come from clips that give as many.

        Args:
            pairs: Kind of group.
            step: Number of the step; the draw depends on `seed` and `step` only.
            seed: Seed of the network.
            groups: Number of groups.
            largest: Most windows in a group.
            audio_range: Augment, with this range of the log energies; one draw for each clip of
                each group. None: do not augment.
            share: Which of the groups are wanted, of several processes that share them.

        Raises:
            ValueError: If no group of `MIN_GROUP` windows exists.
        """
        size = self.group_size(pairs, largest)
        if size < MIN_GROUP:
            raise ValueError(
                f"level {self.level} has no {pairs} group of {MIN_GROUP} windows, only {size}"
            )
        rng = np.random.default_rng(np.random.SeedSequence([seed, step]))
        choose = self._draw_cross_clip if pairs == "cross_clip" else self._draw_same_clip
        clip_GN, slot_GN = choose(groups, size, rng)
        # What holds for a clip of a group is drawn for each window: that of its first one counts.
        first_GN = (clip_GN[:, :, None] == clip_GN[:, None, :]).argmax(axis=2)
        # Starts of a clip form a circle; slots are spaced on it from a random phase. So every
        # window is as likely as any other, and no two overlap.
        windows_GN = self.windows_C[clip_GN]
        phase_GN = np.take_along_axis(rng.integers(0, windows_GN), first_GN, axis=1)
        start_GN = self._first_C[clip_GN] + (phase_GN + SPACING * slot_GN) % windows_GN
        if audio_range is None:
            return self.gather(start_GN[share])
        uniform_GN5 = uniforms(rng, *clip_GN.shape)
        uniform_GN5 = np.take_along_axis(uniform_GN5, first_GN[..., None], axis=1)
        drawn = self._augmentation(clip_GN[share], uniform_GN5[share], audio_range)
        return self.gather(start_GN[share], drawn)

    def gather(self, start_GN: NDArray[np.int64], drawn: Augmentation | None = None) -> Batch:
        """The windows that start at these samples: (G, N) -> a batch of (G, N).

        Args:
            start_GN: First sample of each, of all clips.
            drawn: What happens to each of the G N windows.
        """
        # The pyramid is linear, so that augmenting windows of a level equals augmenting the clip.
        start_N, groups = start_GN.reshape(-1), start_GN.shape
        motion, audio = self._level.take(start_N, pyramid.MOTION_WINDOW)
        if drawn:
            motion, audio = drawn.apply(motion, audio)
        if self._mean_CPD is not None:
            clip_N = np.searchsorted(self._first_C, start_N, side="right") - 1
            clip = torch.from_numpy(clip_N).to(self._mean_CPD.device)
            mean_N1PD = self._mean_CPD[clip][:, None]
            motion = motion - (drawn.move(mean_N1PD) if drawn else mean_N1PD)
        return Batch(motion.view(*groups, *motion.shape[1:]), audio.view(*groups, *audio.shape[1:]))

    def sample(self, largest: int) -> Batch:
        """Windows spread evenly over all there are, at most so many, as one group."""
        chosen_N = np.linspace(0, self.count - 1, min(largest, self.count)).round().astype(np.int64)
        end_C = np.cumsum(self.windows_C)
        clip_N = np.searchsorted(end_C, chosen_N, side="right")
        within_N = chosen_N - (end_C - self.windows_C)[clip_N]
        return self.gather((self._first_C[clip_N] + within_N)[None])

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
        pool = int(self._end_C[-1])
        chosen_GN = np.stack([rng.choice(pool, size, replace=False) for _ in range(groups)])
        clip_GN = np.searchsorted(self._end_C, chosen_GN, side="right")
        return clip_GN, chosen_GN - (self._end_C - self.slots_C)[clip_GN]

    def _draw_same_clip(
        self, groups: int, size: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and slot of each window, both (G, N); N is the first clip's, at most `size`."""
        first = rng.choice(self._with_slots(MIN_GROUP))
        size = min(size, int(self.slots_C[first]))
        others = rng.choice(self._with_slots(size), groups - 1)
        clip_G = np.array([first, *others])
        slot_GN = np.stack([rng.choice(self.slots_C[clip], size, replace=False) for clip in clip_G])
        return np.repeat(clip_G[:, None], size, axis=1), slot_GN

    def _with_slots(self, least: int) -> NDArray[np.int64]:
        """Clips with so many slots or more."""
        return self._by_slots[np.searchsorted(self._slots, least) :]

    def _augmentation(
        self, clip_GN: NDArray[np.int64], uniform_GN5: NDArray[np.float32], audio_range: float
    ) -> Augmentation:
        device = self._low_CD.device
        clip = torch.from_numpy(clip_GN.reshape(-1)).to(device)
        return augmentation(
            torch.from_numpy(uniform_GN5).to(device).flatten(0, 1),
            self._low_CD[clip],
            self._high_CD[clip],
            audio_range=audio_range,
        )


def _allowed(
    frames_C: NDArray[np.int64],
    samples_C: NDArray[np.int64],
    level: int,
    kernel: int,
    *,
    valid_only: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First allowed window of each clip, and how many there are."""
    if not valid_only:
        windows_C = np.maximum(samples_C - pyramid.MOTION_WINDOW + 1, 0)
        return np.zeros_like(windows_C), windows_C
    lengths, which_C = np.unique(frames_C, return_inverse=True)
    spans = [pyramid.valid_windows(int(frames), level, kernel=kernel) for frames in lengths]
    first_C = np.array([span.start for span in spans])[which_C]
    windows_C = np.array([len(span) for span in spans])[which_C]
    return first_C, np.where(samples_C > 0, windows_C, 0)


def _starts(total: int, size: int) -> range:
    """Starts of whole groups."""
    return range(0, total - size + 1, size)
