"""The iBUG-68 scheme: what each of the 68 points is, and how other schemes map to it.

Axes: ... leading axes, P = 68 points, D = 2 (x right, y down).
"""

import numpy as np
from numpy.typing import NDArray

POINTS = 68

JAW = range(17)
RIGHT_BROW = range(17, 22)
LEFT_BROW = range(22, 27)
NOSE_BRIDGE = range(27, 31)
NOSTRILS = range(31, 36)
RIGHT_EYE = range(36, 42)
LEFT_EYE = range(42, 48)
OUTER_LIPS = range(48, 60)
INNER_LIPS = range(60, 68)
LIPS = range(48, 68)

# Points that do not move with speech (docs/ms-sync.md, section 5).
RIGID = (0, 1, 2, 14, 15, 16, 27, 30, 31, 35, 36, 39, 42, 45)

# Polyline name -> (points in drawing order, closed?). "Right" is the person's right.
POLYLINES: dict[str, tuple[tuple[int, ...], bool]] = {
    "jaw": (tuple(JAW), False),
    "right_brow": (tuple(RIGHT_BROW), False),
    "left_brow": (tuple(LEFT_BROW), False),
    "nose_bridge": (tuple(NOSE_BRIDGE), False),
    "nostrils": (tuple(NOSTRILS), False),
    "right_eye": (tuple(RIGHT_EYE), True),
    "left_eye": (tuple(LEFT_EYE), True),
    "outer_lips": (tuple(OUTER_LIPS), True),
    "inner_lips": (tuple(INNER_LIPS), True),
}


def _flip() -> NDArray[np.int64]:
    """Index of each point's mirror image (docs/ms-sync.md, section 6)."""
    mirror = np.arange(POINTS)
    for start, end in ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67)):
        for point in range(start, end + 1):
            mirror[point] = start + end - point
    eyes = ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46))
    for right, left in eyes:
        mirror[right], mirror[left] = left, right
    return mirror


FLIP = _flip()

# MediaPipe's 468-point mesh -> iBUG-68; two indices mean their midpoint. The published list of
# PeizhiYan/Mediapipe_2_Dlib_Landmarks, checked against dlib on one portrait: NME 0.041.
MEDIAPIPE: tuple[tuple[int, ...], ...] = (
    *((127,), (234,), (93,), (132, 58), (58, 172), (136,), (150,), (176,), (152,)),
    *((400,), (379,), (365,), (397, 288), (361,), (323,), (454,), (356,)),
    *((70,), (63,), (105,), (66,), (107,), (336,), (296,), (334,), (293,), (300,)),
    *((168, 6), (197, 195), (5,), (4,), (75,), (97,), (2,), (326,), (305,)),
    *((33,), (160,), (158,), (133,), (153,), (144,)),
    *((362,), (385,), (387,), (263,), (373,), (380,)),
    *((61,), (39,), (37,), (0,), (267,), (269,), (291,), (321,), (314,), (17,), (84,), (91,)),
    *((78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,)),
)
# The points of the mesh that are used: some 70 of 468.
MESH_POINTS = np.unique([point for pair in MEDIAPIPE for point in pair])
_FIRST = np.searchsorted(MESH_POINTS, [pair[0] for pair in MEDIAPIPE])
_SECOND = np.searchsorted(MESH_POINTS, [pair[-1] for pair in MEDIAPIPE])


def from_mediapipe(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map MediaPipe's mesh (..., 468 or more, D) to iBUG-68 (..., 68, D)."""
    if mesh.ndim < 2 or mesh.shape[-2] < 468:
        raise ValueError(f"expected a mesh of at least 468 points, found shape {mesh.shape}")
    return from_mesh_points(mesh[..., MESH_POINTS, :])


def from_mesh_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map the points `MESH_POINTS` of the mesh (..., len(MESH_POINTS), D) to iBUG-68."""
    mapped: NDArray[np.float32] = (points[..., _FIRST, :] + points[..., _SECOND, :]) * np.float32(
        0.5
    )
    return mapped


def interocular_distance(points_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance between the outer eye corners, points 36 and 45: (..., 68, 2) -> (...)."""
    distance: NDArray[np.float32] = np.linalg.norm(
        points_PD[..., 36, :] - points_PD[..., 45, :], axis=-1
    )
    return distance


def mouth_opening(points_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance between the inner lips' middles, |p62 - p66|: (..., 68, 2) -> (...)."""
    distance: NDArray[np.float32] = np.linalg.norm(
        points_PD[..., 62, :] - points_PD[..., 66, :], axis=-1
    )
    return distance
