import numpy as np
import pytest

from mssync.landmarks import ibug
from mssync.landmarks.detector import Box, open_backend


@pytest.fixture
def backend(tiny):
    with open_backend(tiny.extract_landmarks, device="cpu") as opened:
        yield opened


@pytest.fixture
def points(backend, portrait):
    (found,) = backend.detect([portrait])
    (face,) = backend.landmarker().points([portrait], found, [[]])
    return face.points_PD


def test_mediapipe_finds_the_face_of_a_portrait(backend, portrait):
    (found,) = backend.detect([portrait])
    assert len(found) == 1
    assert found[0].score > 0.7
    assert 60 < found[0].width < 160


def test_the_map_puts_every_feature_in_its_place(points):
    assert points.shape == (68, 2)
    centre = {name: points[list(line)].mean(axis=0) for name, (line, _) in ibug.POLYLINES.items()}
    assert centre["right_brow"][1] < centre["right_eye"][1] < centre["nostrils"][1]
    assert centre["nostrils"][1] < centre["inner_lips"][1] < points[8, 1]
    assert centre["right_eye"][0] < centre["nose_bridge"][0] < centre["left_eye"][0]
    assert points[0, 0] < points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]
    assert points[45, 0] < points[16, 0]
    assert 3 < ibug.mouth_opening(points) < 15  # a smile shows teeth


def test_an_empty_picture_shows_no_face(backend):
    black = np.zeros((128, 128, 3), np.uint8)
    assert backend.detect([black, black]) == [[], []]
    assert backend.landmarker().points([black], [Box(10, 10, 60, 60, 0.9)], [[]]) == [None]


def test_small_and_large_faces_are_both_found(backend, scene, portrait):
    (found,) = backend.detect([scene((60, 40, 110), (300, 40, 300))])
    assert len(found) == 2
    assert len(backend.detect([portrait[20:180, 80:220]])[0]) == 1


def test_only_the_face_that_is_meant_is_followed(backend, scene):
    picture = scene((20, 60, 240), (330, 60, 240))
    left, right = sorted(backend.detect([picture])[0], key=lambda box: box.left)
    for own, other in ((left, right), (right, left)):
        (face,) = backend.landmarker().points([picture], [own], [[other]])
        assert own.left - 20 < face.points_PD[:, 0].mean() < own.right + 20
