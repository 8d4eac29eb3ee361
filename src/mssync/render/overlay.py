"""The landmarks of a clip, drawn on its picture in the colour of their confidence.

Axes: T ticks (25 Hz), P = 68 points, D = 2, H, W pixels, C = 3 (RGB).
"""

import math
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync import records
from mssync.landmarks import ibug
from mssync.records import Row
from mssync.render.draw import TEXT, Colour

Picture = NDArray[np.uint8]

LOST: Colour = (92, 170, 255)

SHIFT = 4  # cv2 takes coordinates in 1 / 2^4 pixel


def confidence_colour(confidence: float) -> Colour:
    """Red at 0, yellow at 0.5, green at 1."""
    share = min(1.0, max(0.0, confidence)) if math.isfinite(confidence) else 0.0
    return round(255 * min(1, 2 - 2 * share)), round(225 * min(1, 2 * share)), 60


def draw_points(
    picture: Picture, points_PD: NDArray[np.float32], colour: Colour, *, hollow: bool = False
) -> None:
    """Draw 68 points and the lines between them.

    Args:
        picture: RGB (H, W, 3), drawn on.
        points_PD: (68, 2) in its pixels, 0 at its left and upper edge; not finite: not drawn.
        colour: Of points and lines.
        hollow: Rings in place of dots.
    """
    if not np.isfinite(points_PD).all():
        return
    radius = min(4.0, max(1.2, float(ibug.interocular_distance(points_PD)) / 50))
    fixed_PD = fixed_point(points_PD - 0.5)
    for points, closed in ibug.POLYLINES.values():
        line = fixed_PD[list(points)]
        cv2.polylines(picture, [line], closed, dimmed(colour), 1, cv2.LINE_AA, shift=SHIFT)
    for point in fixed_PD:
        if hollow:
            size, thickness = round((radius + 1) * 2**SHIFT), 1
        else:
            size, thickness = round(radius * 2**SHIFT), cv2.FILLED
        cv2.circle(picture, point.tolist(), size, colour, thickness, cv2.LINE_AA, shift=SHIFT)


def fixed_point(points_ND: NDArray[np.floating]) -> NDArray[np.int32]:
    """Coordinates as cv2 takes them with `SHIFT`."""
    fixed: NDArray[np.int32] = np.round(points_ND * 2**SHIFT).clip(-(2**24), 2**24).astype(np.int32)
    return fixed


def dimmed(colour: Colour) -> Colour:
    """The colour at two thirds of its brightness."""
    red, green, blue = colour
    return red * 2 // 3, green * 2 // 3, blue * 2 // 3


@dataclass(frozen=True)
class Track:
    """The columns of `records.LANDMARKS` that are drawn."""

    points_TPD: NDArray[np.float32]
    confidence_T: NDArray[np.float32]
    lost_T: NDArray[np.bool_]
    pose_TA: NDArray[np.float32]
    mouth_T: NDArray[np.float32]
    shot_T: NDArray[np.int16]

    @classmethod
    def of(cls, row: Row, ticks: int) -> Self:
        """From a row of `records.LANDMARKS`."""
        return cls(
            points_TPD=records.shaped(row["landmarks_TPD"], ticks, ibug.POINTS, 2),
            confidence_T=records.shaped(row["confidence_T"], ticks),
            lost_T=records.shaped(row["interpolated_T"], ticks, dtype=np.bool_),
            pose_TA=records.shaped(row["pose_TA"], ticks, 3),
            mouth_T=records.shaped(row["mouth_T"], ticks),
            shot_T=records.shaped(row["shot_T"], ticks, dtype=np.int16),
        )

    def colour(self, tick: int) -> Colour:
        """Of the points, and of what is said about them."""
        return LOST if self.lost_T[tick] else confidence_colour(float(self.confidence_T[tick]))

    def status(self, tick: int) -> list[tuple[str, Colour, str]]:
        """Texts, their colours, and a text that is as wide as theirs can be."""
        sure = "interpolated" if self.lost_T[tick] else f"confidence {self.confidence_T[tick]:.2f}"
        yaw, pitch, roll = (_degrees(angle) for angle in self.pose_TA[tick].tolist())
        return [
            (f"shot {self.shot_T[tick]}", TEXT, f"shot {self.shot_T.max()}"),
            (sure, self.colour(tick), "confidence 0.00"),
            (f"yaw {yaw} pitch {pitch} roll {roll}", TEXT, ""),
        ]


def _degrees(angle_deg: float) -> str:
    return f"{round(angle_deg):+d}°" if math.isfinite(angle_deg) else "n/a"
