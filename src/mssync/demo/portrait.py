"""One real portrait, and its knots: what the synthetic speakers are made of.

The portrait is skimage's `astronaut` (NASA, public domain), which ships in its wheel.

Coordinates are fractions of the image's side, origin at the upper left corner, as MediaPipe gives
them; times the size they are pixels. Depth is in the same unit, away from the camera.

Axes: K = 75 knots (68 iBUG points, then 7 of the hair's outline), X = 3 (x right, y down, depth),
D = 2, H x W x C pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ToolError
from mssync.landmarks import ibug
from mssync.landmarks.mediapipe_backend import quiet
from mssync.render.warp import CROWN_KNOTS, crown, paint_mouth, warp

TEXTURE_PX = 512  # finer than any frame: the texture is bent twice, and must not blur
CROWN = slice(ibug.POINTS, ibug.POINTS + CROWN_KNOTS)

_CROP_CENTRE_PX = (225, 125)
_CROP_HALF_PX = 115


@dataclass(frozen=True)
class Portrait:
    """A picture of a face and where its knots are.

    Attributes:
        image_HWC: RGB, uint8 (512, 512, 3).
        knots_KX: float64 (75, 3), fractions of the side.
    """

    image_HWC: NDArray[np.uint8]
    knots_KX: NDArray[np.float64]

    def mirrored(self) -> "Portrait":
        """The same face, left and right exchanged."""
        order = np.concatenate([ibug.FLIP, np.arange(CROWN.start, CROWN.stop)[::-1]])
        knots_KX = self.knots_KX[order] * [-1, 1, 1] + [1, 0, 0]
        return Portrait(np.ascontiguousarray(self.image_HWC[:, ::-1]), knots_KX)

    def reshaped(self, knots_KX: NDArray[np.float64]) -> "Portrait":
        """The face bent until its knots lie at `knots_KX`."""
        bent_HWC = warp(self.image_HWC, self.knots_KX[:, :2], knots_KX[:, :2], size_px=TEXTURE_PX)
        return Portrait(bent_HWC, knots_KX)

    def tinted(self, gains_C: NDArray[np.float64]) -> "Portrait":
        """The face under other light: one factor per colour."""
        lit_HWC = np.clip(self.image_HWC * gains_C, 0, 255).astype(np.uint8)
        return Portrait(lit_HWC, self.knots_KX)

    def render(self, knots_KD: NDArray[np.float64], *, size_px: int) -> NDArray[np.uint8]:
        """One frame: the face with its knots at `knots_KD` and its open mouth painted.

        Args:
            knots_KD: Where the knots are to be, (75, 2), fractions of the side.
            size_px: Side of the frame.

        Returns:
            RGB, uint8 (size, size, 3).
        """
        frame_HWC = warp(self.image_HWC, self.knots_KX[:, :2], knots_KD, size_px=size_px)
        paint_mouth(frame_HWC, knots_KD * size_px)
        return frame_HWC


def load_image() -> NDArray[np.uint8]:
    """The portrait's head and shoulders, RGB uint8 (512, 512, 3)."""
    import skimage.data

    x, y = _CROP_CENTRE_PX
    photo_HWC = skimage.data.astronaut()
    crop_HWC = photo_HWC[
        y - _CROP_HALF_PX : y + _CROP_HALF_PX, x - _CROP_HALF_PX : x + _CROP_HALF_PX
    ]
    size = (TEXTURE_PX, TEXTURE_PX)
    image_HWC: NDArray[np.uint8] = cv2.resize(crop_HWC, size, interpolation=cv2.INTER_CUBIC)
    return image_HWC


def find_knots(image_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The knots of a portrait: MediaPipe's landmarks as iBUG-68, and the outline of the hair.

    Args:
        image_HWC: RGB, uint8, square.

    Returns:
        float64 (75, 3), fractions of the side.

    Raises:
        ToolError: If MediaPipe sees no face.
    """
    with quiet():
        import mediapipe

        with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True) as detector:
            faces = detector.process(image_HWC).multi_face_landmarks
    if not faces:
        raise ToolError("MediaPipe sees no face in the portrait of scikit-image's astronaut()")
    mesh = np.array([[point.x, point.y, point.z] for point in faces[0].landmark], np.float32)
    points_PX = ibug.from_mediapipe(mesh).astype(np.float64)
    return np.concatenate([points_PX, _crown(points_PX)])


def _crown(points_PX: NDArray[np.float64]) -> NDArray[np.float64]:
    """Knots round the hair, with depth: (7, 3)."""
    crown_KD = crown(points_PX[:, :2])
    depth = np.full(len(crown_KD), points_PX[[0, 16], 2].mean())
    return np.stack([crown_KD[:, 0], np.maximum(crown_KD[:, 1], 0.02), depth], axis=1)
