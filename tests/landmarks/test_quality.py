import cv2
import numpy as np
import pytest

from mssync.landmarks.detector import open_backend
from mssync.landmarks.quality import detail


@pytest.fixture(scope="module")
def points(portrait, tiny):
    with open_backend(tiny.extract_landmarks, device="cpu") as backend:
        (found,) = backend.detect([portrait])
        (face,) = backend.landmarker().points([portrait], found, [[]])
    return face.points_PD


def test_blur_falls_with_every_blurring(portrait, points):
    measured = [detail(portrait, points).blur]
    for width in (3, 7, 15):
        measured.append(detail(cv2.GaussianBlur(portrait, (width, width), 0), points).blur)
    assert measured == sorted(measured, reverse=True)
    assert measured[-1] < measured[0] / 20


def test_blur_does_not_depend_on_the_size_of_the_picture(portrait, points):
    large = cv2.resize(portrait, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    assert detail(large, points * 2).blur == pytest.approx(detail(portrait, points).blur, rel=0.5)


def test_noise_is_no_detail_of_a_large_face(portrait, points):
    """As a blurred recording by a noisy sensor."""
    large = cv2.resize(portrait, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(large, (61, 61), 0).astype(np.float32)
    noisy = blurred + np.random.default_rng(0).normal(0, 8, blurred.shape)
    measured = detail(np.clip(noisy, 0, 255).astype(np.uint8), points * 4).blur
    assert measured < detail(large, points * 4).blur / 4


@pytest.mark.parametrize("where", [-500, 5000])
def test_a_face_outside_the_picture_has_no_detail(portrait, points, where):
    assert detail(portrait, points + where).blur == 0


def test_a_covered_mouth_has_no_texture(portrait, points):
    covered = portrait.copy()
    left, top = points[48:].min(axis=0).astype(int) - 20
    right, bottom = points[48:].max(axis=0).astype(int) + 20
    covered[top:bottom, left:right] = 128
    assert detail(portrait, points).mouth_texture > 0.4
    assert detail(covered, points).mouth_texture < 0.1


def test_points_on_one_spot_are_no_error(portrait):
    measured = detail(portrait, np.full((68, 2), 50, np.float32))
    assert np.isfinite([measured.blur, measured.mouth_texture]).all()
