"""Augmentation: one draw per sample, constant over the clip (docs/ms-sync.md, section 6).

Scale, shift, mirror image and audio gain are all linear in the streams, and so is the pyramid:
augmenting a stream of any level equals augmenting the clip and then going down.

Axes: N samples, ... any axes between, P = 68 points, D = 2, M mel bands, T frames, A audio rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug

SCALES = (0.9, 1.1)
GAIN = 0.1  # of the range of the log energies
CENTRE = 0.5


@dataclass(frozen=True)
class Augmentation:
    """What happens to each of N samples.

    Attributes:
        scale_N: Factor about the crop's centre.
        shift_ND: Added after scaling, in crop sides.
        flip_N: Whether the face is mirrored, last of all.
        gain_N: Added to every log energy.
    """

    scale_N: NDArray[np.float32]
    shift_ND: NDArray[np.float32]
    flip_N: NDArray[np.bool_]
    gain_N: NDArray[np.float32]

    def apply(
        self, motion: NDArray[np.float32], audio: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Augment motion (N, ..., 68, 2) and audio (N, ..., M); the inputs stay as they are."""
        scale = _spread(self.scale_N, motion.ndim)
        shift = self.shift_ND.reshape(len(motion), *[1] * (motion.ndim - 2), 2)
        moved = (motion - np.float32(CENTRE)) * scale + shift + np.float32(CENTRE)
        mirrored = moved[self.flip_N][..., ibug.FLIP, :]
        mirrored[..., 0] = 1 - mirrored[..., 0]
        moved[self.flip_N] = mirrored
        return moved, audio + _spread(self.gain_N, audio.ndim)

    def take(self, index_N: NDArray[np.int64]) -> "Augmentation":
        """The augmentation of the samples `index_N`, which may repeat."""
        return Augmentation(
            scale_N=self.scale_N[index_N],
            shift_ND=self.shift_ND[index_N],
            flip_N=self.flip_N[index_N],
            gain_N=self.gain_N[index_N],
        )


def draw(
    low_ND: NDArray[np.float32],
    high_ND: NDArray[np.float32],
    *,
    audio_range: float,
    rng: np.random.Generator,
) -> Augmentation:
    """Draw one augmentation for each of N samples.

    No face is enlarged beyond the crop, and every point stays in it. A face that is larger than
    the crop to begin with is not shifted along that axis.

    Args:
        low_ND: Least coordinates of each sample over its points and frames, in crop sides.
        high_ND: Largest coordinates of each sample.
        audio_range: Range of the log energies (`data.clips.Statistics.audio_range`).
        rng: Source of every draw.
    """
    samples = len(low_ND)
    largest_N = np.maximum(1 / np.maximum(high_ND - low_ND, 1e-6).max(axis=1), SCALES[0])
    scale_N = np.minimum(rng.uniform(*SCALES, samples), largest_N)
    low_ND = (low_ND - CENTRE) * scale_N[:, None] + CENTRE
    high_ND = (high_ND - CENTRE) * scale_N[:, None] + CENTRE
    room_ND = 1 - (high_ND - low_ND)
    inside_ND = rng.uniform(size=room_ND.shape) * np.maximum(room_ND, 0) - low_ND
    shift_ND = np.where(room_ND > -1e-6, inside_ND, 0)
    return Augmentation(
        scale_N=scale_N.astype(np.float32),
        shift_ND=shift_ND.astype(np.float32),
        flip_N=rng.random(samples) < 0.5,
        gain_N=rng.uniform(-GAIN, GAIN, samples).astype(np.float32) * np.float32(audio_range),
    )


def augment(
    motion_TPD: NDArray[np.float32],
    audio_AM: NDArray[np.float32],
    *,
    audio_range: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Augment one sample, by one draw.

    Args:
        motion_TPD: Landmarks (T, 68, 2), in crop sides.
        audio_AM: Log mel energies (A, M).
        audio_range: Range of the log energies (`data.clips.Statistics.audio_range`).
        rng: Source of every draw.

    Returns:
        New arrays of the same shapes.
    """
    low_ND = motion_TPD.min(axis=(0, 1))[None]
    high_ND = motion_TPD.max(axis=(0, 1))[None]
    drawn = draw(low_ND, high_ND, audio_range=audio_range, rng=rng)
    motion_NTPD, audio_NAM = drawn.apply(motion_TPD[None], audio_AM[None])
    return motion_NTPD[0], audio_NAM[0]


def _spread(values_N: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Shape (N,) with trailing axes of length 1."""
    return values_N.reshape(-1, *[1] * (dimensions - 1))
