"""What the pipeline needs of a landmark detector, and the backends by name."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mssync.params import ExtractLandmarks


@dataclass(frozen=True)
class Detection:
    """One face in one frame.

    Attributes:
        points_PD: iBUG-68 points in pixels, float32 (68, 2), x right, y down.
        confidence: Score of the face in [0, 1].
        faces: How many faces of about the speaker's size the frame shows; 0 where this frame was
            not counted.
    """

    points_PD: NDArray[np.float32]
    confidence: float
    faces: int


class Detector(Protocol):
    """Follows one face through the frames of one clip. Made anew for every clip."""

    def detect(self, frame_HWC: NDArray[np.uint8]) -> Detection | None:
        """Find the face in the next frame, RGB (H, W, 3); None where there is none."""


def count_rivals(widths: Sequence[float]) -> int:
    """Faces at least half as wide as the widest: the others cannot be taken for the speaker's."""
    return sum(width >= max(widths) / 2 for width in widths)


DetectorFactory = Callable[[ExtractLandmarks], AbstractContextManager[Detector]]


def factory(backend: str) -> DetectorFactory:
    """The maker of detectors of a backend; its library is imported now, not before.

    Raises:
        ValueError: If there is no such backend.
        InputError: If the backend's weights are missing (face-alignment).
    """
    if backend == "mediapipe":
        from mssync.landmarks.mediapipe_backend import mediapipe_detector

        return mediapipe_detector
    if backend == "face-alignment":
        from mssync.landmarks.face_alignment_backend import face_alignment_detector

        return face_alignment_detector
    raise ValueError(f"no landmark backend is called {backend!r}")
