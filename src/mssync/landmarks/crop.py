"""One fixed square around a face's track, and the track smoothed.

Axes: T ticks (25 Hz), P = 68 points, D = 2.
"""

import numpy as np
from numpy.typing import NDArray


def smooth(landmarks_TPD: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Centred mean over an odd number of frames, ends reflected (docs/ms-sync.md, section 1).

    Raises:
        ValueError: If `frames` is even.
    """
    if frames % 2 == 0:
        raise ValueError(f"the width must be odd, found {frames}")
    pad = frames // 2
    padded = np.pad(landmarks_TPD, [(pad, pad), (0, 0), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)
    smoothed: NDArray[np.float32] = windows.mean(axis=-1, dtype=np.float32)
    return smoothed


def square_crop(landmarks_TPD: NDArray[np.float32], scale: float) -> tuple[float, float, float]:
    """One fixed square around the whole track: left, top and side, in the landmarks' unit.

    Args:
        landmarks_TPD: (T, 68, 2).
        scale: Side of the square over the larger extent of the track.
    """
    low, high = landmarks_TPD.min(axis=(0, 1)), landmarks_TPD.max(axis=(0, 1))
    side = float(max(1e-6, (high - low).max()) * scale)
    left, top = (low + high) / 2 - side / 2
    return float(left), float(top), side


def crop_like(
    points_PD: NDArray[np.float32], wanted_PD: NDArray[np.float32]
) -> tuple[float, float, float]:
    """The square in which one face is as large as another face in its own, and at the same place.

    A square around one frame alone holds a larger face than one around a whole track, which has
    room for the head to move (0.77 of the side, against 0.69 in real clips of 3 to 5 s).

    Args:
        points_PD: (68, 2), in any unit.
        wanted_PD: (68, 2), in crop sides.

    Returns:
        Left, top and side, in the unit of `points_PD`.
    """
    low_D, high_D = points_PD.min(axis=0), points_PD.max(axis=0)
    wanted_low_D, wanted_high_D = wanted_PD.min(axis=0), wanted_PD.max(axis=0)
    side = float(max(1e-6, (high_D - low_D).max()) / (wanted_high_D - wanted_low_D).max())
    left, top = (low_D + high_D) / 2 - side * (wanted_low_D + wanted_high_D) / 2
    return float(left), float(top), side
