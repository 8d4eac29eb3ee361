"""One real portrait, and how it is bent: a thin-plate spline and one `cv2.remap` a frame.

The portrait is skimage's `astronaut` (NASA, public domain), which ships in its wheel.

Coordinates are fractions of the image's side, origin at the upper left corner, as MediaPipe gives
them; times the size they are pixels. Depth is in the same unit, away from the camera.

Axes: K = 75 knots (68 iBUG points, then 7 of the hair's outline), X = 3 (x right, y down, depth),
D = 2, H x W x C pixels, G grid cells a side, B = all knots, those of the frame's border included.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ToolError
from mssync.landmarks import ibug
from mssync.landmarks.mediapipe_backend import quiet

TEXTURE_PX = 512  # finer than any frame: the texture is bent twice, and must not blur
CROWN = slice(ibug.POINTS, ibug.POINTS + 7)

_CROP_CENTRE_PX = (225, 125)
_CROP_HALF_PX = 115
_BORDER_STEPS = 4  # knots a side of the frame
_CELL_PX = 4  # of the grid on which the spline is evaluated
_MOUTH_RGB = np.array([52, 20, 20], np.float32)
_TEETH_RGB = np.array([222, 212, 200], np.float32)
_TEETH_SHARE = 0.28  # of the mouth's opening
_TEETH_OPENING = 0.07  # of the eyes' distance: below it the lips hide them
_CURVE_STEPS = 6
_SUBPIXEL_BITS = 4


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
        bent_HWC = _warp(self.image_HWC, self.knots_KX[:, :2], knots_KX[:, :2], size_px=TEXTURE_PX)
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
        frame_HWC = _warp(self.image_HWC, self.knots_KX[:, :2], knots_KD, size_px=size_px)
        _paint_mouth(frame_HWC, knots_KD * size_px)
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
    """Seven points round the hair, which turn with the head: (7, 3)."""
    eyes_X = (points_PX[36] + points_PX[45]) / 2
    unit = np.linalg.norm(points_PX[45, :2] - points_PX[36, :2])
    angles = np.deg2rad(np.linspace(170, 370, CROWN.stop - CROWN.start))
    depth = np.full_like(angles, points_PX[[0, 16], 2].mean())
    x = eyes_X[0] + 1.15 * unit * np.cos(angles)
    y = eyes_X[1] + unit * (-0.35 + 0.95 * np.sin(angles))
    return np.stack([x, np.maximum(y, 0.02), depth], axis=1)


def _border() -> NDArray[np.float64]:
    """Knots that never move, round the frame: (16, 2)."""
    steps = np.linspace(0, 1, _BORDER_STEPS + 1)
    grid_BD = np.array([(x, y) for x in steps for y in steps])
    outer_BD: NDArray[np.float64] = grid_BD[((grid_BD == 0) | (grid_BD == 1)).any(axis=1)]
    return outer_BD


def _warp(
    image_HWC: NDArray[np.uint8],
    source_KD: NDArray[np.float64],
    target_KD: NDArray[np.float64],
    *,
    size_px: int,
) -> NDArray[np.uint8]:
    """Bend an image so that what lay at `source_KD` lies at `target_KD`."""
    border_BD = _border()
    target_BD = np.concatenate([target_KD, border_BD])
    source_BD = np.concatenate([source_KD, border_BD])
    coarse_GGD = _spline(target_BD, source_BD - target_BD, cells=size_px // _CELL_PX)
    shift_HWD = cv2.resize(coarse_GGD, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    centres = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    # cv2 counts from the first pixel's centre
    map_x = (shift_HWD[..., 0] + centres) * len(image_HWC) - 0.5
    map_y = (shift_HWD[..., 1] + centres[:, None]) * len(image_HWC) - 0.5
    bent_HWC: NDArray[np.uint8] = cv2.remap(
        image_HWC, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return bent_HWC


def _spline(
    knots_BD: NDArray[np.float64], values_BD: NDArray[np.float64], *, cells: int
) -> NDArray[np.float32]:
    """Thin-plate spline through `values_BD` at `knots_BD`, at the cells' centres: (G, G, 2).

    Solved anew for each frame's knots, so that the backward warp is exact at the landmarks; the
    linear system of 94 rows costs less than the remap.
    """
    count = len(knots_BD)
    system = np.zeros((count + 3, count + 3))
    squares = ((knots_BD[:, None] - knots_BD[None]) ** 2).sum(axis=-1)
    system[:count, :count] = _kernel(squares)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = knots_BD
    system[count + 1 :, :count] = knots_BD.T
    right = np.concatenate([values_BD, np.zeros((3, 2))])
    weights = np.linalg.solve(system, right).astype(np.float32)

    centres = ((np.arange(cells) + 0.5) / cells).astype(np.float32)
    across = (centres[:, None] - knots_BD[:, 0].astype(np.float32)) ** 2
    downward = (centres[:, None] - knots_BD[:, 1].astype(np.float32)) ** 2
    bent_GGD = _kernel(downward[:, None] + across[None]) @ weights[:count]
    flat_GGD = (
        weights[count]
        + centres[None, :, None] * weights[count + 1]
        + centres[:, None, None] * weights[count + 2]
    )
    surface: NDArray[np.float32] = bent_GGD + flat_GGD
    return surface


def _kernel(squares: NDArray[Any]) -> NDArray[Any]:
    """r^2 log r^2, 0 at 0; keeps the precision it is given."""
    bent: NDArray[Any] = squares * np.log(squares + squares.dtype.type(1e-12))
    return bent


def _paint_mouth(frame_HWC: NDArray[np.uint8], knots_KD: NDArray[np.float64]) -> None:
    """Paint the open mouth into a frame: dark, with the upper teeth; knots in pixels."""
    inner_PD = knots_KD[ibug.INNER_LIPS.start : ibug.INNER_LIPS.stop]
    outline_PD = _rounded(inner_PD)
    half = 4 * _CURVE_STEPS  # from the right corner to the left one
    upper_PD, lower_PD = outline_PD[: half + 1], np.roll(outline_PD[::-1], 1, axis=0)[: half + 1]
    _fill(frame_HWC, outline_PD, _MOUTH_RGB)
    gap_PD = knots_KD[[62, 36]] - knots_KD[[66, 45]]
    opening, eyes_apart = np.linalg.norm(gap_PD, axis=1)
    shown = float(np.clip(opening / eyes_apart / _TEETH_OPENING - 1, 0, 1))
    if shown > 0:
        teeth_PD = upper_PD + shown * _TEETH_SHARE * (lower_PD - upper_PD)
        _fill(frame_HWC, np.concatenate([upper_PD, teeth_PD[::-1]]), _TEETH_RGB)


def _rounded(polygon_PD: NDArray[np.float64]) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through the points, `_CURVE_STEPS` a side."""
    before, after = np.roll(polygon_PD, 1, axis=0), np.roll(polygon_PD, -1, axis=0)
    beyond = np.roll(polygon_PD, -2, axis=0)
    t = np.linspace(0, 1, _CURVE_STEPS, endpoint=False)[None, :, None]
    here, before, after, beyond = (
        points[:, None] for points in (polygon_PD, before, after, beyond)
    )
    curve = here + 0.5 * t * (
        after
        - before
        + t
        * (2 * before - 5 * here + 4 * after - beyond + t * (3 * (here - after) + beyond - before))
    )
    return curve.reshape(-1, 2)


def _fill(
    frame_HWC: NDArray[np.uint8], polygon_PD: NDArray[np.float64], colour_C: NDArray[np.float32]
) -> None:
    """Blend a polygon into a frame; its edge is as soft as the picture."""
    left, top = np.maximum(np.floor(polygon_PD.min(axis=0)).astype(int) - 3, 0)
    right, bottom = np.ceil(polygon_PD.max(axis=0)).astype(int) + 4
    region_HWC = frame_HWC[top:bottom, left:right]
    cover_HW = np.zeros(region_HWC.shape[:2], np.uint8)
    fixed = np.round((polygon_PD - 0.5 - (left, top)) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(cover_HW, [fixed], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    share_HWC = cv2.GaussianBlur(cover_HW, (3, 3), 0)[..., None].astype(np.float32) / 255
    region_HWC[:] = region_HWC + share_HWC * (colour_C - region_HWC)
