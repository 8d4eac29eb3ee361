import numpy as np
import pytest

from mssync.demo.portrait import Portrait, find_knots
from mssync.errors import ToolError
from mssync.points import POINT_SETS


@pytest.fixture(scope="module")
def knots(corpus):
    with np.load(corpus / "portrait.npz") as stored:
        return stored["knots_KX"]


@pytest.fixture(scope="module")
def chart(knots):
    """A picture whose colours are its own coordinates: red across, green down."""
    ramp = np.broadcast_to(np.linspace(0, 255, 512), (512, 512))
    picture = np.stack([ramp, ramp.T, np.zeros((512, 512))], axis=-1)
    return Portrait(picture.astype(np.uint8), knots)


def test_the_warp_is_exact_at_the_landmarks(chart, knots):
    moved = knots[:, :2] + np.random.default_rng(0).normal(0, 0.004, (75, 2))
    frame = chart.render(moved, size_px=256)
    for point in POINT_SETS["no_lips"].indices:
        x, y = (moved[point] * 256 - 0.5).round().astype(int)
        # the pixel's centre is up to half a pixel from the point
        assert frame[y, x, :2] == pytest.approx(knots[point, :2] * 255, abs=3)


def test_a_face_at_rest_is_not_bent(chart, knots):
    frame = chart.render(knots[:, :2], size_px=128)
    across = (np.arange(128) + 0.5) / 128 * 255
    np.testing.assert_allclose(frame[20], chart.image_HWC[82, 2::4], atol=2)
    assert frame[20, :, 0] == pytest.approx(across, abs=2)


def test_an_open_mouth_is_dark_inside_with_teeth_above(knots):
    skin = Portrait(np.full((512, 512, 3), 160, np.uint8), knots)
    open_ = knots[:, :2].copy()
    open_[65:68, 1] += 0.06
    frame = skin.render(open_, size_px=256)
    x = round(open_[66, 0] * 256)
    top, bottom = open_[62, 1] * 256, open_[66, 1] * 256
    assert frame[round(top + 0.7 * (bottom - top)), x].max() < 80
    assert frame[round(top + 0.15 * (bottom - top)), x].min() > 170
    assert (frame[round(bottom) + 5, x] == 160).all()


def test_a_portrait_mirrored_twice_is_itself(chart):
    twice = chart.mirrored().mirrored()
    np.testing.assert_array_equal(twice.image_HWC, chart.image_HWC)
    np.testing.assert_allclose(twice.knots_KX, chart.knots_KX)


def test_a_picture_without_a_face_has_no_knots():
    with pytest.raises(ToolError, match="sees no face"):
        find_knots(np.zeros((256, 256, 3), np.uint8))
