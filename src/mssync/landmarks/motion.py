"""How do the face and its mouth move, and how much of it is noise? From a track's points alone.

Lengths are in inter-ocular distances: the median over the shot of the distance between the outer
eye corners, so that neither the size of the picture nor a nod changes them.

Axes: T ticks (25 Hz), P = 68 points, D = 2.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from mssync.landmarks import ibug

_CENTRE_TICKS = 5  # smoothed before its speed is taken: else noise looks like speed
_SPEED_TICKS = 9  # and after: a nodding head is not still where it turns back
_STILL_SHARE = 0.25
_LEAST_TICKS = 5
# x[t] - (x[t-1] + x[t+1]) / 2 of white noise has the variance 1 + 1/4 + 1/4.
_NOISE_GAIN = np.sqrt(1.5)


def mouth_opening(
    landmarks_TPD: NDArray[np.float32], shot_T: NDArray[np.int16]
) -> NDArray[np.float32]:
    """Distance between the inner lips' middles, |p62 - p66|, in inter-ocular distances: (T,)."""
    opening_T: NDArray[np.float32] = ibug.mouth_opening(landmarks_TPD) / _scales(
        landmarks_TPD, shot_T
    )
    return opening_T


def moves(landmarks_TPD: NDArray[np.float32], shot_T: NDArray[np.int16]) -> NDArray[np.float32]:
    """Move of the face's centre since the tick before, in inter-ocular distances.

    Returns:
        float32 (T,), 0 at the first tick. Moves across shots are not left out.
    """
    centre_TD = landmarks_TPD.mean(axis=1)
    steps_TD = np.diff(centre_TD, axis=0, prepend=centre_TD[:1])
    moves_T: NDArray[np.float32] = np.linalg.norm(steps_TD, axis=-1) / _scales(
        landmarks_TPD, shot_T
    )
    return moves_T


def jitter(
    landmarks_TPD: NDArray[np.float32],
    interpolated_T: NDArray[np.bool_],
    shot_T: NDArray[np.int16],
) -> float:
    """Noise of the rigid points while the head is still, in inter-ocular distances.

    How far a point lies off the middle between its neighbours in time, over the quarter of the
    ticks at which the head moves least; a steady move cancels out. White noise of standard
    deviation s in each coordinate gives s. Noise that lasts over several ticks gives less: so does
    a source below 25 frames a second, whose ticks lie between its frames (15 a second: about
    0.4 s), and any smoothing. Compare clips of like rate. A head that never rests adds its turns.

    Args:
        landmarks_TPD: (T, 68, 2), in any unit.
        interpolated_T: Ticks without a face; they and their neighbours are left out.
        shot_T: Number of the shot; ticks at its ends are left out.

    Returns:
        Root mean square over ticks, points and both axes; 0 if fewer than five still ticks (20
        usable ones) are left.
    """
    inside_T = _inside(interpolated_T, shot_T)
    if inside_T.sum() * _STILL_SHARE < _LEAST_TICKS:
        return 0.0
    centre_TD = landmarks_TPD.mean(axis=1, dtype=np.float64)
    speed_T = _smoothed_speed(centre_TD, shot_T)
    still_T = inside_T & (speed_T <= np.quantile(speed_T[inside_T], _STILL_SHARE))
    rigid_TPD = landmarks_TPD[:, ibug.RIGID].astype(np.float64)
    off_TPD = np.zeros_like(rigid_TPD)
    off_TPD[1:-1] = rigid_TPD[1:-1] - (rigid_TPD[:-2] + rigid_TPD[2:]) / 2
    noise = np.sqrt(np.mean(off_TPD[still_T] ** 2)) / _NOISE_GAIN
    return float(noise / _scale(landmarks_TPD))


def mouth_energy(mouth_T: NDArray[np.float32], interpolated_T: NDArray[np.bool_]) -> float:
    """Standard deviation of the mouth's opening over the ticks with a face; 0 without any.

    Args:
        mouth_T: As `mouth_opening` gives it.
        interpolated_T: Ticks without a face.
    """
    seen = mouth_T[~interpolated_T]
    return float(seen.std()) if len(seen) else 0.0


def _scale(landmarks_TPD: NDArray[np.float32]) -> np.float32:
    """The inter-ocular distance of these ticks; not 0, whatever the points."""
    return np.float32(max(1e-6, float(np.median(ibug.interocular_distance(landmarks_TPD)))))


def _scales(landmarks_TPD: NDArray[np.float32], shot_T: NDArray[np.int16]) -> NDArray[np.float32]:
    """The inter-ocular distance of each tick's shot (T,)."""
    scale_T = np.empty(len(shot_T), np.float32)
    for shot in np.unique(shot_T):
        scale_T[shot_T == shot] = _scale(landmarks_TPD[shot_T == shot])
    return scale_T


def _inside(interpolated_T: NDArray[np.bool_], shot_T: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Ticks that, with both their neighbours, show the face in one shot."""
    inside_T = np.zeros(len(shot_T), bool)
    inside_T[1:-1] = (shot_T[:-2] == shot_T[1:-1]) & (shot_T[1:-1] == shot_T[2:])
    inside_T[1:-1] &= ~(interpolated_T[:-2] | interpolated_T[1:-1] | interpolated_T[2:])
    return inside_T


def _smoothed_speed(
    centre_TD: NDArray[np.float64], shot_T: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Speed per tick, shot by shot, so that a cut is no move."""
    speeds = []
    for shot_TD in np.split(centre_TD, np.flatnonzero(np.diff(shot_T)) + 1):
        smooth_TD = uniform_filter1d(shot_TD, _CENTRE_TICKS, axis=0, mode="nearest")
        speed_T = np.linalg.norm(np.diff(smooth_TD, axis=0, prepend=smooth_TD[:1]), axis=-1)
        speeds.append(uniform_filter1d(speed_T, _SPEED_TICKS, mode="nearest"))
    smoothed: NDArray[np.float64] = np.concatenate(speeds)
    return smoothed
