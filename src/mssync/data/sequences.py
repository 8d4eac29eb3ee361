"""Crops of clips: random ones for training the generator, centred ones for validating it.

Axes: B sequences of a batch, T frames (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2,
M mel bands, N clips.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync.data.augment import augment
from mssync.data.clips import Clip
from mssync.errors import StageFailedError
from mssync.timing import ROWS_PER_FRAME

logger = logging.getLogger(__name__)

Crop = tuple[NDArray[np.float32], NDArray[np.float32]]


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

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(self.motion_BTPD.to(device), self.audio_BAM.to(device), self.context_frames)


class Sequences:
    """All crops of one length in some clips, with as much context as they allow.

    Clips shorter than crop and context are left out; when that leaves none, the context shrinks
    to what every clip that holds a crop has around its centre.

    Args:
        clips: Where crops come from.
        frames: Length of a crop.
        context_frames: Real frames wanted on each side of it.

    Attributes:
        context_frames: Real frames there are on each side.
        too_short: Number of clips left out.

    Raises:
        StageFailedError: If no clip is as long as a crop.
    """

    def __init__(self, clips: Sequence[Clip], *, frames: int, context_frames: int) -> None:
        usable = [clip for clip in clips if clip.frames >= frames + 2 * context_frames]
        if not usable:
            usable = [clip for clip in clips if clip.frames >= frames]
            if not usable:
                longest = max((clip.frames for clip in clips), default=0)
                raise StageFailedError(
                    f"no clip has the {frames} frames of a sequence; the longest of {len(clips)} "
                    f"has {longest}. Add longer clips or lower train_generator.predicted_frames"
                )
            least = (min(clip.frames for clip in usable) - frames) // 2
            logger.warning(
                "no clip holds %d frames and %d of context on each side: context is %d",
                *(frames, context_frames, least),
            )
            context_frames = least
        self.context_frames = context_frames
        self.too_short = len(clips) - len(usable)
        if self.too_short:
            logger.info("%d of %d clips are too short for a crop", self.too_short, len(clips))
        self._clips = usable
        self._frames = frames + 2 * context_frames
        self._starts_N = np.array([clip.frames - self._frames + 1 for clip in usable])

    def draw(self, step: int, *, batch: int, seed: int, audio_range: float | None) -> Batch:
        """The random crops of one training step; every crop of every clip is equally likely.

        Args:
            step: Number of the step; the draw depends on `seed` and `step` only.
            batch: Number of crops.
            seed: Seed of the training run.
            audio_range: Augment, with this range of the log energies. None: do not augment.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, step]))
        end_N = np.cumsum(self._starts_N)
        crops = []
        for chosen in rng.integers(0, end_N[-1], batch):
            clip = int(np.searchsorted(end_N, chosen, side="right"))
            motion, audio = self._crop(clip, int(chosen - (end_N - self._starts_N)[clip]))
            if audio_range is not None:
                motion, audio = augment(motion, audio, audio_range=audio_range, rng=rng)
            crops.append((motion, audio))
        return self._collate(crops)

    def centred(self, batch: int) -> Iterator[Batch]:
        """The crop in the middle of every clip, at most `batch` at a time."""
        for first in range(0, len(self._clips), batch):
            clips = range(first, min(first + batch, len(self._clips)))
            yield self._collate(
                [self._crop(clip, int(self._starts_N[clip]) // 2) for clip in clips]
            )

    def _crop(self, clip: int, start: int) -> Crop:
        end = start + self._frames
        rows = slice(start * ROWS_PER_FRAME, end * ROWS_PER_FRAME)
        return self._clips[clip].motion_TPD[start:end], self._clips[clip].audio_AM[rows]

    def _collate(self, crops: Sequence[Crop]) -> Batch:
        motion_BTPD = np.stack([motion for motion, _ in crops])
        audio_BAM = np.stack([audio for _, audio in crops])
        return Batch(
            torch.from_numpy(motion_BTPD), torch.from_numpy(audio_BAM), self.context_frames
        )
