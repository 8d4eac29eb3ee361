"""Which face of one picture, and where are its 68 points?

Axes: P = 68 points, D = 2.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from mssync.errors import InputError
from mssync.landmarks.detector import Backend, Box
from mssync.landmarks.follow import Frame

logger = logging.getLogger(__name__)


def find_face(frame: Frame, backend: Backend, *, name: str, face: int = 0) -> NDArray[np.float32]:
    """The points of one face, as the extraction finds them on the first frame of a clip.

    Args:
        frame: The picture.
        backend: What finds faces and their points.
        name: What the picture is called, for messages.
        face: Its number from the left, from 1; 0: the widest.

    Returns:
        (68, 2), in pixels of the picture at full size.

    Raises:
        InputError: If there is no face, or none of this number.
    """
    height, width = frame.picture_HWC.shape[:2]
    boxes = sorted(backend.detect([frame.picture_HWC])[0], key=lambda box: box.middle[0])
    if not boxes:
        raise InputError(
            f"{name} shows no face, in {width} x {height} px: expected one from the front, "
            "upright and well lit, with room around it. Cut the picture to it, or name another one"
        )
    listed = ", ".join(f"{number}: {_described(box)}" for number, box in enumerate(boxes, start=1))
    if face > len(boxes):
        raise InputError(f"{name} has no face {face}: expected 1 to {len(boxes)} ({listed})")
    chosen = boxes[face - 1] if face else max(boxes, key=lambda box: box.width)
    if len(boxes) > 1 and not face:
        logger.warning(
            "%s shows %d faces, from the left %s; number %d, the widest, is taken: --face takes "
            "another one",
            *(name, len(boxes), listed, boxes.index(chosen) + 1),
        )
    others = [box for box in boxes if box is not chosen]
    (found,) = backend.landmarker().points([frame.picture_HWC], [chosen], [others])
    if found is None:
        raise InputError(
            f"no landmarks are found on the face of {name} ({_described(chosen)}): expected one "
            "from the front and not covered. Name another picture"
        )
    return found.points_PD * np.float32(frame.scale)


def _described(box: Box) -> str:
    x, y = box.middle
    return f"{box.width:.0f} px wide at ({x:.0f}, {y:.0f})"
