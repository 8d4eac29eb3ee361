"""How near do found landmarks come to the true ones? Of the demo's corpus these are known.

Axes: T ticks (25 Hz), P = 68 points, D = 2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssync import records
from mssync.landmarks import ibug, motion
from mssync.parts import read_parts
from mssync.records import Row

REGIONS: Mapping[str, tuple[int, ...]] = {
    "jaw": tuple(ibug.JAW),
    "brows": (*ibug.RIGHT_BROW, *ibug.LEFT_BROW),
    "nose": (*ibug.NOSE_BRIDGE, *ibug.NOSTRILS),
    "eyes": (*ibug.RIGHT_EYE, *ibug.LEFT_EYE),
    "lips": tuple(ibug.LIPS),
}
_COLUMNS = ["clip_id", "landmarks_TPD", "interpolated_T", "shot_T"]


@dataclass(frozen=True)
class Spread:
    """Errors of points, in per cent of the true inter-ocular distance (outer eye corners).

    Attributes:
        mean: Over all points of all ticks.
        p95: 95th percentile over the same.
    """

    mean: float
    p95: float


@dataclass(frozen=True)
class Accuracy:
    """Of landmarks against the truth.

    Attributes:
        clips: Number of clips.
        error: Over all points.
        regions: By the names of `REGIONS`.
        mouth_correlation: Of the mouth's opening with the true one, mean over the clips.
        jitter: At rest (`motion.jitter`), in per cent of the inter-ocular distance, mean over the
            clips.
        true_jitter: The same of the truth, whose head never quite rests.
    """

    clips: int
    error: Spread
    regions: Mapping[str, Spread]
    mouth_correlation: float
    jitter: float
    true_jitter: float


def true_landmarks(corpus: Path, source: str) -> NDArray[np.float32] | None:
    """The true landmarks of a clip of the corpus, in pixels (T, 68, 2); None if it has no such."""
    path = (corpus / "truth" / source).with_suffix(".npz")
    if not path.is_file():
        return None
    with np.load(path) as stored:
        landmarks_TPD: NDArray[np.float32] = stored["landmarks_TPD"]
    return landmarks_TPD


def measure(pairs: Iterable[tuple[Row, NDArray[np.float32]]]) -> Accuracy:
    """Compare clips with their truth.

    Args:
        pairs: `landmarks_TPD`, `interpolated_T` and `shot_T` as in `records.LANDMARKS`, and the
            true landmarks in pixels (T, 68, 2).

    Raises:
        ValueError: If there is no clip, or one is not as long as its truth.
    """
    errors = list[NDArray[np.float32]]()
    correlations, jitters, true_jitters = list[float](), list[float](), list[float]()
    for row, true_TPD in pairs:
        found_TPD = records.shaped(row["landmarks_TPD"], -1, ibug.POINTS, 2)
        if found_TPD.shape != true_TPD.shape:
            raise ValueError(
                f"the truth has {len(true_TPD)} ticks, the landmarks have {len(found_TPD)}"
            )
        scale_T1 = ibug.interocular_distance(true_TPD)[:, None]
        errors.append(100 * np.linalg.norm(found_TPD - true_TPD, axis=-1) / scale_T1)
        shot_T = np.asarray(row["shot_T"], np.int16)
        openings = motion.mouth_opening(found_TPD, shot_T), motion.mouth_opening(true_TPD, shot_T)
        correlations.append(float(np.corrcoef(*openings)[0, 1]))
        jitters.append(motion.jitter(found_TPD, row["interpolated_T"], shot_T))
        nowhere_T = np.zeros(len(true_TPD), np.bool_)
        true_jitters.append(motion.jitter(true_TPD, nowhere_T, nowhere_T.astype(np.int16)))
    if not errors:
        raise ValueError("there is no clip to compare")
    errors_TP = np.concatenate(errors)
    return Accuracy(
        clips=len(errors),
        error=_spread(errors_TP),
        regions={name: _spread(errors_TP[:, points]) for name, points in REGIONS.items()},
        mouth_correlation=float(np.mean(correlations)),
        jitter=100 * float(np.mean(jitters)),
        true_jitter=100 * float(np.mean(true_jitters)),
    )


def _spread(errors: NDArray[np.float32]) -> Spread:
    return Spread(float(errors.mean()), float(np.percentile(errors, 95)))


def summary_line(landmarks: Path, corpus: Path) -> str:
    """What a workspace's landmarks are worth, in one line; empty where no truth is known.

    Args:
        landmarks: Folder of landmark parts.
        corpus: Folder of the corpus, as `corpus.make` leaves it.

    Raises:
        InputError: If a part is unreadable.
    """
    pairs = [
        (row, true_TPD)
        for row in read_parts(landmarks, records.LANDMARKS, columns=_COLUMNS)
        if (true_TPD := true_landmarks(corpus, row["clip_id"])) is not None
    ]
    if not pairs:
        return ""
    found = measure(pairs)
    return (
        f"Landmarks against the truth, {found.clips} clips, in % of the inter-ocular distance: "
        f"error {found.error.mean:.1f}, 95th percentile {found.error.p95:.1f}; "
        f"jitter at rest {found.jitter:.2f}, of the truth {found.true_jitter:.2f}"
    )
