"""Means with bootstrap intervals, and scores between a floor and a ceiling.

What is resampled are the values given: one a sequence in `evaluate`, never windows or frames.
`mean` treats several sequences of one clip or speaker as independent, which makes its intervals too
narrow over few speakers; `clustered_mean` resamples clips or speakers.

Axes: N values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number over `n` values and its 95 % percentile interval.

    Attributes:
        value: The estimate; None where it does not exist.
        low: Lower end; None below two values.
        high: Upper end; None below two values.
        n: Values it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def mean(values_N: Sequence[float], *, rng: np.random.Generator, resamples: int) -> Estimate:
    """Mean of the values; those that are not finite are left out, and `n` says so."""
    values = np.asarray(values_N, dtype=np.float64)
    return _estimate(_row_mean, [values[np.isfinite(values)]], rng, resamples)


def clustered_mean(
    values_N: Sequence[float],
    groups_N: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> Estimate:
    """Mean of the values, with an interval that resamples whole groups: clips, or speakers.

    Sequences of one group are alike, so that drawing them one by one makes intervals too narrow.

    Args:
        values_N: One a sequence; those that are not finite are left out.
        groups_N: The group of each.
        rng: Draws the resamples.
        resamples: Number of resamples.

    Returns:
        `n` counts the groups; the ends are None below two.

    Raises:
        ValueError: If the two differ in length.
    """
    if len(values_N) != len(groups_N):
        raise ValueError(f"{len(values_N)} values need as many groups, found {len(groups_N)}")
    values = np.asarray(values_N, dtype=np.float64)
    finite = np.isfinite(values)
    names, index_N = np.unique(np.asarray(groups_N)[finite], return_inverse=True)
    sums_G = np.bincount(index_N, values[finite], len(names)).astype(np.float64)
    counts_G = np.bincount(index_N, minlength=len(names)).astype(np.float64)
    return _estimate(_row_pooled_mean, [sums_G, counts_G], rng, resamples)


def normalised(
    system_N: Sequence[float],
    *,
    ceiling_N: Sequence[float],
    floor_N: Sequence[float],
    rng: np.random.Generator,
    resamples: int,
) -> Estimate:
    """(system - floor) / (ceiling - floor) of the means: 0 is the floor, 1 the ground truth.

    Higher is better whichever way the score itself points. The three are paired by sequence,
    and resampled together (docs/ms-sync.md, section 7).

    Args:
        system_N: Scores of the system, one a sequence.
        ceiling_N: Scores of the ground truth on the same sequences.
        floor_N: Scores of the floor (the audio of another clip) on the same sequences.
        rng: Draws the resamples.
        resamples: Number of resamples.

    Returns:
        `value` is None ("n/a") when the interval of (ceiling - floor) contains 0 or does not
        exist: the score cannot tell truth from floor, so nothing can be placed between them.

    Raises:
        ValueError: If the three differ in length.
    """
    samples = _finite_together(system_N, ceiling_N, floor_N)
    span = _estimate(_row_difference, samples[1:], rng, resamples)
    if span.low is None or span.high is None or span.low <= 0 <= span.high:
        return Estimate(None, None, None, span.n)
    return _estimate(_row_position, samples, rng, resamples)


def _finite_together(*rows: Sequence[float]) -> list[NDArray[np.float64]]:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise ValueError(f"scores are paired by sequence, found lengths {sorted(lengths)}")
    stacked = np.array([np.asarray(row, dtype=np.float64) for row in rows])
    return list(stacked[:, np.isfinite(stacked).all(axis=0)])


def _estimate(
    statistic: Callable[..., Any],
    samples: list[NDArray[np.float64]],
    rng: np.random.Generator,
    resamples: int,
) -> Estimate:
    n = len(samples[0])
    if n == 0:
        return Estimate(None, None, None, 0)
    value = float(statistic(*samples, axis=-1))
    if n == 1:
        return Estimate(value, None, None, 1)
    interval = bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=rng,
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n)


def _row_mean(values: NDArray[np.float64], *, axis: int) -> Any:  # noqa: ANN401 - array or scalar
    return values.mean(axis=axis)


def _row_pooled_mean(sums: NDArray[np.float64], counts: NDArray[np.float64], *, axis: int) -> Any:  # noqa: ANN401
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _row_difference(a: NDArray[np.float64], b: NDArray[np.float64], *, axis: int) -> Any:  # noqa: ANN401
    return (a - b).mean(axis=axis)


def _row_position(
    system: NDArray[np.float64],
    ceiling: NDArray[np.float64],
    floor: NDArray[np.float64],
    *,
    axis: int,
) -> Any:  # noqa: ANN401
    with np.errstate(divide="ignore", invalid="ignore"):
        return (system - floor).mean(axis=axis) / (ceiling - floor).mean(axis=axis)
