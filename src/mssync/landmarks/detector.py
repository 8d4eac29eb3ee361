"""What the pipeline needs of a landmark backend, and the backends by name.

Pictures are RGB, upright, of square pixels, uint8 (H, W, 3). Points and boxes are in their pixels.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mssync.params import ExtractLandmarks

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """Where a face is, from brows to chin, by a detector or between two of its boxes.

    Attributes:
        left, top, right, bottom: In pixels of the picture; may reach beyond it.
        score: Of the detector, in [0, 1].
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre: x, y."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        points_PD: iBUG-68 points, float32 (68, 2), x right, y down.
        confidence: That the face is there, in [0, 1].
    """

    points_PD: NDArray[np.float32]
    confidence: float


class Landmarker(Protocol):
    """Follows one face through one shot."""

    def points(
        self, pictures: Sequence[Picture], boxes: Sequence[Box], others: Sequence[Sequence[Box]]
    ) -> list[Face | None]:
        """Find the face's points in the next pictures.

        Args:
            pictures: Consecutive, after those of the call before.
            boxes: Where the face is in each, or was last.
            others: Boxes of the other faces in each.

        Returns:
            One answer a picture; None where the face is not there.
        """


class Backend(Protocol):
    """A face detector and a landmark detector.

    Attributes:
        shared: Whether one serves all clips at a time, called from many threads (on a GPU); else
            each process has its own.
        identity: What its results depend on besides the parameters: library, weights, precision.
    """

    shared: bool
    identity: str

    def detect(self, pictures: Sequence[Picture]) -> list[list[Box]]:
        """Find all faces in each picture."""

    def landmarker(self) -> Landmarker:
        """What follows one face."""


def open_backend(params: ExtractLandmarks, *, device: str) -> AbstractContextManager[Backend]:
    """The backend that the parameters name; its library is imported now, not before.

    Args:
        params: The stage's section.
        device: `auto`, `cpu` or `cuda`, for backends that run on torch.

    Raises:
        InputError: If the backend's weights or library are missing.
        ParamsError: If there is no such device.
    """
    match params.backend:
        case "mediapipe":
            from mssync.landmarks.mediapipe_backend import mediapipe_backend

            return mediapipe_backend(params)
        case "face_alignment":
            from mssync.landmarks.face_alignment_backend import face_alignment_backend

            return face_alignment_backend(params, device=device)
        case "dlib":
            from mssync.landmarks.dlib_backend import dlib_backend

            return dlib_backend(params)
