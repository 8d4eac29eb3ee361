"""How much better one system is than another on the same sequences, and how sure that is.

Both are scored on every sequence, so that what makes a sequence hard counts for both and falls out
of the difference. What is drawn again are speakers, with replacement, and within each of them
clips, with all their sequences: sequences of one person resemble each other, and the question is
how the difference would come out for other people. Every metric is looked at on the same draws.

Percentiles of so few speakers would make intervals too narrow. Their tails are therefore taken
further out, as far as Student's t with one degree of freedom less than there are speakers asks for
(the "expanded percentile interval" of T. Hesterberg, arXiv 1411.5279, section 4.2.1). With two or
three speakers that is the whole range of the draws.

Axes: N sequences, R draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


class Better(StrEnum):
    """Where a metric should go."""

    HIGHER = "higher"
    LOWER = "lower"
    TRUTH = "truth"  # towards the ground truth's value


@dataclass(frozen=True)
class Draws:
    """How often each sequence counts in each draw.

    Attributes:
        counts_RN: Whole numbers, as floats.
        units: What is independent: speakers, or the clips of a single one.
    """

    counts_RN: Floats
    units: int


@dataclass(frozen=True)
class Gain:
    """A difference for the better, and its interval.

    Attributes:
        value: Positive: the first system is better. None where there is nothing to compare.
        low: Lower end; None below two speakers (or clips, of a single speaker).
        high: Upper end; the same.
        n: Sequences that both have.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def draw(
    speakers_N: Sequence[str],
    clips_N: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> Draws:
    """Draw speakers with replacement, and for each of them as many clips as they have.

    Args:
        speakers_N: Who speaks in each sequence.
        clips_N: Which clip it is of.
        rng: Draws.
        resamples: Number of draws, R.

    Raises:
        ValueError: If the two differ in length, or there is no sequence.
    """
    if len(speakers_N) != len(clips_N) or not speakers_N:
        raise ValueError(
            f"each sequence has a speaker and a clip, found {len(speakers_N)} and {len(clips_N)}"
        )
    places = dict[str, dict[str, list[int]]]()
    for index, (speaker, clip) in enumerate(zip(speakers_N, clips_N, strict=True)):
        places.setdefault(speaker, {}).setdefault(clip, []).append(index)
    speakers = len(places)
    times_RS = rng.multinomial(speakers, [1 / speakers] * speakers, size=resamples)
    counts_RN = np.zeros((resamples, len(speakers_N)))
    for times_R, clips in zip(times_RS.T, places.values(), strict=True):
        drawn_RC = rng.multinomial(times_R * len(clips), [1 / len(clips)] * len(clips))
        for count_R, indices in zip(drawn_RC.T, clips.values(), strict=True):
            counts_RN[:, indices] = count_R[:, None]
    units = speakers if speakers > 1 else len(next(iter(places.values())))
    return Draws(counts_RN, units)


def gain(
    ours_N: Sequence[float],
    theirs_N: Sequence[float],
    draws: Draws,
    *,
    better: Better,
    confidence: float,
    truth_N: Sequence[float] | None = None,
) -> Gain:
    """How much better the mean of the first system is, in the metric's own unit.

    Args:
        ours_N: Scores of the first system.
        theirs_N: Scores of the second, on the same sequences.
        draws: As `draw` gives them.
        better: Where the metric should go. `TRUTH`: how much nearer the mean is to the ground
            truth's mean.
        confidence: Of the interval, in (0, 1).
        truth_N: Scores of the ground truth, for `TRUTH`.

    Raises:
        ValueError: If lengths differ, or `TRUTH` is asked for without one.
    """
    if better is Better.TRUTH and truth_N is None:
        raise ValueError("nearer to the ground truth than another takes the ground truth's scores")
    rows = [ours_N, theirs_N] + ([truth_N] if truth_N is not None else [])
    means = _means(rows, draws)
    if means is None:
        return Gain(None, None, None, 0)
    ours, theirs, *truth = means.values
    if better is Better.TRUTH:
        gains = np.abs(theirs - truth[0]) - np.abs(ours - truth[0])
    else:
        gains = ours - theirs if better is Better.HIGHER else theirs - ours
    return _gain(gains, means.n, draws.units, confidence)


def gain_of_place(
    ours_N: Sequence[float],
    theirs_N: Sequence[float],
    draws: Draws,
    *,
    ceiling_N: Sequence[float],
    floor_N: Sequence[float],
    confidence: float,
) -> Gain:
    """The same in the unit of `bootstrap.normalised`: 0 is the floor, 1 the ground truth.

    Higher is better whichever way the score itself points.

    Returns:
        `value` None where the interval of (ceiling - floor) contains 0 or does not exist: nothing
        can be placed between the two.

    Raises:
        ValueError: If lengths differ.
    """
    means = _means([ours_N, theirs_N, ceiling_N, floor_N], draws)
    if means is None:
        return Gain(None, None, None, 0)
    ours, theirs, ceiling, floor = means.values
    span = _gain(ceiling - floor, means.n, draws.units, confidence)
    if span.low is None or span.high is None or span.low <= 0 <= span.high:
        return Gain(None, None, None, means.n)
    return _gain((ours - theirs) / (ceiling - floor), means.n, draws.units, confidence)


@dataclass(frozen=True)
class _Means:
    """Means of several rows: first over all sequences, then in each draw that has a sequence."""

    values: list[Floats]
    n: int


def _means(rows: Sequence[Sequence[float]], draws: Draws) -> _Means | None:
    """None where no sequence has a finite score in every row."""
    lengths = {len(row) for row in rows} | {draws.counts_RN.shape[1]}
    if len(lengths) != 1:
        raise ValueError(f"scores are paired by sequence, found lengths {sorted(lengths)}")
    stacked = np.array(rows, dtype=np.float64)
    finite = np.all(np.isfinite(stacked), axis=0)
    if not finite.any():
        return None
    counts = np.vstack([np.ones(stacked.shape[1]), draws.counts_RN])[:, finite]
    total = counts.sum(axis=1)
    kept = total > 0
    weights = counts[kept] / total[kept, None]
    return _Means([weights @ row for row in stacked[:, finite]], int(finite.sum()))


def _gain(values: Floats, n: int, units: int, confidence: float) -> Gain:
    """Estimate and interval of a value over all sequences, followed by those of the draws."""
    drawn = values[1:]
    if units < 2 or not len(drawn):
        return Gain(float(values[0]), None, None, n)
    quantile = stats.t.ppf((1 + confidence) / 2, units - 1) * np.sqrt(units / (units - 1))
    tail = float(stats.norm.sf(quantile))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Gain(float(values[0]), float(low), float(high), n)
