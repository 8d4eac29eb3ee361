"""Faces as the authors of MS-Sync draw them: coloured lines through the 68 landmarks.

Axes: T frames, P = 68 points, D = 2, H, W pixels, C = 3 (RGB).
"""

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug

Colour = tuple[int, int, int]

BACKGROUND: Colour = (17, 21, 28)
RULE: Colour = (44, 52, 64)
TEXT: Colour = (203, 213, 225)

# Part of the face -> colour; the legend of the gallery is made from it.
COLOURS: dict[str, Colour] = {
    "jaw": (74, 201, 126),
    "brows": (245, 166, 66),
    "nose": (92, 160, 255),
    "eyes": (240, 96, 104),
    "lips": (203, 120, 245),
}
_PART = {
    "jaw": "jaw", "right_brow": "brows", "left_brow": "brows", "nose_bridge": "nose",
    "nostrils": "nose", "right_eye": "eyes", "left_eye": "eyes", "outer_lips": "lips",
    "inner_lips": "lips",
}  # fmt: skip

_SUPERSAMPLING = 2
_SHIFT = 4  # cv2 takes coordinates in 1 / 2^4 pixel


def css(colour: Colour) -> str:
    """A colour in a style sheet's words."""
    return "rgb({} {} {})".format(*colour)


def lines() -> list[dict[str, object]]:
    """The lines of a face: their points, whether they are closed, and their colour."""
    return [
        {"points": list(points), "closed": closed, "colour": COLOURS[_PART[name]]}
        for name, (points, closed) in ibug.POLYLINES.items()
    ]


def frame(points_PD: NDArray[np.float32], size_px: int) -> NDArray[np.uint8]:
    """One face in its crop.

    Args:
        points_PD: Landmarks (68, 2) in crop sides; what lies outside [0, 1] is cut off.
        size_px: Side of the picture.

    Returns:
        RGB, uint8 (size_px, size_px, 3).

    Raises:
        ValueError: If the points are not 68 finite pairs, or the size is not positive and even
            (the video codec takes even sizes only).
    """
    if points_PD.shape != (ibug.POINTS, 2) or not np.isfinite(points_PD).all():
        raise ValueError(f"expected 68 finite points, found shape {points_PD.shape}")
    if size_px < 2 or size_px % 2:
        raise ValueError(f"a video's size must be even, found {size_px}")
    side = size_px * _SUPERSAMPLING
    canvas = np.full((side, side, 3), BACKGROUND, np.uint8)
    fixed_PD = np.round(points_PD * side * 2**_SHIFT).clip(-(2**24), 2**24).astype(np.int32)
    thickness = max(1, round(side / 110))
    for name, (points, closed) in ibug.POLYLINES.items():
        line = fixed_PD[list(points)].reshape(1, -1, 2)
        cv2.polylines(
            canvas, line, closed, COLOURS[_PART[name]], thickness, cv2.LINE_AA, shift=_SHIFT
        )
    small: NDArray[np.uint8] = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return small


def panels(motions: Mapping[str, NDArray[np.float32]], size_px: int) -> Iterator[NDArray[np.uint8]]:
    """Several motions side by side, each under its name.

    Args:
        motions: Label -> motion (T, 68, 2), left to right, all of one length.
        size_px: Side of each face.

    Yields:
        RGB frames, uint8 (size_px + label, size_px * panels, 3), of even size.

    Raises:
        ValueError: If there is no motion, or their lengths differ.
    """
    lengths = {label: len(motion) for label, motion in motions.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"panels need motions of one length, found {lengths}")
    header = np.concatenate([_label(label, size_px) for label in motions], axis=1)
    edges = [size_px * panel for panel in range(1, len(motions))]
    for shapes in zip(*motions.values(), strict=True):
        faces = np.concatenate([frame(points_PD, size_px) for points_PD in shapes], axis=1)
        picture = np.concatenate([header, faces], axis=0)
        for edge in edges:
            picture[:, edge - 1 : edge + 1] = RULE
        yield picture


def _label(text: str, width_px: int) -> NDArray[np.uint8]:
    height_px = 2 * max(8, round(width_px / 20))
    strip = np.full((height_px, width_px, 3), BACKGROUND, np.uint8)
    face = cv2.FontFace("sans")
    size = round(height_px * 0.55)
    (_, _, text_width, _) = cv2.getTextSize((0, 0), text, (0, 0), face, size)
    origin = (max(4, (width_px - text_width) // 2), round(height_px * 0.72))
    cv2.putText(strip, text, origin, TEXT, face, size)
    return strip
