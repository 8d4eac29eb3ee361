"""Augmentation: one draw per sample, constant over the clip (docs/ms-sync.md, section 6).

Scale, shift, mirror image and audio gain are all linear in the streams, and so is the pyramid:
augmenting a stream of any level equals augmenting the clip and then going down.

Axes: N samples, ... any axes between, P = 68 points, D = 2, M mel bands, T frames, A audio rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync.device import constant
from mssync.landmarks import ibug

SCALES = (0.9, 1.1)
GAIN = 0.1  # of the range of the log energies
CENTRE = 0.5
_DRAWS = 5  # scale, shift along both axes, mirror image, gain


@dataclass(frozen=True)
class Augmentation:
    """What happens to each of N samples.

    Attributes:
        scale_N: Factor about the crop's centre.
        shift_ND: Added after scaling, in crop sides.
        flip_N: Whether the face is mirrored, last of all.
        gain_N: Added to every log energy.
    """

    scale_N: Tensor
    shift_ND: Tensor
    flip_N: Tensor
    gain_N: Tensor

    def apply(self, motion: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Augment motion (N, ..., 68, 2) and audio (N, ..., M); the inputs stay as they are."""
        return self.move(motion), audio + _spread(self.gain_N, audio.ndim)

    def move(self, motion: Tensor) -> Tensor:
        """Augment motion alone."""
        scale = _spread(self.scale_N, motion.ndim)
        shift = self.shift_ND.reshape(len(motion), *[1] * (motion.ndim - 2), 2)
        moved = (motion - CENTRE) * scale + shift + CENTRE
        mirrored = moved.index_select(-2, constant(ibug.FLIP.tolist(), motion.device))
        mirrored[..., 0] = 1 - mirrored[..., 0]
        return torch.where(_spread(self.flip_N, motion.ndim), mirrored, moved)


def uniforms(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """The random numbers that augmentations of samples of this shape take: (*shape, 5).

    They are drawn on the CPU, so that they are the same on every device.
    """
    return rng.random((*shape, _DRAWS), dtype=np.float32)


def augmentation(
    uniform_N5: Tensor, low_ND: Tensor, high_ND: Tensor, *, audio_range: float
) -> Augmentation:
    """One augmentation for each of N samples, on the device of its arguments.

    No face is enlarged beyond the crop, and every point stays in it. A face that is larger than
    the crop to begin with is not shifted along that axis.

    Args:
        uniform_N5: Of `uniforms`.
        low_ND: Least coordinates of each sample over its points and frames, in crop sides.
        high_ND: Largest coordinates of each sample.
        audio_range: Range of the log energies (`data.statistics.Statistics.audio_range`).
    """
    smallest, span = SCALES[0], SCALES[1] - SCALES[0]
    largest_N = (1 / (high_ND - low_ND).clamp(min=1e-6).amax(dim=1)).clamp(min=smallest)
    scale_N = torch.minimum(smallest + span * uniform_N5[:, 0], largest_N)
    low_ND = (low_ND - CENTRE) * scale_N[:, None] + CENTRE
    high_ND = (high_ND - CENTRE) * scale_N[:, None] + CENTRE
    room_ND = 1 - (high_ND - low_ND)
    inside_ND = uniform_N5[:, 1:3] * room_ND.clamp(min=0) - low_ND
    return Augmentation(
        scale_N=scale_N,
        shift_ND=torch.where(room_ND > -1e-6, inside_ND, 0),
        flip_N=uniform_N5[:, 3] < 0.5,
        gain_N=(2 * uniform_N5[:, 4] - 1) * GAIN * audio_range,
    )


def _spread(values_N: Tensor, dimensions: int) -> Tensor:
    """Shape (N,) with trailing axes of length 1."""
    return values_N.reshape(-1, *[1] * (dimensions - 1))
