"""Which part of a clip can be used: the longest run of one shot that follows one face.

Axes: T ticks of the 25 Hz clock.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stretch:
    """Consecutive ticks of a clip.

    Attributes:
        first_frame: The first of them.
        frames: How many they are; 0 where there is none.
    """

    first_frame: int
    frames: int

    def ticks(self, per_tick: int = 1) -> slice:
        """Its place in an array of `per_tick` rows a tick."""
        return slice(self.first_frame * per_tick, (self.first_frame + self.frames) * per_tick)


def shot_starts(shot_T: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Ticks at which another shot begins; the first tick is none."""
    starts_T: NDArray[np.bool_] = np.diff(shot_T, prepend=shot_T[:1]) != 0
    return starts_T


def longest_stretch(
    found_T: NDArray[np.bool_], breaks_T: NDArray[np.bool_], *, max_gap_frames: int
) -> Stretch:
    """The longest run that begins and ends on found ticks; the first of several.

    Args:
        found_T: True where the tick can be used for what it is; a run may bridge others.
        breaks_T: True at a tick that cannot be in one run with the tick before it.
        max_gap_frames: Most ticks in a row that a run may bridge.
    """
    found = np.flatnonzero(found_T)
    if not len(found):
        return Stretch(0, 0)
    piece = np.cumsum(breaks_T)[found]
    apart = (np.diff(found) > max_gap_frames + 1) | (np.diff(piece) > 0)
    first = found[np.append(True, apart)]
    last = found[np.append(apart, True)]
    longest = int(np.argmax(last - first))
    return Stretch(int(first[longest]), int(last[longest] - first[longest]) + 1)
