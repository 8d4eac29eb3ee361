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
    transform = cv2.getAffineTransform(corners.astype(np.float32), _TARGETS)
    face = cv2.cvtColor(
        cv2.warpAffine(picture, transform, (_SIDE_PX, _SIDE_PX), flags=cv2.INTER_AREA),
        cv2.COLOR_RGB2GRAY,
    )
    blur = float(cv2.Laplacian(face, cv2.CV_32F).var())
    across = cv2.Sobel(face, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(face, cv2.CV_32F, 0, 1)
    gradient = np.abs(across) + np.abs(down)
    eyes = float(gradient[_EYES].mean())
    return Detail(blur, float(gradient[_MOUTH].mean()) / max(1.0, eyes))
