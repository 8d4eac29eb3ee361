"""MediaPipe, the last release that carries its models: 468 points mapped to iBUG-68.

The face mesh follows the most certain face of what it is shown, so it is shown one face only: a
view around the face that is followed, with the other faces painted over. It gives no score: the
detector's is taken.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import boxes as boxes_
from mssync.landmarks import ibug
from mssync.landmarks.detector import Box, Face, Picture
from mssync.params import ExtractLandmarks

# The short-range model misses small faces, the full-range one misses large ones.
_SHORT_RANGE_SEES = 0.25  # of the picture's longer side
_VIEW_WIDTHS = 3.0  # side of a view over the width of its face
_VIEW_GROWTH = 1.6  # of the face, that wants another view


class MediaPipeBackend:
    """One process's; see `mssync.landmarks.detector.Backend`."""

    shared = False
    identity = f"mediapipe {version('mediapipe')}"

    def __init__(self, params: ExtractLandmarks) -> None:
        self._short_range = _face_detection(0, params.detection_confidence)
        self._full_range = _face_detection(1, params.detection_confidence)
        self._confidences = (params.detection_confidence, params.tracking_confidence)

    def detect(self, pictures: Sequence[Picture]) -> list[list[Box]]:
        """Find all faces in each picture: of two that overlap, the surer one."""
        return [self._detect(picture, first=not place) for place, picture in enumerate(pictures)]

    def landmarker(self) -> "MeshLandmarker":
        """What follows one face; its mesh serves another one when it is gone."""
        meshes = _idle_meshes(*self._confidences)
        mesh = meshes.pop() if meshes else _face_mesh(*self._confidences)
        mesh.reset()
        follower = MeshLandmarker(mesh)
        weakref.finalize(follower, meshes.append, mesh)
        return follower

    def _detect(self, picture: Picture, *, first: bool) -> list[Box]:
        found = _boxes(self._short_range, picture)
        near = max(picture.shape[:2]) * _SHORT_RANGE_SEES
        if first or not any(box.width >= near for box in found):
            found += _boxes(self._full_range, picture)
        return boxes_.without_doubles(found)


class MeshLandmarker:
    """Follows one face; see `mssync.landmarks.detector.Landmarker`."""

    def __init__(self, mesh: Any) -> None:  # noqa: ANN401 - mediapipe is untyped
        self._mesh = mesh
        self._last: Box | None = None
        self._view = _View(0, 0, 0, 0, 0.0)

    def points(
        self, pictures: Sequence[Picture], boxes: Sequence[Box], others: Sequence[Sequence[Box]]
    ) -> list[Face | None]:
        """Find the face's points in the next pictures; None where the mesh lost the face."""
        return [
            self._next(picture, box, rivals)
            for picture, box, rivals in zip(pictures, boxes, others, strict=True)
        ]

    def _next(self, picture: Picture, box: Box, others: Sequence[Box]) -> Face | None:
        where = self._last or box
        if not self._view.holds(where, picture):
            self._view = _View.around(where, picture)
            self._mesh.reset()  # it would look where the face was in the view before
            self._look(self._view.of(picture, where, others))  # once found, it is placed better
        found = self._look(self._view.of(picture, where, others))
        self._last = None
        if found is None:
            return None
        face = Face(found + self._view.corner, box.score)
        around = boxes_.around(face.points_PD, box.score)
        if boxes_.nearest(around, [where, box, *others]) > 1:
            return None
        self._last = around
        return face

    def _look(self, shown: Picture) -> NDArray[np.float32] | None:
        meshes = self._mesh.process(shown).multi_face_landmarks
        if not meshes:
            return None
        height, width = shown.shape[:2]
        used = map(meshes[0].landmark.__getitem__, ibug.MESH_POINTS.tolist())
        points = np.array([(point.x, point.y) for point in used], np.float32)
        return ibug.from_mesh_points(points * np.array([width, height], np.float32))


class _View:
    """A part of the picture around a face, that stays while the face stays inside."""

    def __init__(self, left: int, top: int, right: int, bottom: int, face_width: float) -> None:
        self._left, self._top, self._right, self._bottom = left, top, right, bottom
        self._face_width = face_width

    @classmethod
    def around(cls, box: Box, picture: Picture) -> "_View":
        """A view with the face in the middle, as far as the picture reaches."""
        height, width = picture.shape[:2]
        half = box.width * _VIEW_WIDTHS / 2
        across = np.clip([box.middle[0] - half, box.middle[0] + half], 0, width)
        down = np.clip([box.middle[1] - half, box.middle[1] + half], 0, height)
        return cls(round(across[0]), round(down[0]), round(across[1]), round(down[1]), box.width)

    @property
    def corner(self) -> NDArray[np.float32]:
        """Left and top."""
        return np.array([self._left, self._top], np.float32)

    def holds(self, box: Box, picture: Picture) -> bool:
        """Whether the face is still well inside, and about as large as it was."""
        height, width = picture.shape[:2]
        growth = box.width / max(1.0, self._face_width)
        margin = box.width / 4
        return (
            1 / _VIEW_GROWTH < growth < _VIEW_GROWTH
            and self._right <= width
            and self._bottom <= height
            and (self._left == 0 or box.left - margin > self._left)
            and (self._top == 0 or box.top - margin > self._top)
            and (self._right == width or box.right + margin < self._right)
            and (self._bottom == height or box.bottom + margin < self._bottom)
        )

    def of(self, picture: Picture, face: Box, others: Sequence[Box]) -> Picture:
        """What the view shows, without the other faces."""
        shown = picture[self._top : self._bottom, self._left : self._right]
        covered = [other for other in others if self._touches(other)]
        if not covered:
            return np.ascontiguousarray(shown)
        painted = shown.copy()
        for other in covered:
            painted[self._inside(other)] = 0
        own = self._inside(face)
        painted[own] = shown[own]
        return painted

    def _touches(self, box: Box) -> bool:
        return (
            box.right > self._left
            and box.left < self._right
            and box.bottom > self._top
            and box.top < self._bottom
        )

    def _inside(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of a box and a tenth of it on each side."""
        margin = box.width / 10
        left, right = box.left - margin - self._left, box.right + margin - self._left
        top, bottom = box.top - margin - self._top, box.bottom + margin - self._top
        return (
            slice(max(0, round(top)), max(0, round(bottom))),
            slice(max(0, round(left)), max(0, round(right))),
        )


@contextmanager
def mediapipe_backend(params: ExtractLandmarks) -> Iterator[MediaPipeBackend]:
    """A backend for one clip.

    What finds faces has no memory, and serves all clips of the process; what follows a face
    forgets the one before.
    """
    with quiet():
        yield MediaPipeBackend(params)


@cache
def _face_detection(model: int, confidence: float) -> Any:  # noqa: ANN401 - mediapipe is untyped
    import mediapipe

    return mediapipe.solutions.face_detection.FaceDetection(
        model_selection=model, min_detection_confidence=confidence
    )


@cache
def _idle_meshes(_detection_confidence: float, _tracking_confidence: float) -> list[Any]:
    return []


def _face_mesh(detection_confidence: float, tracking_confidence: float) -> Any:  # noqa: ANN401
    import mediapipe

    return mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=False,
        max_num_faces=1,
        refine_landmarks=False,
        min_detection_confidence=detection_confidence,
        min_tracking_confidence=tracking_confidence,
    )


def _boxes(detection: Any, picture: Picture) -> list[Box]:  # noqa: ANN401 - mediapipe is untyped
    height, width = picture.shape[:2]
    found = []
    for face in detection.process(picture).detections or []:
        box = face.location_data.relative_bounding_box
        found.append(
            Box(
                box.xmin * width,
                box.ymin * height,
                (box.xmin + box.width) * width,
                (box.ymin + box.height) * height,
                min(1.0, float(face.score[0])),
            )
        )
    return found


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
