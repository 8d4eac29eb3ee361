"""face-alignment: S3FD finds the face, 2D-FAN its 68 points. Needs weights and likes a GPU.

The library looks for its weights in `$TORCH_HOME/hub/checkpoints/` and downloads what is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import face_alignment
import numpy as np
import torch
from numpy.typing import NDArray

from mssync.errors import InputError
from mssync.landmarks.detector import Detection, count_rivals
from mssync.params import ExtractLandmarks

WEIGHTS = ("2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth")


class FaceAlignmentDetector:
    """The most certain face of each frame; see `mssync.landmarks.detector.Detector`."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - face-alignment is untyped
        self._network = network

    def detect(self, frame_HWC: NDArray[np.uint8]) -> Detection | None:
        """Find the face in the next frame, RGB (H, W, 3); None where there is none."""
        boxes = self._network.face_detector.detect_from_image(frame_HWC)
        if not len(boxes):
            return None
        best = max(boxes, key=lambda box: float(box[4]))
        points = self._network.get_landmarks_from_image(frame_HWC, detected_faces=[best])
        if not points:
            return None
        faces = count_rivals([float(box[2] - box[0]) for box in boxes])
        return Detection(np.asarray(points[0], np.float32)[:, :2], float(best[4]), faces)


@contextmanager
def face_alignment_detector(params: ExtractLandmarks) -> Iterator[FaceAlignmentDetector]:
    """A detector for one clip; the networks are loaded once a process.

    Raises:
        InputError: If the weights are neither cached nor to be had.
    """
    yield FaceAlignmentDetector(_network(params.detection_confidence))


@cache
def _network(detection_confidence: float) -> Any:  # noqa: ANN401 - face-alignment is untyped
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D,
            device=device,
            flip_input=False,
            compile=False,
            face_detector_kwargs={"filter_threshold": detection_confidence},
        )
    except OSError as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"extract_landmarks.backend is face-alignment, whose weights could not be downloaded "
            f"({error}). Put {' and '.join(WEIGHTS)} into {folder} (or set TORCH_HOME), or use "
            "the backend mediapipe, which needs none."
        ) from error
