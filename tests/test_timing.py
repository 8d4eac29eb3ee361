import pytest

from mssync import timing


@pytest.mark.parametrize(("duration_s", "frames"), [(0, 1), (0.04, 2), (0.0399, 1), (7.96, 200)])
def test_ticks_lie_on_both_ends_of_a_span(duration_s, frames):
    assert timing.frames_within(duration_s) == frames


def test_a_span_that_misses_its_last_tick_by_rounding_keeps_it():
    assert timing.frames_within(sum([0.04] * 99)) == 100


def test_four_rows_and_640_samples_make_a_frame():
    assert timing.ROWS_PER_FRAME * timing.SAMPLES_PER_ROW == timing.SAMPLES_PER_FRAME == 640


def test_a_negative_duration_is_refused():
    with pytest.raises(ValueError, match="cannot be negative"):
        timing.frames_within(-1)
