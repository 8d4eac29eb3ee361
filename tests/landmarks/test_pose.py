from itertools import product

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.spatial.transform import Rotation

from mssync.landmarks import ibug
from mssync.landmarks.pose import POINTS, SHAPE_PX, pose

ANGLES = list(product((-60, -20, 0, 35), (-25, 0, 30), (-40, 0, 15)))  # yaw, pitch, roll


def turned(angles):
    """The generic face turned by yaw, pitch and roll, (10, 3)."""
    yaw, pitch, roll = angles
    # x right, y down, z away: these angles turn the nose (-z) right, up and clockwise.
    return Rotation.from_euler("ZYX", [roll, -yaw, -pitch], degrees=True).apply(SHAPE_PX)


def landmarks(points_TPD):
    """68 points of which only those of the fit mean anything."""
    all_TPD = np.zeros((len(points_TPD), 68, 2), np.float32)
    all_TPD[:, POINTS] = points_TPD
    return all_TPD


def perspective(solid_PX, *, distance):
    """Picture by a camera that far away, in inter-ocular distances."""
    return solid_PX[:, :2] * distance / (solid_PX[:, 2:] + distance)


def test_known_angles_are_recovered_at_any_scale_and_place():
    pictures = [100 * turned(angles)[:, :2] + [320, 240] for angles in ANGLES]
    found = pose(landmarks(np.stack(pictures)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ANGLES, atol=0.01)


def test_a_near_camera_costs_few_degrees():
    four_face_widths = 4 * 1.5
    pictures = [perspective(turned(angles), distance=four_face_widths) for angles in ANGLES]
    error = np.abs(pose(landmarks(np.stack(pictures))) - ANGLES)
    assert error.max() < 6
    assert error.mean() < 1.5


def test_a_nose_to_the_right_of_the_picture_is_positive_yaw():
    face = SHAPE_PX[:, :2].copy()
    nose = POINTS.index(30)
    right, up = face.copy(), face.copy()
    right[nose, 0] += 0.05
    up[nose, 1] -= 0.05
    clockwise = face @ Rotation.from_euler("z", 10, degrees=True).as_matrix()[:2, :2].T
    assert clockwise[POINTS.index(45), 1] > clockwise[POINTS.index(36), 1]
    found = pose(landmarks(np.stack([face, right, up, clockwise])))
    np.testing.assert_allclose(found[0], 0, atol=1e-3)
    assert found[1, 0] > 3
    assert found[2, 1] > 3
    np.testing.assert_allclose(found[3], [0, 0, 10], atol=1e-3)


def test_a_mirrored_face_has_the_opposite_yaw_and_roll():
    rng = np.random.default_rng(0)
    pictures = np.stack([turned(angles)[:, :2] for angles in ANGLES])
    points = landmarks(pictures + rng.normal(0, 0.02, pictures.shape))
    mirrored = points[:, ibug.FLIP] * np.array([-1, 1], np.float32)
    np.testing.assert_allclose(pose(mirrored), pose(points) * [-1, 1, -1], atol=1e-3)


def test_turning_the_picture_changes_roll_alone():
    pictures = np.stack([turned(angles)[:, :2] for angles in ANGLES])
    quarter = pictures[..., ::-1] * [-1, 1]
    np.testing.assert_allclose(
        pose(landmarks(quarter)) - pose(landmarks(pictures)), [[0, 0, 90]] * len(ANGLES), atol=1e-2
    )


def test_it_agrees_with_a_full_camera_model_on_another_persons_points():
    rng = np.random.default_rng(0)
    camera = np.array([[800.0, 0, 320], [0, 800, 240], [0, 0, 1]])
    for angles in [(0, 0, 0), (25, -10, 5), (-30, 15, -10)]:
        solid = turned(angles) + rng.normal(0, 0.01, SHAPE_PX.shape) + [0, 0, 8]
        picture = solid @ camera.T
        picture = picture[:, :2] / picture[:, 2:]
        # Without a guess it may find the face behind the camera.
        guess = np.zeros(3), np.array([0.0, 0, 8])
        _, turn, _ = cv2.solvePnP(SHAPE_PX, picture, camera, None, *guess, useExtrinsicGuess=True)
        roll, yaw, pitch = Rotation.from_rotvec(turn.ravel()).as_euler("ZYX", degrees=True)
        found = pose(landmarks(picture[None]))[0]
        np.testing.assert_allclose(found, [-yaw, -pitch, roll], atol=3)


def test_it_agrees_with_the_depth_of_a_real_mesh():
    """On a portrait, against the rotation between the generic face and MediaPipe's 3D points."""
    import mediapipe

    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True) as mesh:
        face = mesh.process(skimage.data.astronaut()).multi_face_landmarks[0]
    solid_PX = ibug.from_mediapipe(
        512 * np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32)
    )
    fitted = solid_PX[list(POINTS)]
    turn, _ = Rotation.align_vectors(fitted - fitted.mean(axis=0), SHAPE_PX - SHAPE_PX.mean(axis=0))
    roll, yaw, pitch = turn.as_euler("ZYX", degrees=True)
    found = pose(solid_PX[None, :, :2])[0]
    np.testing.assert_allclose(found, [-yaw, -pitch, roll], atol=3)
    assert found[1] < -5  # she looks down at us and tilts her head: a wrong sign would show
    assert found[2] > 2


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_points_that_are_no_face_give_zeros(value):
    points = np.full((2, 68, 2), value, np.float32)
    points[1] = np.arange(68)[:, None]
    np.testing.assert_array_equal(pose(points), np.zeros((2, 3)))


def test_a_bad_frame_leaves_its_neighbours_alone():
    points = landmarks(np.stack([turned((20, 5, -5))[:, :2]] * 3))
    points[1, 30] = np.nan
    np.testing.assert_allclose(pose(points), [[20, 5, -5], [0, 0, 0], [20, 5, -5]], atol=0.01)


def test_no_frames_give_no_angles():
    assert pose(np.zeros((0, 68, 2), np.float32)).shape == (0, 3)
