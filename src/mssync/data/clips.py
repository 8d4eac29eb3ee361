"""Clips in memory, as the models see them.

Axes: T frames (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2, M mel bands.
"""

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
