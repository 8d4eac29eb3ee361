"""Whether head and mouth move more when the voice is louder (docs/ms-sync.md, section 7).

Pearson's correlation of two curves at 25 Hz, both smoothed over 5 frames, at lag 0.
Axes: T frames, A = 4 T audio rows, P = 68 points, D = 2, M mel bands.
"""

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.metrics.sync import check_rows
from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

SMOOTHING_FRAMES = 5

_CONSTANT = 1e-8  # a curve with a smaller spread does not move


def head_speed(motion_TPD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean speed of the points that do not move with speech, in crop sides a second: (T,).

    Central differences, so that frame k's speed belongs to frame k.
    """
    rigid_TPD = motion_TPD[:, list(ibug.RIGID)].astype(np.float64)
    velocity_TPD = np.gradient(rigid_TPD, axis=0) * FRAME_RATE_HZ
    speed_T: NDArray[np.float64] = np.linalg.norm(velocity_TPD, axis=-1).mean(axis=-1)
    return speed_T


def loudness(audio_AM: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean log mel energy of each frame's four rows, in nats: (4 T, M) -> (T,)."""
    rows_A = audio_AM.astype(np.float64).mean(axis=1)
    loudness_T: NDArray[np.float64] = rows_A.reshape(-1, ROWS_PER_FRAME).mean(axis=1)
    return loudness_T


def speech_head_coupling(motion_TPD: NDArray[np.float32], audio_AM: NDArray[np.float32]) -> float:
    """Correlation of head speed with loudness, in [-1, 1].

    0 for a head or a voice that never changes: what does not vary is coupled to nothing.

    Raises:
        ValueError: If the audio has not four rows a frame, or the clip is too short.
    """
    _check(motion_TPD, audio_AM)
    return _correlation(head_speed(motion_TPD), loudness(audio_AM))


def speech_mouth_coupling(motion_TPD: NDArray[np.float32], audio_AM: NDArray[np.float32]) -> float:
    """Correlation of the mouth's opening |p62 - p66| with loudness, as `speech_head_coupling`."""
    _check(motion_TPD, audio_AM)
    return _correlation(ibug.mouth_opening(motion_TPD).astype(np.float64), loudness(audio_AM))


def _check(motion_TPD: NDArray[np.float32], audio_AM: NDArray[np.float32]) -> None:
    check_rows(motion_TPD, audio_AM)
    frames = len(motion_TPD)
    if frames < 2 * SMOOTHING_FRAMES:
        raise ValueError(f"a correlation takes {2 * SMOOTHING_FRAMES} frames, found {frames}")


def _correlation(a_T: NDArray[np.float64], b_T: NDArray[np.float64]) -> float:
    a, b = _smooth(a_T), _smooth(b_T)
    if min(a.std(), b.std()) < _CONSTANT:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _smooth(curve_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred mean where it needs no padding: (T,) -> (T - 4,)."""
    return np.convolve(curve_T, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), mode="valid")
