"""What tells a clip from all others, also after it was encoded anew, trimmed or mirrored.

A word of a few bits for every tick, of the sound and of the face's movement; most of its bits
survive what a re-upload does to a clip. Two clips of the same footage share words at one distance
in time (`mssync.selection.duplicates`).

Axes: T ticks (25 Hz), A = 4 T audio rows (100 Hz), P = 68 points, D = 2, M = 26 mel bands.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from mssync.timing import ROWS_PER_FRAME

NO_WORD = 0
_VALID = np.uint32(1 << 31)  # so that no word is 0

SOUND_BITS = 25
_SOUND_ROWS = 32  # energies are those of 0.32 s, as in the paper
_SOUND_STEP_ROWS = 8
_QUIET = 9.2  # nats below the loudest: 40 dB
_STEADY = 0.01  # mean change of the bands in nats: speech has less in one word of 500, a hum none

# Waves of each curve: as many as survive a new encoding; noise of the points spoils the finer ones.
_WAVES = (8, 6, 6, 2)
MOTION_BITS = sum(_WAVES)
_MOTION_TICKS = 32
_SMOOTH_TICKS = 1.0
_STILL = 0.004  # spread of the mouth's opening within a word, in inter-ocular distances

_EYES, _NOSE, _CHIN, _CORNERS = (36, 45), 30, 8, (48, 54)
_INNER = ((61, 67), (62, 66), (63, 65))
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))


def of_sound(log_mel_AM: NDArray[np.float32]) -> NDArray[np.uint32]:
    """A word for every tick of a clip's sound: (T,), `NO_WORD` where it is quiet, steady or ends.

    Signs of the change over time of the difference between neighbouring bands (Haitsma and Kalker,
    "A Highly Robust Audio Fingerprinting System", ISMIR 2002), over mel bands; gain cancels.

    Args:
        log_mel_AM: Natural log of mel energies, (4 T, 26).
    """
    ticks = len(log_mel_AM) // ROWS_PER_FRAME
    energy_AM = uniform_filter1d(
        np.exp(log_mel_AM.astype(np.float64)), _SOUND_ROWS, axis=0, mode="nearest"
    )
    level_AM = np.log(energy_AM + 1e-9)
    change_AB = np.diff(level_AM, axis=1)
    rows = ROWS_PER_FRAME * np.arange(ticks)
    later = np.minimum(rows + _SOUND_STEP_ROWS, len(log_mel_AM) - 1)
    step_TB = change_AB[later] - change_AB[rows]
    loud_A = np.log(energy_AM.sum(axis=1) + 1e-9)
    said_T = loud_A[rows] > loud_A.max(initial=0) - _QUIET
    said_T &= np.abs(step_TB).mean(axis=1) > _STEADY
    return _words(step_TB > 0, said_T & (rows + _SOUND_STEP_ROWS < len(log_mel_AM)))


def of_motion(landmarks_TPD: NDArray[np.float32]) -> NDArray[np.uint32]:
    """A word for every tick of a face's movement: (T,), `NO_WORD` where still and at the ends.

    Signs of the first waves (cosine transform) of four curves over the 32 ticks around each:
    opening and width of the mouth, nod, opening of the eyes. A mirror image has the same.

    Args:
        landmarks_TPD: iBUG-68 points, (T, 68, 2).
    """
    ticks = len(landmarks_TPD)
    if ticks < _MOTION_TICKS:
        return np.full(ticks, NO_WORD, np.uint32)
    curves_TF = gaussian_filter1d(_curves(landmarks_TPD), _SMOOTH_TICKS, axis=0, mode="nearest")
    windows_WFt = np.lib.stride_tricks.sliding_window_view(curves_TF, _MOTION_TICKS, axis=0)
    waves_WFK = dct(windows_WFt, axis=2)
    first_waves = [waves_WFK[:, curve, 1 : waves + 1] for curve, waves in enumerate(_WAVES)]
    moves_W = windows_WFt[:, 0].std(axis=1) > _STILL
    words = np.full(ticks, NO_WORD, np.uint32)
    first = _MOTION_TICKS // 2
    bits_WB = np.concatenate(first_waves, axis=1) > 0
    words[first : first + len(bits_WB)] = _words(bits_WB, moves_W)
    return words


def _curves(landmarks_TPD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Four curves that a mirror image, another size and another crop do not change: (T, 4)."""
    points = landmarks_TPD.astype(np.float64)

    def apart(*pairs: tuple[int, int]) -> NDArray[np.float64]:
        one, other = (list(side) for side in zip(*pairs, strict=True))
        gap_T: NDArray[np.float64] = np.linalg.norm(points[:, one] - points[:, other], axis=2).mean(
            axis=1
        )
        return gap_T

    eyes_T = np.maximum(apart(_EYES), 1e-9)
    middle = points[:, list(_EYES)].mean(axis=1)
    nod_T = np.linalg.norm(points[:, _NOSE] - middle, axis=1)
    size = float(np.median(eyes_T))
    curves = [
        apart(*_INNER) / size,
        apart(_CORNERS) / size,
        nod_T / np.maximum(nod_T + apart((_NOSE, _CHIN)), 1e-9),
        apart(*_LIDS) / size,
    ]
    return np.stack(curves, axis=1)


def _words(bits_TB: NDArray[np.bool_], valid_T: NDArray[np.bool_]) -> NDArray[np.uint32]:
    weight_B = np.left_shift(np.uint32(1), np.arange(bits_TB.shape[1], dtype=np.uint32))
    words_T = (bits_TB * weight_B).sum(axis=1, dtype=np.uint32) | _VALID
    chosen: NDArray[np.uint32] = np.where(valid_T, words_T, np.uint32(NO_WORD))
    return chosen
