import numpy as np
import pytest

from mssync.landmarks import ibug


def test_flipping_twice_changes_nothing():
    assert (ibug.FLIP[ibug.FLIP] == np.arange(68)).all()


def test_flipping_swaps_the_sides():
    assert ibug.FLIP[[0, 8, 17, 27, 36, 41, 48, 55, 60, 66]].tolist() == [
        *[16, 8, 26, 27, 45, 46, 54, 59, 64, 66]
    ]


def test_every_point_is_on_a_polyline():
    drawn = [point for points, _ in ibug.POLYLINES.values() for point in points]
    assert sorted(drawn) == list(range(68))


def test_a_mesh_of_too_few_points_is_refused():
    with pytest.raises(ValueError, match="at least 468 points"):
        ibug.from_mediapipe(np.zeros((68, 2), np.float32))
