"""Where does a new shot begin? Cuts, not flashes; slow dissolves are not seen."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode
from scenedetect.detector import FlashFilter

from mssync.landmarks.detector import Picture

LOOK_AHEAD = 3  # frames that a flash of light may last

_SIDE_PX = 64
_REPEATS_UP_TO = 1  # difference of any cell, of 255: coding adds as much to a repeated picture


def thumbnail(picture: Picture) -> Picture:
    """What cuts are looked for in: (64, 64, 3)."""
    small: Picture = cv2.resize(picture, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    return small


def repeats(before: Picture, after: Picture) -> bool:
    """Whether a thumbnail shows the same picture as the one before."""
    return int(cv2.absdiff(before, after).max()) <= _REPEATS_UP_TO


class ShotFinder:
    """Finds cuts by the change of hue, saturation and brightness.

    It is PySceneDetect's content detector, on thumbnails, with flashes of light left out.

    Args:
        threshold: Mean change, of 255, from which a picture begins a shot.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._detector = _detector(threshold)
        self._frame = 0
        self._scene: Picture | None = None  # the last picture that no flash lit
        self._flash_frames = 0

    def begins(self, picture: Picture, ahead: Sequence[Picture]) -> bool:
        """Whether the next thumbnail begins a shot; the first one does.

        Args:
            picture: The thumbnail.
            ahead: Those after it, up to `LOOK_AHEAD`.
        """
        changed = _above(self._detector, self._frame, picture)
        self._frame += 1
        if self._scene is None:
            self._scene = picture
            return True
        if not changed:
            self._flash_frames = max(0, self._flash_frames - 1)
            if not self._flash_frames:
                self._scene = picture
            return False
        if self._flash_frames and self._is_scene(picture):
            self._flash_frames, self._scene = 0, picture
            return False
        if any(self._is_scene(later) for later in ahead[:LOOK_AHEAD]):
            self._flash_frames = LOOK_AHEAD + 1
            return False
        self._flash_frames, self._scene = 0, picture
        return True

    def _is_scene(self, picture: Picture) -> bool:
        pair = _detector(self._threshold)
        _above(pair, 0, self._scene)
        return not _above(pair, 1, picture)


def _detector(threshold: float) -> ContentDetector:
    return ContentDetector(threshold, min_scene_len=0, filter_mode=FlashFilter.Mode.SUPPRESS)


def _above(detector: ContentDetector, frame: int, picture: NDArray[np.uint8] | None) -> bool:
    # The rate of the time code is of no consequence without a shortest scene.
    return bool(detector.process_frame(FrameTimecode(frame, 25.0), picture))
