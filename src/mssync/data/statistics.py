"""Statistics of the rows of a packed split, read piece by piece.

Axes: S samples of all clips end to end, X = 136 + 4 M numbers of a row, C clips, P = 68 points,
D = 2, M mel bands.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.timing import ROWS_PER_FRAME

COORDINATES = 2 * ibug.POINTS  # of a row, before its audio
_QUANTILES = (0.001, 0.999)
_BINS = 1 << 16
_SAMPLES = 16_384  # at a time


@dataclass(frozen=True)
class Statistics:
    """Means and spreads of a set of clips, frames weighted alike.

    Attributes:
        motion_mean_PD: (68, 2). motion_std_PD: (68, 2).
        velocity_rms_PD: Root mean square of each coordinate's change from frame to frame, (68, 2).
        audio_mean_M: (26,). audio_std_M: (26,).
        audio_range: Distance between the 0.1 % and 99.9 % quantiles of the log energies, within
            1/65536 of the distance between the least and the largest.
    """

    motion_mean_PD: NDArray[np.float32]
    motion_std_PD: NDArray[np.float32]
    velocity_rms_PD: NDArray[np.float32]
    audio_mean_M: NDArray[np.float32]
    audio_std_M: NDArray[np.float32]
    audio_range: float


def statistics(rows_SX: NDArray[np.float32], frames_C: NDArray[np.int64]) -> Statistics:
    """Statistics of clips, in two passes.

    Args:
        rows_SX: Their rows, end to end.
        frames_C: Length of each.

    Raises:
        ValueError: If there is no row.
    """
    samples, width = rows_SX.shape
    if not samples:
        raise ValueError("statistics of no clip do not exist")
    first_C = np.cumsum(frames_C) - frames_C
    sum_X, squares_X, velocity_X = np.zeros(width), np.zeros(width), np.zeros(COORDINATES)
    low, high = np.inf, -np.inf
    for piece_SX in _pieces(rows_SX):
        sum_X += piece_SX.sum(axis=0, dtype=np.float64)
        low = np.minimum(low, piece_SX[:, COORDINATES:].min())
        high = np.maximum(high, piece_SX[:, COORDINATES:].max())
    mean_X = sum_X / samples
    audio_mean_M = _of_bands(mean_X[COORDINATES:])
    centre_X = np.concatenate([mean_X[:COORDINATES], np.tile(audio_mean_M, ROWS_PER_FRAME)])
    counts = np.zeros(_BINS, np.int64)
    for start, piece_SX in zip(range(0, samples, _SAMPLES), _pieces(rows_SX), strict=True):
        squares_X += np.square(piece_SX - centre_X).sum(axis=0)
        if np.isfinite(high - low):  # else the range is not a number either: training stops on it
            counts += np.histogram(piece_SX[:, COORDINATES:], bins=_BINS, range=(low, high))[0]
        motion_SX = rows_SX[max(start - 1, 0) : start + len(piece_SX), :COORDINATES]
        change_SX = np.diff(motion_SX, axis=0)
        later = np.arange(start + len(piece_SX) - len(change_SX), start + len(piece_SX))
        within = ~np.isin(later, first_C)
        velocity_X += np.square(change_SX[within], dtype=np.float64).sum(axis=0)
    changes = max(int((frames_C - 1).sum()), 1)
    share = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    quantiles = np.interp(_QUANTILES, share, low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS)
    std_X = np.sqrt(squares_X / samples)
    return Statistics(
        motion_mean_PD=_points(mean_X[:COORDINATES]),
        motion_std_PD=_points(std_X[:COORDINATES]),
        velocity_rms_PD=_points(np.sqrt(velocity_X / changes)),
        audio_mean_M=audio_mean_M.astype(np.float32),
        audio_std_M=np.sqrt(_of_bands(squares_X[COORDINATES:]) / samples).astype(np.float32),
        audio_range=float(quantiles[1] - quantiles[0]),
    )


def _pieces(rows_SX: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (rows_SX[start : start + _SAMPLES] for start in range(0, len(rows_SX), _SAMPLES))


def _of_bands(values_X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the four rows of a sample: (4 M,) -> (M,)."""
    mean_M: NDArray[np.float64] = values_X.reshape(ROWS_PER_FRAME, -1).mean(axis=0)
    return mean_M


def _points(values_X: NDArray[np.float64]) -> NDArray[np.float32]:
    return values_X.astype(np.float32).reshape(ibug.POINTS, 2)
