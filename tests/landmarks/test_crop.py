import numpy as np
import pytest

from mssync.landmarks import crop


@pytest.fixture
def track():
    """A face of 50 by 30 px that moves right by 50 px, 2 px a tick."""
    grid = np.stack(np.meshgrid(np.arange(17), np.arange(4)), axis=-1).reshape(1, 68, 2)
    moved = 2.0 * np.arange(26)[:, None, None] * np.array([1.0, 0.0])
    return (grid * np.array([50 / 16, 10.0]) + moved).astype(np.float32)


def test_smoothing_keeps_a_straight_move_and_halves_nothing_else(track):
    smoothed = crop.smooth(track, 3)
    np.testing.assert_allclose(smoothed[1:-1], track[1:-1], atol=1e-4)
    np.testing.assert_array_equal(crop.smooth(track, 1), track)
    with pytest.raises(ValueError, match="odd"):
        crop.smooth(track, 2)


def test_the_crop_is_a_square_around_the_whole_track(track):
    left, top, side = crop.square_crop(track, 1.5)
    assert side == pytest.approx(150)
    assert (left, top) == pytest.approx((50 - 75, 15 - 75))


def test_a_single_face_is_put_where_another_one_lies():
    wanted = np.random.default_rng(0).uniform(0.2, 0.8, (68, 2)).astype(np.float32)
    left, top, side = crop.crop_like(wanted * 300 + np.array([40, -20], np.float32), wanted)
    np.testing.assert_allclose([left, top, side], [40, -20, 300], atol=0.01)
