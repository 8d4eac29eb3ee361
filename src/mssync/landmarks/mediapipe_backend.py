"""MediaPipe Face Mesh, the last release that carries its model: 468 points mapped to iBUG-68.

The mesh follows the face from frame to frame and gives no score; a face detector beside it, run on
every fifth frame, gives the confidence and counts the faces.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.landmarks.detector import Detection, count_rivals
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
            with quiet():
                found = self._scorer.process(frame_HWC).detections or []
            faces = count_rivals([face.location_data.relative_bounding_box.width for face in found])
            self._confidence = max((face.score[0] for face in found), default=0.0)
        self._frame += 1
        with quiet():
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
    with ExitStack() as stack:
        with quiet():
            import mediapipe

            mesh = stack.enter_context(
                mediapipe.solutions.face_mesh.FaceMesh(
                    static_image_mode=False,
                    max_num_faces=1,
                    refine_landmarks=False,
                    min_detection_confidence=params.detection_confidence,
                    min_tracking_confidence=params.tracking_confidence,
                )
            )
            scorer = stack.enter_context(
                mediapipe.solutions.face_detection.FaceDetection(
                    model_selection=0, min_detection_confidence=params.detection_confidence
                )
            )
            # A graph starts, and complains, with its first frame; a black one leaves no trace.
            black = np.zeros((64, 64, 3), np.uint8)
            mesh.process(black)
            scorer.process(black)
        yield MediaPipeDetector(mesh, scorer)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the screen what MediaPipe's C++ writes to standard error.

    Its warnings (about feedback tensors and square regions) come with every graph, mean nothing to
    a user and obey no setting.
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
