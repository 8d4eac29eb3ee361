import numpy as np
import pytest

from mssync.metrics import bootstrap


def rng():
    return np.random.default_rng(0)


@pytest.fixture
def spread():
    return np.random.default_rng(1).normal(5.0, 1.0, size=24)


def test_an_interval_holds_the_mean(spread):
    estimate = bootstrap.mean(spread, rng=rng(), resamples=500)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == pytest.approx(spread.mean())
    assert estimate.n == 24


def test_ninety_five_percent_of_intervals_hold_the_truth():
    draws = np.random.default_rng(2)
    estimates = [
        bootstrap.mean(draws.normal(size=40), rng=draws, resamples=200) for _ in range(200)
    ]
    holding = sum(estimate.low < 0 < estimate.high for estimate in estimates)
    assert 0.88 < holding / 200 < 0.99


def test_the_same_generator_state_gives_the_same_interval(spread):
    first = bootstrap.mean(spread, rng=rng(), resamples=200)
    assert bootstrap.mean(spread, rng=rng(), resamples=200) == first


def test_one_value_has_a_mean_but_no_interval():
    estimate = bootstrap.mean([3.0], rng=rng(), resamples=100)
    assert estimate == bootstrap.Estimate(3.0, None, None, 1)


def test_no_value_has_nothing():
    estimate = bootstrap.mean([float("nan")], rng=rng(), resamples=100)
    assert estimate == bootstrap.Estimate(None, None, None, 0)


def test_a_value_that_is_not_finite_is_left_out_and_not_counted():
    estimate = bootstrap.mean([1.0, float("nan"), 3.0], rng=rng(), resamples=100)
    assert (estimate.value, estimate.n) == (2.0, 2)


def test_pairing_sees_a_difference_that_is_smaller_than_the_spread(spread):
    score = bootstrap.normalised(
        spread + 0.05, ceiling_N=spread, floor_N=spread + 0.1, rng=rng(), resamples=200
    )
    assert score.value == pytest.approx(0.5)


def test_ceiling_scores_one_and_floor_scores_zero(spread):
    ceiling, floor = spread, spread + 2
    scores = [
        bootstrap.normalised(system, ceiling_N=ceiling, floor_N=floor, rng=rng(), resamples=200)
        for system in (ceiling, (ceiling + floor) / 2, floor)
    ]
    assert [score.value for score in scores] == pytest.approx([1.0, 0.5, 0.0])


def test_a_system_cannot_be_placed_when_truth_and_floor_look_alike(spread):
    noise = np.random.default_rng(3).normal(0, 0.5, size=24)
    assert abs(noise.mean()) < 0.2
    score = bootstrap.normalised(
        spread, ceiling_N=spread, floor_N=spread + noise, rng=rng(), resamples=500
    )
    assert score == bootstrap.Estimate(None, None, None, 24)


def test_one_value_places_no_system():
    score = bootstrap.normalised([1.0], ceiling_N=[0.0], floor_N=[2.0], rng=rng(), resamples=100)
    assert score.value is None


def test_scores_of_different_sequences_are_refused(spread):
    with pytest.raises(ValueError, match=r"paired by sequence, found lengths \[23, 24\]"):
        bootstrap.normalised(spread, ceiling_N=spread[1:], floor_N=spread, rng=rng(), resamples=100)
