import numpy as np
import pytest

from mssync.landmarks import ibug
from mssync.metrics import bootstrap, dynamics

FRAMES = 120


def walk(seed, size=0.002):
    rng = np.random.default_rng(seed)
    face = np.random.default_rng(0).uniform(0.2, 0.8, size=(68, 2))
    steps = rng.normal(0, size, (FRAMES, 1, 2)).cumsum(axis=0)
    return (face + steps).astype(np.float32)


@pytest.mark.parametrize("compare", dynamics.COMPARED.values())
def test_the_truth_has_no_error(compare):
    assert compare(walk(1), walk(1)) == pytest.approx(0, abs=1e-6)


def test_a_mouth_that_opens_twice_as_far_is_wrong_by_as_much():
    truth = np.repeat(walk(0)[:1], FRAMES, axis=0)
    truth[:, 62], truth[:, 66] = [0.5, 0.5], [0.5, 0.6]
    wide = truth.copy()
    wide[:, 66, 1] = 0.7
    scale = ibug.interocular_distance(truth[0])
    assert dynamics.mouth_error(wide, truth) == pytest.approx(0.1 / scale, rel=1e-4)


def test_twice_the_movement_is_six_decibels_off():
    truth = walk(2, size=0.01)
    twice = truth[0] + 2 * (truth - truth[0])
    for compare in (dynamics.speed_spectrum_distance, dynamics.acceleration_spectrum_distance):
        assert compare(twice, truth) == pytest.approx(6.02, abs=0.1)


@pytest.mark.parametrize("measure", [dynamics.place_spread, dynamics.mouth_error])
def test_the_size_of_the_crop_changes_nothing(measure):
    small = (walk(3) * 0.5 + 0.1).astype(np.float32)
    if measure is dynamics.mouth_error:
        assert measure(small, walk(3)) == pytest.approx(0, abs=1e-5)
    else:
        assert measure(small) == pytest.approx(measure(walk(3)), rel=1e-3)


def test_a_head_that_moves_more_has_a_larger_spread():
    assert dynamics.place_spread(walk(4, 0.02)) > 5 * dynamics.place_spread(walk(4, 0.002))
    assert dynamics.axes_spread(walk(4)) == pytest.approx(0, abs=1e-4)


def test_one_movement_for_all_is_no_diversity():
    assert dynamics.diversity([walk(5)] * 3) == pytest.approx(0, abs=1e-6)
    assert dynamics.diversity([walk(5), walk(6), walk(7)]) > 0.01
    assert dynamics.diversity([walk(5)]) is None


def test_resampling_speakers_widens_an_interval_of_alike_sequences():
    values = np.repeat(np.random.default_rng(0).normal(size=6), 10)
    speakers = [str(number) for number in np.repeat(np.arange(6), 10)]

    def width(found):
        return found.high - found.low

    alone = bootstrap.mean(values, rng=np.random.default_rng(1), resamples=500)
    grouped = bootstrap.clustered_mean(
        values, speakers, rng=np.random.default_rng(1), resamples=500
    )
    assert grouped.value == pytest.approx(alone.value)
    assert (grouped.n, alone.n) == (6, 60)
    assert width(grouped) > 2 * width(alone)


def test_groups_of_one_are_the_plain_interval():
    values = np.random.default_rng(0).normal(size=20)
    plain = bootstrap.mean(values, rng=np.random.default_rng(1), resamples=500)
    grouped = bootstrap.clustered_mean(
        values,
        [f"{number:02d}" for number in range(20)],
        rng=np.random.default_rng(1),
        resamples=500,
    )
    assert grouped.value == pytest.approx(plain.value)
    assert (grouped.low, grouped.high) == pytest.approx((plain.low, plain.high))


def test_every_value_needs_a_group():
    with pytest.raises(ValueError, match="2 values need as many groups"):
        bootstrap.clustered_mean([1, 2], ["a"], rng=np.random.default_rng(0), resamples=100)
