import numpy as np
import pytest

from mssync.demo.portrait import find_knots, load_image
from mssync.render.puppet import SIZE_PX, puppet


@pytest.fixture(scope="module")
def face():
    """The demo's portrait, and its points in pixels."""
    picture = load_image()
    return picture, find_knots(picture)[:68, :2] * len(picture)


def moved(points_PD, dx=0.0, dy=0.0):
    return points_PD + np.array([dx, dy])


def test_a_face_that_stays_is_the_picture_around_it(face):
    picture, points = face
    first, second = puppet(picture, points, [points, points])
    assert first.shape == (SIZE_PX, SIZE_PX, 3)
    assert np.array_equal(first, second)


def test_the_face_goes_where_its_points_go_and_the_border_stays(face):
    picture, points = face
    still, away = puppet(picture, points, [points, moved(points, dx=12)])
    assert np.abs(still[:, 0].astype(int) - away[:, 0]).mean() < 3
    eyes = slice(220, 260), slice(190, 320)
    followed = np.roll(still, 12, axis=1)[eyes].astype(int) - away[eyes]
    stayed = still[eyes].astype(int) - away[eyes]
    assert np.abs(followed).mean() < np.abs(stayed).mean() / 2


def test_an_open_mouth_is_painted_dark(face):
    picture, points = face
    lower = points.copy()
    lower[[65, 66, 67, 55, 56, 57, 58, 59]] += (0, 25)
    shut, wide = puppet(picture, points, [points, lower])
    assert (wide.sum(axis=2) < 150).sum() > (shut.sum(axis=2) < 150).sum() + 200


def test_a_face_at_the_edge_and_a_small_picture_are_shown(face):
    picture, points = face
    cut = picture[80:430, 90:400]
    (frame,) = puppet(cut, moved(points, -90, -80), [moved(points, -90, -80)])
    assert frame.shape == (SIZE_PX, SIZE_PX, 3)


def test_lips_that_cross_look_shut(face):
    picture, points = face
    shut, crossed = points.copy(), points.copy()
    shut[[65, 66, 67]] = points[[63, 62, 61]]
    crossed[[65, 66, 67]] = points[[63, 62, 61]] - (0, 12)
    met, passed = puppet(picture, points, [shut, crossed])
    dark = [(frame[250:400, 150:360].sum(axis=2) < 120).sum() for frame in (met, passed)]
    assert dark[1] <= dark[0] + 60
