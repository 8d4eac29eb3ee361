"""Clips in memory, as the models see them, and the statistics of a set of them.

Axes: T frames (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2, M mel bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """One clip of the dataset.

    Attributes:
        clip_id: Its id in every table.
        speaker_id: Who speaks; no speaker is in two splits.
        split: `train`, `val` or `test`.
        motion_TPD: Smoothed landmarks, float32 (T, 68, 2), divided by the side of one fixed
            square crop, so about in [0, 1]; x right, y down.
        audio_AM: Log mel energies, float32 (4 T, 26); row 4 k starts at frame k.
    """

    clip_id: str
    speaker_id: str
    split: str
    motion_TPD: NDArray[np.float32]
    audio_AM: NDArray[np.float32]

    @property
    def frames(self) -> int:
        """Length T."""
        return len(self.motion_TPD)


@dataclass(frozen=True)
class Statistics:
    """Means and spreads of a set of clips, frames weighted alike.

    Attributes:
        motion_mean_PD: (68, 2). motion_std_PD: (68, 2).
        audio_mean_M: (26,). audio_std_M: (26,).
        audio_range: Distance between the 0.1 % and 99.9 % quantiles of the log energies.
    """

    motion_mean_PD: NDArray[np.float32]
    motion_std_PD: NDArray[np.float32]
    audio_mean_M: NDArray[np.float32]
    audio_std_M: NDArray[np.float32]
    audio_range: float


def statistics(clips: Sequence[Clip]) -> Statistics:
    """Statistics of `clips`.

    Raises:
        ValueError: If there is no clip.
    """
    if not clips:
        raise ValueError("statistics of no clip do not exist")
    motion = np.concatenate([clip.motion_TPD for clip in clips]).astype(np.float64)
    audio = np.concatenate([clip.audio_AM for clip in clips]).astype(np.float64)
    low, high = np.quantile(audio, [0.001, 0.999])
    return Statistics(
        motion_mean_PD=motion.mean(axis=0).astype(np.float32),
        motion_std_PD=motion.std(axis=0).astype(np.float32),
        audio_mean_M=audio.mean(axis=0).astype(np.float32),
        audio_std_M=audio.std(axis=0).astype(np.float32),
        audio_range=float(high - low),
    )
