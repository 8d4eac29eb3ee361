"""How well is a face to be seen: sharpness, and whether something covers the mouth."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.landmarks.detector import Picture

_SIDE_PX = 112
# Where the outer eye corners and the middle of the mouth's corners come to lie.
_TARGETS = np.array([[26, 38], [86, 38], [56, 86]], np.float32)
_EYES = (slice(28, 48), slice(18, 94))  # rows, columns
_MOUTH = (slice(74, 98), slice(32, 80))


@dataclass(frozen=True)
class Detail:
    """Of one face in one picture.

    Attributes:
        blur: Variance of the Laplacian over the face, brought to 112 x 112 px; low: blurred.
        mouth_texture: Mean gradient at the mouth over that at the eyes; low: the mouth is covered
            by something smooth.
    """

    blur: float
    mouth_texture: float


def detail(picture: Picture, points_PD: NDArray[np.float32]) -> Detail:
    """Measure one face.

    Args:
        picture: RGB (H, W, 3).
        points_PD: Its 68 points, in pixels of the picture.
    """
    corners = np.stack([points_PD[36], points_PD[45], (points_PD[48] + points_PD[54]) / 2])
    face = _aligned(picture, corners.astype(np.float32))
    blur = float(cv2.Laplacian(face, cv2.CV_32F).var())
    across = cv2.Sobel(face, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(face, cv2.CV_32F, 0, 1)
    gradient = np.abs(across) + np.abs(down)
    eyes = float(gradient[_EYES].mean())
    return Detail(blur, float(gradient[_MOUTH].mean()) / max(1.0, eyes))


def _aligned(picture: Picture, corners: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The face in its place in 112 x 112 px, grey.

    A larger one is averaged first: sampled, its noise would count as detail.
    """
    eyes_px = float(np.linalg.norm(corners[1] - corners[0]))
    around_px = round(eyes_px) + 2
    left, top = np.maximum(0, corners.min(axis=0).astype(int) - around_px)
    right, bottom = np.maximum(0, corners.max(axis=0).astype(int) + around_px)
    piece = picture[top:bottom, left:right]
    if not piece.size:
        return np.zeros((_SIDE_PX, _SIDE_PX), np.uint8)
    zoom = min(1.0, float(_TARGETS[1, 0] - _TARGETS[0, 0]) / max(1.0, eyes_px))
    width_px, height_px = (max(1, round(zoom * side)) for side in piece.shape[1::-1])
    grey = cv2.resize(
        cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY), (width_px, height_px), interpolation=cv2.INTER_AREA
    )
    # cv2.resize lays pixels' outer edges on each other, cv2.warpAffine takes their centres.
    scale = np.array([width_px / piece.shape[1], height_px / piece.shape[0]], np.float32)
    moved = (corners - [left, top] + 0.5) * scale - 0.5
    transform = cv2.getAffineTransform(moved.astype(np.float32), _TARGETS)
    face: NDArray[np.uint8] = cv2.warpAffine(grey, transform, (_SIDE_PX, _SIDE_PX))
    return face
