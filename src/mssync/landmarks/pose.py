"""Which way does the head point, in each frame, from its points alone?

A generic face is turned, scaled and shifted until its picture under scaled orthographic projection
comes nearest to points that hardly move with speech: nose and eye corners. The jaw's contour is
left out: in most schemes it is the visible edge of the face, and slides over it with yaw. So is the
nose's bridge: backends put its points at different heights, which would cost 5 degrees of pitch.

Axes: T frames, P points, D = 2 (x right, y down), X = 3 (x right, y down, z away from the camera),
A = 3 angles.
"""

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug

# iBUG-68 points of the fit.
POINTS = (30, *ibug.NOSTRILS, 36, 39, 42, 45)

# The generic face at those points: MediaPipe Face Mesh's (0.10.21, mapped by `ibug.from_mediapipe`)
# of the portrait `astronaut` of scikit-image, which is in the public domain, made symmetric and
# turned to the front; unit: distance between the outer eye corners. Other people's coordinates
# differ from it by 0.02.
SHAPE_PX = np.array([
    [+0.000, +0.108, -0.260],
    [-0.158, +0.193, -0.026],
    [-0.092, +0.238, -0.044],
    [+0.000, +0.247, -0.063],
    [+0.092, +0.238, -0.044],
    [+0.158, +0.193, -0.026],
    [-0.500, -0.227, +0.240],
    [-0.186, -0.201, +0.179],
    [+0.186, -0.201, +0.179],
    [+0.500, -0.227, +0.240],
])  # fmt: skip

_ROUNDS = 10  # all further ones together change real faces' angles by 0.3 degrees on average
# Points within this of a line, relative to their extent, are no face at any angle.
_LEAST_ASPECT = 1e-3


def pose(landmarks_TPD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn of the head in degrees: yaw, pitch, roll.

    All three are near 0 for a face that looks into the camera. The head nods (pitch), then turns
    about the vertical of the picture (yaw), then tilts in the picture (roll): turning the picture
    itself changes roll alone, and mirroring it changes the signs of yaw and roll.

    * Yaw > 0: the person turns to their own left; the nose moves right in the picture. [-90, 90].
    * Pitch > 0: the person looks up; the nose moves up in the picture. (-180, 180].
    * Roll > 0: the head tilts clockwise as the viewer sees it. (-180, 180].

    The camera counts as far away: at a distance of four widths of the face, perspective adds 1 to 2
    degrees, and up to 6 where the face is turned far. A person whose nose is not the generic one is
    off by 1 to 2 degrees of pitch in all frames, and noise of 1 % of the inter-ocular distance adds
    as much.

    Args:
        landmarks_TPD: iBUG-68 points in pixels or any other unit, (T, 68, 2).

    Returns:
        float32 (T, 3). Zeros where the points are not finite, all equal or on one line.
    """
    points_TPD = landmarks_TPD[:, POINTS].astype(np.float64)
    finite_T = np.isfinite(points_TPD).all(axis=(1, 2))
    points_TPD[~finite_T] = 0
    shape_PX = SHAPE_PX - SHAPE_PX.mean(axis=0)
    # Points that are taken about their mean leave the shift out of the least squares.
    centred_TPD = points_TPD - points_TPD.mean(axis=1, keepdims=True)
    affine_TDX = np.swapaxes(np.linalg.pinv(shape_PX) @ centred_TPD, 1, 2)
    normal_TX = np.cross(affine_TDX[:, 0], affine_TDX[:, 1])
    face_T = np.linalg.norm(normal_TX, axis=-1) > _LEAST_ASPECT * (affine_TDX**2).sum(axis=(1, 2))
    turn_TXX = _nearest_rotation(np.concatenate([affine_TDX, normal_TX[:, None]], axis=1))
    turn_TXX = _refine(turn_TXX, centred_TPD, shape_PX)
    angles_TA = np.where(face_T[:, None], _angles(turn_TXX), 0)
    return angles_TA.astype(np.float32)


def _refine(
    turn_TXX: NDArray[np.float64], centred_TPD: NDArray[np.float64], shape_PX: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From a rotation near the affine fit to the least squares over the points.

    In turn: the depths that the points would have, and the rotation that fits them best in space.
    """
    for _ in range(_ROUNDS):
        solid_TPX = shape_PX @ np.swapaxes(turn_TXX, 1, 2)
        picture_TPD = solid_TPX[..., :2]
        scale_T = (centred_TPD * picture_TPD).sum(axis=(1, 2)) / (picture_TPD**2).sum(axis=(1, 2))
        depth_TPX = scale_T[:, None, None] * solid_TPX[..., 2:]
        seen_TPX = np.concatenate([centred_TPD, depth_TPX], axis=2)
        turn_TXX = _nearest_rotation(np.swapaxes(seen_TPX, 1, 2) @ shape_PX)
    return turn_TXX


def _nearest_rotation(matrix_TXX: NDArray[np.float64]) -> NDArray[np.float64]:
    left_TXX, _, right_TXX = np.linalg.svd(matrix_TXX)
    left_TXX[:, :, 2] *= np.linalg.det(left_TXX @ right_TXX)[:, None]  # no mirror images
    nearest: NDArray[np.float64] = left_TXX @ right_TXX
    return nearest


def _angles(turn_TXX: NDArray[np.float64]) -> NDArray[np.float64]:
    """Yaw, pitch and roll of rotations, which first pitch, then yaw, then roll."""
    yaw_T = np.arcsin(np.clip(turn_TXX[:, 2, 0], -1, 1))
    pitch_T = -np.arctan2(turn_TXX[:, 2, 1], turn_TXX[:, 2, 2])
    roll_T = np.arctan2(turn_TXX[:, 1, 0], turn_TXX[:, 0, 0])
    angles: NDArray[np.float64] = np.degrees(np.stack([yaw_T, pitch_T, roll_T], axis=1))
    return angles
