"""Crops of clips: random ones for training the generator, centred ones for validating it.

Axes: B sequences of a batch, T frames (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2,
M mel bands, N clips.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync.data.augment import augmentation, uniforms
from mssync.data.pack import ALL, Pack
from mssync.errors import StageFailedError
from mssync.timing import ROWS_PER_FRAME

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Real motion and its audio, with real context before and after.

    Attributes:
        motion_BTPD: (B, T, 68, 2), T = context + crop + context, in crop units.
        audio_BAM: (B, 4 T, M), log mel energies.
        context_frames: Frames of context on each side.
    """

    motion_BTPD: Tensor
    audio_BAM: Tensor
    context_frames: int

    @property
    def inner(self) -> tuple[Tensor, Tensor]:
        """Motion and audio without the context."""
        start, end = self.context_frames, self.motion_BTPD.shape[1] - self.context_frames
        rows = slice(start * ROWS_PER_FRAME, end * ROWS_PER_FRAME)
        return self.motion_BTPD[:, start:end], self.audio_BAM[:, rows]


class Sequences:
    """All crops of one length in some clips, with as much context as they allow.

    Clips shorter than crop and context are left out; when that leaves none, the context shrinks
    to what every clip that holds a crop has around its centre.

    Args:
        pack: Where crops come from.
        frames: Length of a crop.
        context_frames: Real frames wanted on each side of it.
        device: Where batches are wanted.

    Attributes:
        context_frames: Real frames there are on each side.
        too_short: Number of clips left out.

    Raises:
        StageFailedError: If no clip is as long as a crop.
    """

    def __init__(
        self, pack: Pack, *, frames: int, context_frames: int, device: torch.device
    ) -> None:
        usable = np.flatnonzero(pack.frames_C >= frames + 2 * context_frames)
        if not len(usable):
            usable = np.flatnonzero(pack.frames_C >= frames)
            if not len(usable):
                longest = max(pack.frames_C, default=0)
                raise StageFailedError(
                    f"no clip has the {frames} frames of a sequence; the longest of {len(pack)} "
                    f"has {longest}. Add longer clips or lower train_generator.predicted_frames"
                )
            least = int(pack.frames_C[usable].min() - frames) // 2
            logger.warning(
                "no clip holds %d frames and %d of context on each side: context is %d",
                *(frames, context_frames, least),
            )
            context_frames = least
        self.context_frames = context_frames
        self.too_short = len(pack) - len(usable)
        if self.too_short:
            logger.info("%d of %d clips are too short for a crop", self.too_short, len(pack))
        self._level = pack.level(0, kernel=1, device=device)
        self._frames = frames + 2 * context_frames
        self._first_N = self._level.first_C[usable]
        self._starts_N = pack.frames_C[usable] - self._frames + 1
        self._end_N = np.cumsum(self._starts_N)

    def draw(
        self,
        step: int,
        *,
        batch: int,
        seed: int,
        audio_range: float | None,
        share: slice = ALL,
    ) -> Batch:
        """The random crops of one training step; every crop of every clip is equally likely.

        Args:
            step: Number of the step; the draw depends on `seed` and `step` only.
            batch: Number of crops.
            seed: Seed of the training run.
            audio_range: Augment, with this range of the log energies. None: do not augment.
            share: Which of the crops are wanted, of several processes that share them.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, step]))
        chosen_B = rng.integers(0, self._end_N[-1], batch)[share]
        clip_B = np.searchsorted(self._end_N, chosen_B, side="right")
        start_B = chosen_B - (self._end_N - self._starts_N)[clip_B]
        motion_BTPD, audio_BAM = self._take(self._first_N[clip_B] + start_B)
        if audio_range is not None:
            drawn = augmentation(
                torch.from_numpy(uniforms(rng, batch)[share]).to(motion_BTPD.device),
                motion_BTPD.amin(dim=(1, 2)),
                motion_BTPD.amax(dim=(1, 2)),
                audio_range=audio_range,
            )
            motion_BTPD, audio_BAM = drawn.apply(motion_BTPD, audio_BAM)
        return Batch(motion_BTPD, audio_BAM, self.context_frames)

    def centred(self, batch: int) -> Iterator[Batch]:
        """The crop in the middle of every clip, at most `batch` at a time."""
        middle_N = self._first_N + self._starts_N // 2
        for first in range(0, len(middle_N), batch):
            yield Batch(*self._take(middle_N[first : first + batch]), self.context_frames)

    def _take(self, start_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return self._level.take(start_B, self._frames)
