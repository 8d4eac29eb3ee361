"""MediaPipe Face Mesh, the last release that carries its model: 468 points mapped to iBUG-68.

The mesh follows the face from frame to frame and gives no score; a face detector beside it, run on
every fifth frame, gives the confidence and counts the faces.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.landmarks.detector import Detection
from mssync.params import ExtractLandmarks

_SCORE_EVERY_FRAMES = 5


class MediaPipeDetector:
    """One face, followed; see `mssync.landmarks.detector.Detector`."""

    def __init__(self, mesh: Any, scorer: Any) -> None:  # noqa: ANN401 - mediapipe is untyped
        self._mesh = mesh
        self._scorer = scorer
        self._frame = 0
        self._confidence = 0.0

    def detect(self, frame_HWC: NDArray[np.uint8]) -> Detection | None:
        """Find the face in the next frame, RGB (H, W, 3); None where there is none."""
        faces = 0
        if self._frame % _SCORE_EVERY_FRAMES == 0:
            with _quiet(only=self._frame == 0):
                found = self._scorer.process(frame_HWC).detections or []
            faces = len(found)
            self._confidence = max((face.score[0] for face in found), default=0.0)
        self._frame += 1
        with _quiet(only=self._frame == 1):
            meshes = self._mesh.process(frame_HWC).multi_face_landmarks
        if not meshes:
            return None
        height, width = frame_HWC.shape[:2]
        mesh = np.array([(point.x, point.y) for point in meshes[0].landmark], np.float32)
        points_PD = ibug.from_mediapipe(mesh * np.array([width, height], np.float32))
        return Detection(points_PD, float(self._confidence), faces)


@contextmanager
def mediapipe_detector(params: ExtractLandmarks) -> Iterator[MediaPipeDetector]:
    """A detector for one clip."""
    solutions = _solutions()
    with ExitStack() as stack:
        mesh = stack.enter_context(
            solutions.face_mesh.FaceMesh(
                static_image_mode=False,
                max_num_faces=1,
                refine_landmarks=False,
                min_detection_confidence=params.detection_confidence,
                min_tracking_confidence=params.tracking_confidence,
            )
        )
        scorer = stack.enter_context(
            solutions.face_detection.FaceDetection(
                model_selection=0, min_detection_confidence=params.detection_confidence
            )
        )
        yield MediaPipeDetector(mesh, scorer)


def _solutions() -> ModuleType:
    with _quiet():
        import mediapipe
    solutions: ModuleType = mediapipe.solutions
    return solutions


@contextmanager
def _quiet(*, only: bool = True) -> Iterator[None]:
    """Keep off the screen what MediaPipe's C++ writes to standard error as it starts.

    Its warnings (about feedback tensors and protobuf) come once a graph, mean nothing to a user and
    obey no setting.
    """
    if not only:
        yield
        return
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
