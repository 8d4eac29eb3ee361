"""What would the photo look like, moved by the landmarks? A quick look, no rendering.

Axes: P = 68 points, K knots (the points, then 7 of the hair's outline), D = 2, H x W x C pixels.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.render.overlay import Picture
from mssync.render.warp import crown, paint_mouth, warp

SIZE_PX = 512
_FACES = 2.2  # side of what is shown over the extent of the face
_FACING = ((61, 67), (62, 66), (63, 65))  # points of the inner lips, the upper one first
_LEAST_OPENING = 0.01  # of the eyes' distance: lips that cross would fold the picture


def puppet(
    picture_HWC: Picture, source_PD: NDArray[np.floating], motion: Iterable[NDArray[np.floating]]
) -> Iterator[Picture]:
    """Bend a picture so that its face follows a motion.

    The hair goes with the head, the border stays, and an open mouth is painted.

    Args:
        picture_HWC: RGB, of any size.
        source_PD: Where the points of its face are (68, 2), in its pixels.
        motion: Where they are to be, frame by frame.

    Yields:
        RGB, uint8 (512, 512, 3): a square around the face.
    """
    left, top, side = _region(picture_HWC, source_PD.astype(np.float64))
    corner = np.array([left, top])
    scale = SIZE_PX / side
    # cv2 counts from the first pixel's centre
    shift = (0.5 - corner) * scale - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    texture_HWC = cv2.warpAffine(
        picture_HWC,
        matrix,
        (SIZE_PX, SIZE_PX),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    still_PD = _uncrossed((source_PD - corner) / side)
    hair_KD = crown(still_PD)
    still_KD = np.concatenate([still_PD, hair_KD])
    for points_PD in motion:
        moved_PD = _uncrossed((points_PD - corner) / side)
        moved_KD = np.concatenate([moved_PD, _carried(hair_KD, still_PD, moved_PD)])
        frame_HWC = warp(texture_HWC, still_KD, moved_KD, size_px=SIZE_PX)
        paint_mouth(frame_HWC, moved_KD * SIZE_PX)
        yield frame_HWC


def _region(picture_HWC: Picture, source_PD: NDArray[np.float64]) -> tuple[float, float, float]:
    """A square around the face, inside the picture where there is room: left, top and side."""
    height, width = picture_HWC.shape[:2]
    low_D, high_D = source_PD.min(axis=0), source_PD.max(axis=0)
    extent = float((high_D - low_D).max())
    side = min(_FACES * extent, max(1.3 * extent, min(height, width)))
    corner_D = (low_D + high_D) / 2 - side * np.array([0.5, 0.56])  # hair needs more than a chin
    left, top = (
        float(np.clip(start, 0, room - side)) if room >= side else (room - side) / 2
        for start, room in zip(corner_D, (width, height), strict=True)
    )
    return left, top, side


def _uncrossed(points_PD: NDArray[np.floating]) -> NDArray[np.float64]:
    """The points, with the inner lips moved apart where they meet or cross."""
    apart_PD = points_PD.astype(np.float64)
    across_D = apart_PD[64] - apart_PD[60]
    down_D = np.array([-across_D[1], across_D[0]]) / max(1e-9, float(np.linalg.norm(across_D)))
    least = _LEAST_OPENING * np.linalg.norm(apart_PD[45] - apart_PD[36])
    for upper, lower in _FACING:
        lack = max(0.0, least - (apart_PD[lower] - apart_PD[upper]) @ down_D)
        apart_PD[upper] -= down_D * lack / 2
        apart_PD[lower] += down_D * lack / 2
    return apart_PD


def _carried(
    knots_KD: NDArray[np.float64], still_PD: NDArray[np.float64], moved_PD: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Knots moved as the head is: by the similarity that fits its rigid points best."""
    rigid = list(ibug.RIGID)
    still_P = still_PD[rigid] @ (1, 1j)
    moved_P = moved_PD[rigid] @ (1, 1j)
    apart_P = still_P - still_P.mean()
    turn = np.vdot(apart_P, moved_P - moved_P.mean()) / np.vdot(apart_P, apart_P)
    carried_K = moved_P.mean() + turn * (knots_KD @ (1, 1j) - still_P.mean())
    return np.stack([carried_K.real, carried_K.imag], axis=1)
