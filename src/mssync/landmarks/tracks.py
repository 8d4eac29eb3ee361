"""A face followed through a clip: from detections at any times to 68 points at every 25 Hz tick.

A lost frame is interpolated in place, never dropped: dropping would shift the motion against the
sound.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError
from mssync.landmarks import ibug
from mssync.landmarks.detector import Detection
from mssync.timing import FRAME_RATE_HZ

_SAME_TIME_S = 1e-4


@dataclass(frozen=True)
class Track:
    """One face at T ticks.

    Attributes:
        landmarks_TPD: Points in source pixels, float32 (T, 68, 2).
        confidence_T: Detector score, 0 where the face was lost, float32 (T,).
        interpolated_T: True where the face was lost at that time, bool (T,).
        tracked_ratio: Share of looked-at frames with a face.
        faces_ratio: Share of counted frames with more than one face.
    """

    landmarks_TPD: NDArray[np.float32]
    confidence_T: NDArray[np.float32]
    interpolated_T: NDArray[np.bool_]
    tracked_ratio: float
    faces_ratio: float


def track(observations: Iterable[tuple[float, Detection | None]], ticks: int) -> Track:
    """Put what was found at any times on the 25 Hz clock, linearly by timestamp.

    A tick counts as interpolated where the face was found on neither, or not on both, of the
    looked-at frames around it. Before the first and after the last detection the face stands still.

    Args:
        observations: Seconds since the first frame and what was found then, in order.
        ticks: Length T.

    Raises:
        ClipRejectedError: `no_face` if no frame shows one.
    """
    seen = list(observations)
    found = [(time_s, detection) for time_s, detection in seen if detection is not None]
    if not found:
        raise ClipRejectedError("no_face", f"no face in any of {len(seen)} frames")
    ticks_s = np.arange(ticks) / FRAME_RATE_HZ
    found_s = np.array([time_s for time_s, _ in found])
    points = np.stack([detection.points_PD for _, detection in found]).reshape(len(found), -1)
    landmarks = np.stack([np.interp(ticks_s, found_s, values) for values in points.T], axis=1)
    confidence = np.interp(ticks_s, found_s, [detection.confidence for _, detection in found])
    lost_T = _lost(ticks_s, seen)
    counted = [detection.faces for _, detection in found if detection.faces]
    return Track(
        landmarks_TPD=landmarks.reshape(ticks, ibug.POINTS, 2).astype(np.float32),
        confidence_T=np.where(lost_T, 0, confidence).astype(np.float32),
        interpolated_T=lost_T,
        tracked_ratio=len(found) / len(seen),
        faces_ratio=sum(faces > 1 for faces in counted) / max(1, len(counted)),
    )


def _lost(
    ticks_s: NDArray[np.float64], seen: list[tuple[float, Detection | None]]
) -> NDArray[np.bool_]:
    """Ticks that do not lie on a detection or between two neighbouring ones."""
    seen_s = np.array([time_s for time_s, _ in seen])
    has_face = np.array([detection is not None for _, detection in seen])
    after = np.searchsorted(seen_s, ticks_s - _SAME_TIME_S)
    exact = (after < len(seen_s)) & (
        np.abs(seen_s[np.minimum(after, len(seen_s) - 1)] - ticks_s) <= _SAME_TIME_S
    )
    right = np.minimum(after, len(seen_s) - 1)
    left = np.maximum(np.where(exact, right, after - 1), 0)
    inside = (ticks_s >= seen_s[0] - _SAME_TIME_S) & (ticks_s <= seen_s[-1] + _SAME_TIME_S)
    # Frames missing from the file: a hole wider than two ticks is a loss like any other.
    narrow = seen_s[right] - seen_s[left] <= 2 / FRAME_RATE_HZ + _SAME_TIME_S
    lost: NDArray[np.bool_] = ~(has_face[left] & has_face[right] & inside & narrow)
    return lost


def longest_run(mask_T: NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    return max((sum(1 for _ in run) for value, run in groupby(mask_T) if value), default=0)


def largest_jump(landmarks_TPD: NDArray[np.float32]) -> float:
    """Largest move of the face's centre from frame to frame, in median inter-ocular distances."""
    if len(landmarks_TPD) < 2:
        return 0.0
    moves = np.linalg.norm(np.diff(landmarks_TPD.mean(axis=1), axis=0), axis=-1)
    return float(moves.max() / max(1e-6, np.median(ibug.interocular_distance(landmarks_TPD))))


def smooth(landmarks_TPD: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Centred mean over an odd number of frames, ends reflected (docs/ms-sync.md, section 1).

    Raises:
        ValueError: If `frames` is even.
    """
    if frames % 2 == 0:
        raise ValueError(f"the width must be odd, found {frames}")
    pad = frames // 2
    padded = np.pad(landmarks_TPD, [(pad, pad), (0, 0), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)
    smoothed: NDArray[np.float32] = windows.mean(axis=-1, dtype=np.float32)
    return smoothed


def square_crop(landmarks_TPD: NDArray[np.float32], scale: float) -> tuple[float, float, float]:
    """One fixed square around the whole track: left, top and side, in the landmarks' unit.

    Args:
        landmarks_TPD: (T, 68, 2).
        scale: Side of the square over the larger extent of the track.
    """
    low, high = landmarks_TPD.min(axis=(0, 1)), landmarks_TPD.max(axis=(0, 1))
    side = float(max(1e-6, (high - low).max()) * scale)
    left, top = (low + high) / 2 - side / 2
    return float(left), float(top), side
