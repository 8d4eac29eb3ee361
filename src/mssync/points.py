"""Sets of the 68 points that a syncer may see: their names in parameters, folders and metrics.

Which point is which: `mssync.landmarks.ibug`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PointSetName = Literal["all", "no_lips", "lips"]


@dataclass(frozen=True)
class PointSet:
    """A set of points.

    Attributes:
        indices: Of the iBUG-68 points.
        title: For people, in a sentence or a table.
    """

    indices: range
    title: str


POINT_SETS: Mapping[PointSetName, PointSet] = {
    "all": PointSet(range(68), "all points"),
    "no_lips": PointSet(range(48), "without lips"),
    "lips": PointSet(range(48, 68), "lips alone"),
}
# Guides see them, and every evaluation needs them.
ALL: PointSetName = "all"


def title_of(name: str) -> str:
    """A set's title for people; of one that this version does not know, its name."""
    known = {str(each): found.title for each, found in POINT_SETS.items()}
    return known.get(name, name)
