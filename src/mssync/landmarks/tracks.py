"""A followed face on the clock: from faces at any times to 68 points at every 25 Hz tick.

A lost frame is interpolated in place, never dropped: dropping would shift the motion against the
sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError
from mssync.landmarks.detector import Face
from mssync.timing import FRAME_RATE_HZ

_SAME_TIME_S = 1e-4
_HOLE_S = 0.1  # frames missing from the file; a whole video so slow is refused for its rate


@dataclass(frozen=True)
class Track:
    """One face at T ticks.

    Attributes:
        landmarks_TPD: Points in pixels, float32 (T, 68, 2).
        confidence_T: Detector score, 0 where the face was lost, float32 (T,).
        interpolated_T: True where the face was lost at that time, bool (T,).
        shot_T: Number of the shot, int16 (T,).
        tracked_ratio: Share of looked-at frames with the face.
    """

    landmarks_TPD: NDArray[np.float32]
    confidence_T: NDArray[np.float32]
    interpolated_T: NDArray[np.bool_]
    shot_T: NDArray[np.int16]
    tracked_ratio: float


def track(
    times_s: NDArray[np.float64],
    shot_N: NDArray[np.int16],
    faces: Sequence[Face | None],
    ticks: int,
) -> Track:
    """Put what was found at any times on the 25 Hz clock, linearly by timestamp.

    A tick counts as interpolated where the face was found on neither, or not on both, of the
    looked-at frames around it, or where these are of two shots. Before the first and after the last
    face of a shot it stands still; so it does through a shot that shows none.

    Args:
        times_s: Of the looked-at frames, seconds since the first frame, in order (N,).
        shot_N: Number of the shot of each, never falling (N,).
        faces: What was found on each.
        ticks: Length T.

    Raises:
        ClipRejectedError: `no_face` if no frame shows one.
    """
    has_face_N = np.array([face is not None for face in faces])
    found = [face for face in faces if face is not None]
    if not found:
        raise ClipRejectedError("no_face", f"no face in any of {len(faces)} frames")
    ticks_s = np.arange(ticks) / FRAME_RATE_HZ
    last_seen_T = np.searchsorted(times_s, ticks_s + _SAME_TIME_S, side="right") - 1
    shot_T = shot_N[np.maximum(last_seen_T, 0)]
    left_T, right_T, weight_T = _neighbours(
        ticks_s, shot_T, times_s[has_face_N], shot_N[has_face_N]
    )
    points = np.stack([face.points_PD for face in found])
    confidence = np.array([face.confidence for face in found])
    lost_T = _lost(ticks_s, times_s, shot_N, has_face_N)
    landmarks_TPD = _between(points[left_T], points[right_T], weight_T[:, None, None])
    confidence_T = np.where(lost_T, 0, _between(confidence[left_T], confidence[right_T], weight_T))
    return Track(
        landmarks_TPD=landmarks_TPD.astype(np.float32),
        confidence_T=confidence_T.astype(np.float32),
        interpolated_T=lost_T,
        shot_T=shot_T,
        tracked_ratio=len(found) / len(faces),
    )


def _neighbours(
    ticks_s: NDArray[np.float64],
    shot_T: NDArray[np.int16],
    found_s: NDArray[np.float64],
    found_shot: NDArray[np.int16],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The faces before and after each tick within its shot, and how far it is on the way."""
    first_T = np.searchsorted(found_shot, shot_T, side="left")
    end_T = np.searchsorted(found_shot, shot_T, side="right")
    before_T = np.searchsorted(found_s, ticks_s + _SAME_TIME_S, side="right") - 1
    empty_T = first_T == end_T
    last = len(found_s) - 1
    left_T = np.where(empty_T, before_T, np.clip(before_T, first_T, end_T - 1)).clip(0, last)
    right_T = np.where(empty_T, left_T, np.minimum(left_T + 1, end_T - 1)).clip(0, last)
    span_T = found_s[right_T] - found_s[left_T]
    weight_T = (ticks_s - found_s[left_T]) / np.where(span_T > 0, span_T, 1)
    return left_T, right_T, np.where(span_T > 0, weight_T, 0).clip(0, 1)


def _between(
    before: NDArray[np.floating], after: NDArray[np.floating], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    return (1 - weight) * before + weight * after


def _lost(
    ticks_s: NDArray[np.float64],
    seen_s: NDArray[np.float64],
    shot_N: NDArray[np.int16],
    has_face_N: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Ticks that do not lie on a face or between two neighbouring ones of one shot."""
    after = np.searchsorted(seen_s, ticks_s - _SAME_TIME_S)
    exact = (after < len(seen_s)) & (
        np.abs(seen_s[np.minimum(after, len(seen_s) - 1)] - ticks_s) <= _SAME_TIME_S
    )
    right = np.minimum(after, len(seen_s) - 1)
    left = np.maximum(np.where(exact, right, after - 1), 0)
    inside = (ticks_s >= seen_s[0] - _SAME_TIME_S) & (ticks_s <= seen_s[-1] + _SAME_TIME_S)
    narrow = seen_s[right] - seen_s[left] <= _HOLE_S + _SAME_TIME_S
    same_shot = shot_N[left] == shot_N[right]
    lost: NDArray[np.bool_] = ~(has_face_N[left] & has_face_N[right] & inside & narrow & same_shot)
    return lost


def longest_run(mask_T: NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    return max((sum(1 for _ in run) for value, run in groupby(mask_T) if value), default=0)
