"""How late is the sound, how sure is that, and does it drift? From landmarks and log mel energies.

No weights: for every lag, the mouth's shape and speed are set against the sound's level and change
in a few bands, by canonical correlation within the clip alone (Hotelling, "Relations between two
sets of variates", 1936; its use for audio-visual synchrony: Sargin et al., "Audiovisual
synchronization and fusion using canonical correlation analysis", 2007). Where mouth and sound
belong together one lag stands out.

Axes: T ticks (25 Hz), A = 4 T audio rows (100 Hz), L lags, K motion features, B audio features,
P = 68 points, D = 2, M = 26 mel bands.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

# The lag that is looked for, and how far others are compared with it.
MAX_LAG_FRAMES = 16
_FAR_FRAMES = 40
_STEP_ROWS = 2
_PEAK_FRAMES = 5  # lags so near to the best one belong to its peak
_FEWEST_TICKS = 40
_RIDGE = 0.5  # on correlations; 100 ticks do not tell 20 features apart
_DETREND_FRAMES = 25
_SLOPE_ROWS = 9
_NOISE_FLOOR = 1e-4  # of mel energies, peak-normalised: breath and room count for little
_BANDS = ((0, 3), (3, 6), (6, 9), (9, 13), (13, 18), (18, 26))
_EYES, _NOSE, _CHIN, _CORNERS = (36, 45), slice(27, 31), 8, (48, 54)
_INNER, _OUTER = ((61, 67), (62, 66), (63, 65)), ((50, 58), (51, 57), (52, 56))
# Drift: how far apart the offsets of both ends may be, and how long a clip must be to tell.
_MAX_SPREAD_FRAMES = 24
_SPREAD_STEP_FRAMES = 2
_FEWEST_TICKS_OF_DRIFT = 200
_CONSTANT = 1e-10  # a feature with a smaller variance does not move
_SILENT = 1e-4  # spread of a band's level, in nats
_STILL = 1e-4  # a mouth that moves by less, in inter-ocular distances, is still


@dataclass(frozen=True)
class Offset:
    """When the sound comes, relative to the mouth.

    Attributes:
        offset_ms: Positive where the sound is late; at the middle of the clip. NaN where nothing
            can be told.
        confidence: In [0, 1): 1 - exp(-margin), where the margin is by how many standard deviations
            of all other lags the best lag is better than the next one. 0 where nothing can be told.
        drift_ms_per_s: How the offset grows along the clip; NaN where the clip is too short.
    """

    offset_ms: float
    confidence: float
    drift_ms_per_s: float


UNKNOWN = Offset(math.nan, 0.0, math.nan)


def estimate(
    landmarks_TPD: NDArray[np.float32],
    log_mel_AM: NDArray[np.float32],
    counted_T: NDArray[np.bool_],
) -> Offset:
    """The offset of a clip's sound.

    Args:
        landmarks_TPD: iBUG-68 points of one shot, (T, 68, 2).
        log_mel_AM: Natural log of mel energies of the peak-normalised sound, (4 T, 26).
        counted_T: Ticks at which the face was found.
    """
    if counted_T.sum() < _FEWEST_TICKS:
        return UNKNOWN
    shape_TK = _mouth(landmarks_TPD)
    sound_AB = _sound(log_mel_AM)
    moves = shape_TK[counted_T].std(axis=0).max() > _STILL
    if not moves or not sound_AB.std(axis=0).max() > _SILENT:
        return UNKNOWN
    motion_TK = np.concatenate(
        [_detrend(shape_TK), np.gradient(shape_TK, axis=0)], axis=1, dtype=np.float32
    )
    lags_L = np.arange(-_FAR_FRAMES, _FAR_FRAMES + 1e-9, _STEP_ROWS / ROWS_PER_FRAME)
    score_L = _scores(motion_TK, sound_AB, counted_T, lags_L, spread_frames=0.0)
    near_L = (np.abs(lags_L) <= MAX_LAG_FRAMES) & np.isfinite(score_L)
    if not near_L.any():
        return UNKNOWN
    best = int(np.where(near_L, score_L, -np.inf).argmax())
    others = score_L[np.abs(lags_L - lags_L[best]) > _PEAK_FRAMES]
    lag, peak, drift = _refined(lags_L, score_L, best), float(score_L[best]), math.nan
    if len(motion_TK) >= _FEWEST_TICKS_OF_DRIFT:
        found = _drift(motion_TK, sound_AB, counted_T, lags_L[near_L])
        lag, drift = found.lag_frames, 1000 * found.spread_frames / (len(motion_TK) - 1)
        peak, others = found.score, np.concatenate([others, found.others])
    return Offset(1000 * lag / FRAME_RATE_HZ, _confidence(peak, others), drift)


def _mouth(landmarks_TPD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Opening of inner and outer lips, width, and chin, in inter-ocular distances: (T, 4)."""
    points = landmarks_TPD.astype(np.float64)

    def apart(pairs: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
        upper, lower = (list(side) for side in zip(*pairs, strict=True))
        distance_T: NDArray[np.float64] = np.linalg.norm(
            points[:, upper] - points[:, lower], axis=2
        ).mean(axis=1)
        return distance_T

    chin_T = np.linalg.norm(points[:, _CHIN] - points[:, _NOSE].mean(axis=1), axis=1)
    features = [apart(_INNER), apart(_OUTER), apart((_CORNERS,)), chin_T]
    scale = max(1e-9, float(np.median(apart((_EYES,)))))
    return np.stack(features, axis=1) / scale


def _sound(log_mel_AM: NDArray[np.float32]) -> NDArray[np.float32]:
    """Level of a few bands around each row, and its change: (A, 12)."""
    soft_AM = np.log(np.exp(log_mel_AM.astype(np.float64)) + _NOISE_FLOOR)
    level_AB = np.stack([soft_AM[:, low:high].mean(axis=1) for low, high in _BANDS], axis=1)
    slow_AB = uniform_filter1d(level_AB, _SLOPE_ROWS, axis=0, mode="nearest")
    return np.concatenate([level_AB, np.gradient(slow_AB, axis=0)], axis=1, dtype=np.float32)


def _detrend(x_TK: NDArray[np.float64]) -> NDArray[np.float64]:
    slow_TK: NDArray[np.float64] = uniform_filter1d(x_TK, _DETREND_FRAMES, axis=0, mode="reflect")
    return x_TK - slow_TK


def _scores(
    motion_TK: NDArray[np.float32],
    sound_AB: NDArray[np.float32],
    counted_T: NDArray[np.bool_],
    lags_L: NDArray[np.float64],
    *,
    spread_frames: float,
) -> NDArray[np.float64]:
    """Sum of the squared canonical correlations at each lag; NaN where too few ticks pair up.

    Args:
        motion_TK: Features of the mouth.
        sound_AB: Features of the sound.
        counted_T: Ticks to look at.
        lags_L: In frames, at the middle of the clip.
        spread_frames: Lag of the last tick over that of the first.
    """
    ticks = np.flatnonzero(counted_T)
    place_t = ticks / max(1, len(counted_T) - 1) - 0.5
    centre_Lt = ROWS_PER_FRAME * (ticks + lags_L[:, None] + spread_frames * place_t)
    around_AB = np.lib.stride_tricks.sliding_window_view(sound_AB, ROWS_PER_FRAME, axis=0).mean(-1)
    around_AB -= around_AB.mean(axis=0)  # moments of what is centred lose no digits
    first_Lt = centre_Lt - ROWS_PER_FRAME / 2
    paired_Lt = (first_Lt >= 0) & (first_Lt <= len(around_AB) - 1)
    pairs_L = paired_Lt.sum(axis=1)
    x_tK = motion_TK[ticks] - motion_TK[ticks].mean(axis=0)
    y_LtB = _between(around_AB, first_Lt) * paired_Lt[..., None]
    n = np.maximum(1, pairs_L)[:, None, None].astype(np.float64)

    # moments of the pairs of each lag
    weight_Lt = paired_Lt.astype(np.float32)
    squares_tKK = x_tK[:, :, None] * x_tK[:, None, :]
    mean_x, mean_y = (weight_Lt @ x_tK)[:, :, None] / n, y_LtB.sum(axis=1)[:, :, None] / n
    xx = np.tensordot(weight_Lt, squares_tKK, 1) / n - mean_x * mean_x.transpose(0, 2, 1)
    yy = y_LtB.transpose(0, 2, 1) @ y_LtB / n - mean_y * mean_y.transpose(0, 2, 1)
    xy = x_tK.T @ y_LtB / n - mean_x * mean_y.transpose(0, 2, 1)

    # their correlations
    scale_x, scale_y = _inverse_spread(xx), _inverse_spread(yy)
    xx = xx * scale_x * scale_x.transpose(0, 2, 1) + _RIDGE * np.eye(xx.shape[1])
    yy = yy * scale_y * scale_y.transpose(0, 2, 1) + _RIDGE * np.eye(yy.shape[1])
    xy = xy * scale_x * scale_y.transpose(0, 2, 1)
    explained = np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.transpose(0, 2, 1))
    score_L: NDArray[np.float64] = np.trace(explained, axis1=1, axis2=2)
    score_L[pairs_L < max(_FEWEST_TICKS / 2, len(ticks) / 2)] = np.nan
    return score_L


def _between(x_AB: NDArray[np.float32], row_Lt: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values at rows, and linearly between them."""
    whole = np.floor(row_Lt).astype(np.int64)
    part = (row_Lt - whole).astype(np.float32)[..., None]
    last = len(x_AB) - 1
    low: NDArray[np.float32] = x_AB[whole.clip(0, last)]
    if not part.any():
        return low
    mixed: NDArray[np.float32] = low + part * (x_AB[(whole + 1).clip(0, last)] - low)
    return mixed


def _inverse_spread(covariance_LKK: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the standard deviations, (L, K, 1); 0 where a feature is constant."""
    variance = np.diagonal(covariance_LKK, axis1=1, axis2=2)[:, :, None]
    inverse: NDArray[np.float64] = np.where(
        variance > _CONSTANT, 1 / np.sqrt(np.maximum(variance, _CONSTANT)), 0
    )
    return inverse


def _refined(x_N: NDArray[np.float64], score_N: NDArray[np.float64], best: int) -> float:
    """Place of the peak between samples: the vertex of the parabola through three of them."""
    if not 0 < best < len(x_N) - 1:
        return float(x_N[best])
    before, here, after = score_N[best - 1 : best + 2]
    bend = before - 2 * here + after
    if not bend < 0:
        return float(x_N[best])
    return float(x_N[best] + 0.5 * (before - after) / bend * (x_N[best + 1] - x_N[best]))


class _Drift(NamedTuple):
    """Lag and drift that fit best together.

    Attributes:
        lag_frames: At the middle of the clip.
        spread_frames: Lag at the end over that at the start.
        score: How well they fit.
        others: Scores of lags and drifts that are far from them.
    """

    lag_frames: float
    spread_frames: float
    score: float
    others: NDArray[np.float64]


def _drift(
    motion_TK: NDArray[np.float32],
    sound_AB: NDArray[np.float32],
    counted_T: NDArray[np.bool_],
    lags_L: NDArray[np.float64],
) -> _Drift:
    coarse_L = lags_L[:: ROWS_PER_FRAME // _STEP_ROWS]
    spread_S = np.arange(-_MAX_SPREAD_FRAMES, _MAX_SPREAD_FRAMES + 1.0, _SPREAD_STEP_FRAMES)
    score_SL = np.stack(
        [
            _scores(motion_TK, sound_AB, counted_T, coarse_L, spread_frames=spread)
            for spread in spread_S
        ]
    )
    score_S = np.where(np.isfinite(score_SL), score_SL, -np.inf).max(axis=1)
    best = int(score_S.argmax())
    spread = _refined(spread_S, score_S, best)
    middle = coarse_L[int(np.nanargmax(score_SL[best]))]
    fine_L = lags_L[np.abs(lags_L - middle) <= _PEAK_FRAMES]
    score_L = _scores(motion_TK, sound_AB, counted_T, fine_L, spread_frames=spread)
    at = int(np.where(np.isfinite(score_L), score_L, -np.inf).argmax())
    # with the drift the lag of both ends changes by half as much
    apart_SL = np.maximum(np.abs(coarse_L - middle), np.abs(spread_S[:, None] - spread) / 2)
    return _Drift(
        lag_frames=_refined(fine_L, score_L, at),
        spread_frames=spread,
        score=float(score_L[at]),
        others=score_SL[apart_SL > _PEAK_FRAMES],
    )


def _confidence(peak: float, others: NDArray[np.float64]) -> float:
    others = others[np.isfinite(others)]
    if len(others) < 2 or not others.std() > 0:
        return 0.0
    margin = (peak - float(others.max())) / float(others.std())
    return 1 - math.exp(-max(0.0, margin))
