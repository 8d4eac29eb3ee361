"""Does the mouth move with the sound, and how late is the sound?

The mouth's opening is compared with the envelope of the sound, its RMS amplitude. On real talkers
amplitude correlates better than decibels, in which breath and room weigh as much as vowels.
Axes: T ticks (25 Hz), A = 4 T audio rows (100 Hz), L lags.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mssync.timing import ROWS_PER_FRAME, frame_time_s

# Wider than any lag that a viewer forgives (ITU-R BT.1359: 0.125 s early, 0.185 s late).
MAX_LAG_FRAMES = 15
_FEWEST_PAIRS = 10
_CONSTANT = 1e-6  # a curve with a smaller spread does not move


def envelope(loudness_A: NDArray[np.float32]) -> NDArray[np.float32]:
    """Amplitude around each tick, relative to full scale.

    The mean of the rows 4 k - 2 to 4 k + 1, the 40 ms around tick k: those of the frame itself
    would be half a frame late.

    Args:
        loudness_A: RMS level of each row in dB, (4 T,).

    Returns:
        float32 (T,).
    """
    amplitude_A = np.power(10.0, np.asarray(loudness_A, np.float64) / 20)
    before = ROWS_PER_FRAME // 2
    centred_A = np.pad(amplitude_A, (before, 0), mode="edge")[: len(amplitude_A)]
    envelope_T: NDArray[np.float32] = (
        centred_A.reshape(-1, ROWS_PER_FRAME).mean(axis=1).astype(np.float32)
    )
    return envelope_T


def coupling(
    mouth_T: NDArray[np.float32], envelope_T: NDArray[np.float32], counted_T: NDArray[np.bool_]
) -> tuple[float, float]:
    """Correlation of mouth and sound at the best lag of at most 15 frames either way.

    Args:
        mouth_T: Mouth opening.
        envelope_T: Amplitude of the sound; may be longer or shorter.
        counted_T: Ticks of the mouth to look at.

    Returns:
        Pearson's correlation in [-1, 1], and the lag in seconds, positive where the sound is late;
        0 and 0 where either is constant; NaN where there is too little to compare.
    """
    ticks = np.flatnonzero(counted_T)
    lags_L = np.array(sorted(range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1), key=abs))
    heard_LT = lags_L[:, None] + ticks
    paired_LT = (heard_LT >= 0) & (heard_LT < len(envelope_T))
    pairs_L = paired_LT.sum(axis=1)
    if not len(envelope_T) or pairs_L.max(initial=0) < _FEWEST_PAIRS:
        return math.nan, math.nan
    mouth_LT = np.broadcast_to(mouth_T[ticks].astype(np.float64), paired_LT.shape)
    peak = float(envelope_T.max()) or 1.0
    sound_LT = envelope_T[np.clip(heard_LT, 0, len(envelope_T) - 1)].astype(np.float64) / peak
    correlation_L = _correlations(mouth_LT, sound_LT, paired_LT)
    # A lag that few ticks can tell of would win by chance.
    correlation_L[pairs_L < max(_FEWEST_PAIRS, len(ticks) / 2)] = -np.inf
    best = int(correlation_L.argmax())
    return float(correlation_L[best]), frame_time_s(int(lags_L[best]))


def _correlations(
    a_LT: NDArray[np.float64], b_LT: NDArray[np.float64], paired_LT: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Pearson's correlation of every row over its pairs; 0 where either is constant."""
    pairs_L1 = np.maximum(1, paired_LT.sum(axis=1, keepdims=True))
    a, b = (
        np.where(paired_LT, x - np.where(paired_LT, x, 0).sum(axis=1, keepdims=True) / pairs_L1, 0)
        for x in (a_LT, b_LT)
    )
    spread_a, spread_b = (np.sqrt((x**2).sum(axis=1) / pairs_L1[:, 0]) for x in (a, b))
    varies = np.minimum(spread_a, spread_b) > _CONSTANT
    covariance = (a * b).sum(axis=1) / pairs_L1[:, 0]
    correlation_L: NDArray[np.float64] = np.divide(
        covariance, spread_a * spread_b, out=np.zeros_like(covariance), where=varies
    )
    return correlation_L.clip(-1, 1)
