"""How late is the sound, how sure is that, and does it drift? From landmarks and log mel energies.

No weights: for every lag, the mouth's shape and speed are set against the sound's level and change
in a few bands, by canonical correlation within the clip alone (Hotelling, "Relations between two
sets of variates", 1936; its use for audio-visual synchrony: Sargin et al., "Audiovisual
synchronization and fusion using canonical correlation analysis", 2007). Where mouth and sound
belong together one lag stands out.

Axes: T ticks (25 Hz), U ticks of a stretched clock, A = 4 T audio rows (100 Hz), S every fourth of
them, P the same with zeros around, L lags, K motion features, B audio features; of landmarks P = 68
points, D = 2; M = 26 mel bands.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

# The lag that is looked for, and how far others are compared with it.
MAX_LAG_FRAMES = 16
MAX_REACH_FRAMES = 40  # no tick is compared with sound that lies farther
_STEP_ROWS = 2
_PEAK_FRAMES = 5  # lags so near to the best one belong to its peak
FEWEST_TICKS = 40  # shorter clips tell nothing
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
_HALF = np.float32(0.5)
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

Scores = Callable[[NDArray[np.float64], float], NDArray[np.float64]]


def estimate(
    landmarks_TPD: NDArray[np.float32],
    log_mel_AM: NDArray[np.float32],
    counted_T: NDArray[np.bool_],
) -> Offset:
    """The offset of a clip's sound, without a model.

    Args:
        landmarks_TPD: iBUG-68 points of one shot, (T, 68, 2).
        log_mel_AM: Natural log of mel energies of the peak-normalised sound, (4 T, 26).
        counted_T: Ticks at which the face was found.
    """
    if counted_T.sum() < FEWEST_TICKS:
        return UNKNOWN
    shape_TK = _mouth(landmarks_TPD)
    sound_AB = _sound(log_mel_AM)
    moves = shape_TK[counted_T].std(axis=0).max() > _STILL
    if not moves or not sound_AB.std(axis=0).max() > _SILENT:
        return UNKNOWN
    motion_TK = np.concatenate([_detrend(shape_TK), np.gradient(shape_TK, axis=0)], axis=1)
    return find(_Coupling(motion_TK, sound_AB, counted_T), len(motion_TK))


def find(score: Scores, ticks: int) -> Offset:
    """The offset at which a score stands out.

    Args:
        score: Of lags (L,) in frames at the middle of the clip, and of the lag of the last tick
            over that of the first: higher where mouth and sound agree better, NaN where too few
            ticks pair up. Lags come in steps of half a frame.
        ticks: Length of the clip.

    Returns:
        `UNKNOWN` where no lag has a score.
    """
    lags_L = np.arange(-MAX_REACH_FRAMES, MAX_REACH_FRAMES + 1e-9, _STEP_ROWS / ROWS_PER_FRAME)
    score_L = score(lags_L, 0.0)
    near_L = (np.abs(lags_L) <= MAX_LAG_FRAMES) & np.isfinite(score_L)
    if not near_L.any():
        return UNKNOWN
    best = int(np.where(near_L, score_L, -np.inf).argmax())
    others = score_L[np.abs(lags_L - lags_L[best]) > _PEAK_FRAMES]
    lag, peak, drift = _refined(lags_L, score_L, best), float(score_L[best]), math.nan
    if ticks >= _FEWEST_TICKS_OF_DRIFT:
        found = _drift(score, lags_L[near_L])
        lag, drift = found.lag_frames, 1000 * found.spread_frames / (ticks - 1)
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


def _sound(log_mel_AM: NDArray[np.float32]) -> NDArray[np.float64]:
    """Level of a few bands around each row, and its change: (A, 12)."""
    soft_AM = np.log(np.exp(log_mel_AM.astype(np.float64)) + _NOISE_FLOOR)
    level_AB = np.stack([soft_AM[:, low:high].mean(axis=1) for low, high in _BANDS], axis=1)
    slow_AB = uniform_filter1d(level_AB, _SLOPE_ROWS, axis=0, mode="nearest")
    return np.concatenate([level_AB, np.gradient(slow_AB, axis=0)], axis=1)


def _detrend(x_TK: NDArray[np.float64]) -> NDArray[np.float64]:
    slow_TK: NDArray[np.float64] = uniform_filter1d(x_TK, _DETREND_FRAMES, axis=0, mode="reflect")
    return x_TK - slow_TK


class _Coupling:
    """How well mouth and sound go together at any lag: the sum of squared canonical correlations.

    Args:
        motion_TK: Features of the mouth.
        sound_AB: Features of the sound.
        counted_T: Ticks to look at.
    """

    def __init__(
        self,
        motion_TK: NDArray[np.float64],
        sound_AB: NDArray[np.float64],
        counted_T: NDArray[np.bool_],
    ) -> None:
        centred_TK = motion_TK - motion_TK[counted_T].mean(axis=0)
        self._motion_TK = centred_TK.astype(np.float32)
        self._counted_T = counted_T
        around_AB = np.lib.stride_tricks.sliding_window_view(sound_AB, ROWS_PER_FRAME, axis=0).mean(
            axis=-1
        )
        # moments of what is centred lose few digits
        self._around_AB = (around_AB - around_AB.mean(axis=0)).astype(np.float32)

    def __call__(self, lags_L: NDArray[np.float64], spread_frames: float) -> NDArray[np.float64]:
        """Score of each lag (`find`)."""
        first, motion_UK, counted_U = self._stretched(spread_frames)
        # the tick's middle and the middle of the rows around it
        start_L = np.round(ROWS_PER_FRAME * (first + lags_L) - ROWS_PER_FRAME / 2).astype(np.int64)
        score_L = np.full(len(lags_L), np.nan)
        for phase in np.unique(start_L % ROWS_PER_FRAME):
            chosen = np.flatnonzero(start_L % ROWS_PER_FRAME == phase)
            shift_L = (start_L[chosen] - phase) // ROWS_PER_FRAME
            every = np.arange(shift_L[0], shift_L[-1] + 1)
            found = _canonical(motion_UK, self._around_AB[phase::ROWS_PER_FRAME], counted_U, every)
            score_L[chosen] = found[shift_L - every[0]]
        return score_L

    def _stretched(
        self, spread_frames: float
    ) -> tuple[int, NDArray[np.float32], NDArray[np.bool_]]:
        """The motion on the clock of a sound that drifts: its first tick there, and its ticks."""
        if spread_frames == 0:
            return 0, self._motion_TK, self._counted_T
        last = len(self._counted_T) - 1
        ticks_U = np.arange(math.ceil(-spread_frames / 2), math.floor(last + spread_frames / 2) + 1)
        at_U = np.clip((ticks_U + spread_frames / 2) / (1 + spread_frames / last), 0, last)
        low_U = np.minimum(at_U.astype(np.int64), last - 1)
        part_U = (at_U - low_U).astype(np.float32)
        # between two ticks, of which one may not count
        low_weight_U = (1 - part_U) * self._counted_T[low_U]
        high_weight_U = part_U * self._counted_T[low_U + 1]
        weight_U = low_weight_U + high_weight_U
        motion_UK = low_weight_U[:, None] * self._motion_TK[low_U]
        motion_UK += high_weight_U[:, None] * self._motion_TK[low_U + 1]
        motion_UK /= np.maximum(weight_U, _HALF)[:, None]
        return int(ticks_U[0]), motion_UK, weight_U >= _HALF


def _canonical(
    motion_TK: NDArray[np.float32],
    sound_SB: NDArray[np.float32],
    counted_T: NDArray[np.bool_],
    shift_L: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sum of squared canonical correlations where tick t goes with sample t + shift of the sound.

    NaN where too few ticks pair up. The shifts are consecutive.
    """
    (ticks, features), (samples, bands), shifts = motion_TK.shape, sound_SB.shape, len(shift_L)
    before = max(0, -int(shift_L[0]))
    after = max(0, ticks + int(shift_L[-1]) - samples)
    first = before + int(shift_L[0])
    # the sound with zeros around it, and what tick 0 .. T goes with at any shift, as a view
    around = slice(first, first + ticks + shifts - 1)
    y_PB = np.pad(sound_SB, ((before, after), (0, 0)))[around]
    there_P = np.pad(np.ones(samples, np.float32), (before, after))[around]
    y_TLB = np.lib.stride_tricks.as_strided(
        y_PB, (ticks, shifts, bands), (y_PB.strides[0], *y_PB.strides)
    )
    there_LT = np.lib.stride_tricks.sliding_window_view(there_P, ticks)
    weight_T = counted_T.astype(np.float32)
    weight_LP = np.lib.stride_tricks.sliding_window_view(np.pad(weight_T, shifts - 1), len(y_PB))[
        ::-1
    ]

    # moments of the pairs of each shift
    x_TK = motion_TK * weight_T[:, None]
    squares_TX = (x_TK[:, :, None] * x_TK[:, None, :]).reshape(ticks, -1)
    squares_PY = (y_PB[:, :, None] * y_PB[:, None, :]).reshape(len(y_PB), -1)
    pairs_L = there_LT @ weight_T
    n = np.maximum(1.0, pairs_L).astype(np.float64)[:, None, None]
    mean_x, mean_y = (there_LT @ x_TK)[:, :, None] / n, (weight_LP @ y_PB)[:, :, None] / n
    xx = (there_LT @ squares_TX).reshape(shifts, features, features) / n
    yy = (weight_LP @ squares_PY).reshape(shifts, bands, bands) / n
    xy = (x_TK.T @ y_TLB.reshape(ticks, -1)).reshape(features, shifts, bands).transpose(1, 0, 2) / n
    xx -= mean_x * mean_x.transpose(0, 2, 1)
    yy -= mean_y * mean_y.transpose(0, 2, 1)
    xy -= mean_x * mean_y.transpose(0, 2, 1)

    # their correlations
    scale_x, scale_y = _inverse_spread(xx), _inverse_spread(yy)
    xx = xx * scale_x * scale_x.transpose(0, 2, 1) + _RIDGE * np.eye(xx.shape[1])
    yy = yy * scale_y * scale_y.transpose(0, 2, 1) + _RIDGE * np.eye(yy.shape[1])
    xy = xy * scale_x * scale_y.transpose(0, 2, 1)
    explained = np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.transpose(0, 2, 1))
    score_L: NDArray[np.float64] = np.trace(explained, axis1=1, axis2=2)
    score_L[pairs_L < max(FEWEST_TICKS / 2, counted_T.sum() / 2)] = np.nan
    return score_L


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
    if not (math.isfinite(bend) and bend < 0):
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


def _drift(score: Scores, lags_L: NDArray[np.float64]) -> _Drift:
    coarse_L = lags_L[:: ROWS_PER_FRAME // _STEP_ROWS]
    spread_S = np.arange(-_MAX_SPREAD_FRAMES, _MAX_SPREAD_FRAMES + 1.0, _SPREAD_STEP_FRAMES)
    score_SL = np.stack([score(coarse_L, spread) for spread in spread_S])
    score_S = np.where(np.isfinite(score_SL), score_SL, -np.inf).max(axis=1)
    best = int(score_S.argmax())
    spread = _refined(spread_S, score_S, best)
    middle = coarse_L[int(np.nanargmax(score_SL[best]))]
    fine_L = lags_L[np.abs(lags_L - middle) <= _PEAK_FRAMES]
    score_L = score(fine_L, spread)
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
