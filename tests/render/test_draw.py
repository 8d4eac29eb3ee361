import numpy as np
import pytest

from mssync.landmarks import ibug
from mssync.render import draw


def lit(picture):
    """Rows and columns of the pixels that are not background."""
    return np.argwhere(np.abs(picture.astype(int) - draw.BACKGROUND).sum(axis=-1) > 60)


def test_every_part_of_the_face_is_drawn_in_its_colour_where_its_points_are(portrait):
    picture = draw.frame(portrait, 512).astype(int)
    parts = {"jaw": 8, "brows": 19, "nose": 28, "eyes": 36, "lips": 57}
    for part, point in parts.items():
        x, y = np.round(portrait[point] * 512).astype(int)
        near = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
        assert np.abs(near - draw.COLOURS[part]).sum(axis=1).min() < 30, part


def test_x_points_right_and_y_points_down(portrait):
    here = lit(draw.frame(portrait, 256)).mean(axis=0)
    moved = lit(draw.frame(portrait + np.float32([16 / 256, 4 / 256]), 256)).mean(axis=0)
    assert moved - here == pytest.approx([4, 16], abs=0.1)


def test_a_move_below_a_pixel_is_seen(portrait):
    quarter_px = np.float32(0.25 / 256)
    assert not np.array_equal(draw.frame(portrait, 256), draw.frame(portrait + quarter_px, 256))


def test_an_open_mouth_looks_different_only_around_the_mouth(portrait):
    open_mouth = portrait.copy()
    open_mouth[[56, 57, 58, 65, 66, 67], 1] += 0.06
    changed = np.argwhere((draw.frame(portrait, 256) != draw.frame(open_mouth, 256)).any(axis=-1))
    lips = portrait[list(ibug.LIPS)] * 256
    assert changed[:, 0].min() > lips[:, 1].min() - 3
    assert changed[:, 1].min() > lips[:, 0].min() - 3
    assert changed[:, 1].max() < lips[:, 0].max() + 3


def test_points_outside_the_crop_are_cut_off(portrait):
    assert draw.frame(portrait + 3, 128).shape == (128, 128, 3)
    assert len(lit(draw.frame(portrait + 3, 128))) == 0


def test_all_68_points_are_on_a_line():
    drawn = {point for points, _ in ibug.POLYLINES.values() for point in points}
    assert drawn == set(range(68))


def test_points_that_are_not_numbers_are_refused(portrait):
    with pytest.raises(ValueError, match="68 finite points"):
        draw.frame(portrait * np.float32("nan"), 128)


def test_an_odd_size_is_refused(portrait):
    with pytest.raises(ValueError, match="even, found 127"):
        draw.frame(portrait, 127)


@pytest.mark.parametrize("size_px", [64, 102, 320])
def test_panels_stand_side_by_side_under_their_names_in_even_size(portrait, size_px):
    motion = np.repeat(portrait[None], 3, axis=0)
    pictures = list(draw.panels({"Real": motion, "Generated": motion}, size_px))
    assert len(pictures) == 3
    height, width, _ = pictures[0].shape
    header = height - size_px
    assert width == 2 * size_px
    assert height % 2 == 0
    assert len(lit(pictures[0][:header])) > 0
    left = pictures[0][header:, : size_px - 1]
    assert np.array_equal(left, draw.frame(portrait, size_px)[:, :-1])


def test_each_panel_shows_its_own_motion(portrait):
    still = np.repeat(portrait[None], 2, axis=0)
    moving = still.copy()
    moving[1] += 0.05
    first, second = draw.panels({"Still": still, "Moving": moving}, 128)
    assert np.array_equal(first[:, :127], second[:, :127])
    assert not np.array_equal(first[:, 129:], second[:, 129:])


def test_panels_of_different_length_are_refused(portrait):
    motion = np.repeat(portrait[None], 3, axis=0)
    with pytest.raises(ValueError, match="one length"):
        next(draw.panels({"a": motion, "b": motion[1:]}, 64))
