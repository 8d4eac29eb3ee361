"""Boxes around faces: overlap, order, and what lies between two of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks.detector import Box

_DOUBLE_IOU = 0.3


def around(points_PD: NDArray[np.float32], score: float) -> Box:
    """The box that 68 points fill, from the brows to the chin."""
    (left, top), (right, bottom) = points_PD.min(axis=0), points_PD.max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom), score)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return width * height / (areas - width * height)


def distance(one: Box, other: Box) -> float:
    """Between the centres, in pixels."""
    return math.dist(one.middle, other.middle)


def nearest(box: Box, candidates: Sequence[Box]) -> int:
    """Index of the candidate whose centre is nearest; the first of equals."""
    return min(range(len(candidates)), key=lambda place: distance(box, candidates[place]))


def without_doubles(found: Sequence[Box]) -> list[Box]:
    """The surest first, and none that overlaps a surer one."""
    kept = list[Box]()
    for box in sorted(found, key=lambda box: -box.score):
        if all(overlap(box, surer) < _DOUBLE_IOU for surer in kept):
            kept.append(box)
    return kept


def between(before: Box, after: Box, weight: float) -> Box:
    """A box on the way from one to another: `weight` 0 is `before`, 1 is `after`."""

    def mean(one: float, other: float) -> float:
        return (1 - weight) * one + weight * other

    return Box(
        mean(before.left, after.left),
        mean(before.top, after.top),
        mean(before.right, after.right),
        mean(before.bottom, after.bottom),
        mean(before.score, after.score),
    )


def count_rivals(found: Sequence[Box]) -> int:
    """Faces at least half as wide as the widest: the others cannot be taken for the speaker's."""
    widest = max((box.width for box in found), default=0.0)
    return sum(box.width >= widest / 2 for box in found)
