"""dlib: a detector of gradient histograms, and regression trees that find iBUG's own 68 points.

An optional extra. The model of the points was trained on iBUG 300-W, whose licence excludes
commercial use; the other backends have no such limit. It sees a face in every box that it is given:
whether there is one, the detector is asked on each frame. That detector knows frontal faces, turned
by up to some 30 degrees; others count as lost.

Source: Kazemi and Sullivan, One millisecond face alignment with an ensemble of regression trees,
CVPR 2014.
"""

import hashlib
import importlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mssync.errors import InputError
from mssync.landmarks.detector import Box, Face, Landmarker, Picture
from mssync.params import ExtractLandmarks

MODEL_VARIABLE = "MSSYNC_DLIB_MODEL"
DEBIAN_MODEL = Path("/usr/share/dlib/shape_predictor_68_face_landmarks.dat")

# The detector's narrowest face has 80 px; in small pictures one of half that counts, too.
_SMALL_PX = 400
# Probability = logistic(gain * score). dlib's own threshold, 0, becomes 0.5. With this gain the
# true faces of 122 real clips (median score 2.0, 5th percentile 0.5) get 0.98 and 0.73, and a
# false one of score 0.1 gets 0.55.
_GAIN = 2.0
_LEAST_PROBABILITY = 0.1  # a score of -1.1: below it there are many boxes and no faces
# To see whether a face is in a box, the box, and half of it on each side, is brought to this width.
_LOOK_PX = 100
_LOOK_MARGIN = 0.5
_LOOK_OFF = 0.4  # most that the face may lie off the box, in its widths


class DlibBackend:
    """Detector and points; see `mssync.landmarks.detector.Backend`."""

    shared = False

    def __init__(
        self,
        detector: Any,  # noqa: ANN401 - dlib is untyped
        predictor: Any,  # noqa: ANN401 - dlib is untyped
        params: ExtractLandmarks,
        identity: str,
    ) -> None:
        self._detector = detector
        self._predictor = predictor
        self._least_score = _score(params.detection_confidence)
        self._tracking_confidence = params.tracking_confidence
        self.identity = identity

    def detect(self, pictures: Sequence[Picture]) -> list[list[Box]]:
        """Find all faces in each picture, the most certain first.

        Faces narrower than 80 px are missed; in pictures whose shorter side is below 400 px, those
        narrower than 40 px.
        """
        return [self._boxes(picture) for picture in pictures]

    def landmarker(self) -> Landmarker:
        """What follows one face; nothing is kept from picture to picture."""
        return DlibLandmarker(self._detector, self._predictor, self._tracking_confidence)

    def _boxes(self, picture: Picture) -> list[Box]:
        doublings = int(min(picture.shape[:2]) < _SMALL_PX)
        found, scores, _ = self._detector.run(
            np.ascontiguousarray(picture), doublings, self._least_score
        )
        boxes = [
            # dlib's right and bottom are the last pixels inside.
            Box(face.left(), face.top(), face.right() + 1, face.bottom() + 1, _probability(score))
            for face, score in zip(found, scores, strict=True)
        ]
        return sorted(boxes, key=lambda box: box.score, reverse=True)


class DlibLandmarker:
    """The points in given boxes; see `mssync.landmarks.detector.Landmarker`."""

    def __init__(
        self,
        detector: Any,  # noqa: ANN401 - dlib is untyped
        predictor: Any,  # noqa: ANN401 - dlib is untyped
        tracking_confidence: float,
    ) -> None:
        self._detector = detector
        self._predictor = predictor
        self._least_score = _score(tracking_confidence)

    def points(
        self,
        pictures: Sequence[Picture],
        boxes: Sequence[Box],
        others: Sequence[Sequence[Box]],
    ) -> list[Face | None]:
        """Find the face's points in the next pictures.

        Args:
            pictures: In any order.
            boxes: Where the face is in each, or was last.
            others: Not looked at: the box says which face is meant.

        Returns:
            Points in whole pixels and the detector's score of that frame; None where it finds no
            face at the box whose score reaches `tracking_confidence`.
        """
        return [self._face(picture, box) for picture, box in zip(pictures, boxes, strict=True)]

    def _face(self, picture: Picture, box: Box) -> Face | None:
        import dlib

        confidence = self._look(picture, box)
        if confidence is None:
            return None
        corners = (box.left, box.top, box.right - 1, box.bottom - 1)
        found = self._predictor(
            np.ascontiguousarray(picture), dlib.rectangle(*(round(corner) for corner in corners))
        )
        points = [(point.x, point.y) for point in found.parts()]
        return Face(np.array(points, np.float32), confidence)

    def _look(self, picture: Picture, box: Box) -> float | None:
        """Probability of the face at a box; None without one."""
        margin = _LOOK_MARGIN * box.width
        left, top = max(0, round(box.left - margin)), max(0, round(box.top - margin))
        bottom, right = max(0, round(box.bottom + margin)), max(0, round(box.right + margin))
        piece = picture[top:bottom, left:right]
        if not piece.size:
            return None
        zoom = _LOOK_PX / box.width
        height_px, width_px = (max(1, round(side * zoom)) for side in piece.shape[:2])
        piece = cv2.resize(piece, (width_px, height_px), interpolation=cv2.INTER_AREA)
        found, scores, _ = self._detector.run(piece, 0, self._least_score)
        middle = np.array([box.left + box.right, box.top + box.bottom]) / 2
        near = [
            score
            for face, score in zip(found, scores, strict=True)
            if np.linalg.norm(
                np.array([face.center().x, face.center().y]) / zoom + [left, top] - middle
            )
            <= _LOOK_OFF * box.width
        ]
        return _probability(max(near)) if near else None


@contextmanager
def dlib_backend(params: ExtractLandmarks) -> Iterator[DlibBackend]:
    """Load dlib's detector and 68-point model.

    The model is the file that $MSSYNC_DLIB_MODEL names, else Debian's.

    Raises:
        InputError: If the library or the model is missing, or the file is no such model.
    """
    path = Path(os.environ.get(MODEL_VARIABLE) or DEBIAN_MODEL)
    try:
        dlib_version = importlib.import_module("dlib").__version__
    except ImportError as error:
        raise InputError(_missing(f"the library is not installed ({error})")) from error
    if not path.is_file():
        raise InputError(_missing(f"there is no model at {path}"))
    try:
        detector, predictor = _models(path)
    except RuntimeError as error:
        raise InputError(_missing(f"{path} cannot be read as a model ({error})")) from error
    with path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    identity = f"dlib {dlib_version} {weights}"
    yield DlibBackend(detector, predictor, params, identity)


@cache
def _models(path: Path) -> tuple[Any, Any]:
    """Detector and predictor, read once in a process: the second has 100 MB."""
    import dlib

    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))


def _missing(what: str) -> str:
    return (
        f"extract_landmarks.backend is dlib, but {what}. It takes `pip install 'mssync[dlib]'` and "
        f"a 68-point model: apt-get install libdlib-data, or set {MODEL_VARIABLE} to a "
        f"{DEBIAN_MODEL.name}. That model was trained on iBUG 300-W, which excludes commercial "
        "use. The backend mediapipe needs none of this."
    )


def _probability(score: float) -> float:
    return 1 / (1 + math.exp(-_GAIN * score))


def _score(probability: float) -> float:
    """The score that has a probability."""
    kept = max(_LEAST_PROBABILITY, min(probability, 1 - 1e-6))
    return math.log(kept / (1 - kept)) / _GAIN
