import numpy as np
import pytest

from mssync.landmarks import boxes
from mssync.landmarks.detector import Box


def box(left, top, side, score=0.9):
    return Box(left, top, left + side, top + side, score)


def test_the_box_around_points_holds_them():
    points = np.array([[3, 9], [10, 2], [5, 5]], np.float32)
    assert boxes.around(points, 0.5) == Box(3, 2, 10, 9, 0.5)


def test_overlap_is_intersection_over_union():
    assert boxes.overlap(box(0, 0, 10), box(0, 0, 10)) == 1
    assert boxes.overlap(box(0, 0, 10), box(5, 0, 10)) == pytest.approx(50 / 150)
    assert boxes.overlap(box(0, 0, 10), box(10, 0, 10)) == 0


def test_of_two_boxes_of_one_face_the_surer_stays():
    found = [box(0, 0, 10, 0.6), box(1, 0, 10, 0.8), box(40, 0, 10, 0.5)]
    assert boxes.without_doubles(found) == [found[1], found[2]]


def test_half_way_between_two_boxes_lies_their_mean():
    mean = boxes.between(box(0, 0, 10, 0.6), box(10, 20, 20, 1.0), 0.5)
    assert mean == Box(5, 10, 20, 25, 0.8)


def test_faces_half_as_wide_as_the_widest_count_as_rivals():
    assert boxes.count_rivals([box(0, 0, 40), box(100, 0, 20), box(200, 0, 19)]) == 2
    assert boxes.count_rivals([]) == 0
