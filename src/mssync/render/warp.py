"""How is a picture of a face bent? A thin-plate spline and one `cv2.remap` a frame.

Coordinates are fractions of the picture's side, origin at the upper left corner; times the size
they are pixels.

Axes: K knots (P = 68 iBUG points first), D = 2 (x right, y down), H x W x C pixels, G grid cells a
side, B = all knots, those of the picture's border included.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug

_BORDER_STEPS = 4  # knots a side of the frame
_CELL_PX = 4  # of the grid on which the spline is evaluated
_MOUTH_RGB = np.array([52, 20, 20], np.float32)
_TEETH_RGB = np.array([222, 212, 200], np.float32)
_TEETH_SHARE = 0.28  # of the mouth's opening
_TEETH_OPENING = 0.07  # of the eyes' distance: below it the lips hide them
_CURVE_STEPS = 6
_SUBPIXEL_BITS = 4
CROWN_KNOTS = 7


def crown(points_PD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Knots round the hair, which turn with the head: (7, 2), in the unit of the 68 points."""
    eyes_D = (points_PD[36] + points_PD[45]) / 2
    unit = np.linalg.norm(points_PD[45] - points_PD[36])
    angles = np.deg2rad(np.linspace(170, 370, CROWN_KNOTS))
    x = eyes_D[0] + 1.15 * unit * np.cos(angles)
    y = eyes_D[1] + unit * (-0.35 + 0.95 * np.sin(angles))
    return np.stack([x, y], axis=1)


def warp(
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


def _border() -> NDArray[np.float64]:
    """Knots that never move, round the frame: (16, 2)."""
    steps = np.linspace(0, 1, _BORDER_STEPS + 1)
    grid_BD = np.array([(x, y) for x in steps for y in steps])
    outer_BD: NDArray[np.float64] = grid_BD[((grid_BD == 0) | (grid_BD == 1)).any(axis=1)]
    return outer_BD


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


def paint_mouth(frame_HWC: NDArray[np.uint8], knots_KD: NDArray[np.float64]) -> None:
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
