"""Stage 2: manifest -> raw landmark parts and decisions with scores."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mssync import records
from mssync.landmarks import detector, ibug, tracks
from mssync.landmarks.detector import Detection, Detector
from mssync.media import decode
from mssync.media.store import MediaStore
from mssync.params import ExtractLandmarks
from mssync.records import LANDMARK_SCORES, Row
from mssync.stages._extract import Extraction, extract

VERSION = 1  # raise when the same media would give other landmarks


def run(
    manifest: Path,
    out: Path,
    ledger: Path,
    params: ExtractLandmarks,
    *,
    store: MediaStore,
    workers: int,
    whole: bool = True,
) -> dict[str, float]:
    """Follow the face through every clip and write its 68 landmarks.

    Args:
        manifest: As `download_videos` writes it.
        out: Folder of parts (`records.LANDMARKS`); what is there and still applies is kept.
        ledger: Folder for the stage's decisions and attempts.
        params: The stage's section.
        store: Where the media are.
        workers: Processes at a time.
        whole: False for a shard of a list: whether enough of its clips survive is decided over
            all shards (`mssync.shards.gather`).

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the manifest is missing, or the backend's weights are.
        StageFailedError: If too few clips show a face.
    """
    detector.factory(params.backend)
    extraction = Extraction(
        name="extract_landmarks",
        one=partial(follow, params=params),
        schema=records.LANDMARKS,
        scores=list(LANDMARK_SCORES),
        version=VERSION,
        params=params,
    )
    return extract(extraction, manifest, out, ledger, store=store, workers=workers, whole=whole)


def follow(media: Path, *, params: ExtractLandmarks) -> Row:
    """Follow the face through one video: the columns of `records.LANDMARKS` but the clip's name.

    Raises:
        ClipRejectedError: `no_face`, or why the video cannot be read.
    """
    clock = decode.read_clock(media)
    with detector.factory(params.backend)(params) as face_detector:
        track = tracks.track(
            _observe(media, clock, face_detector, params.max_source_fps_hz), clock.frames
        )
    found = ~track.interpolated_T
    return {
        "landmarks_TPD": track.landmarks_TPD.ravel(),
        "confidence_T": track.confidence_T,
        "interpolated_T": track.interpolated_T,
        "frames": float(clock.frames),
        "source_fps_hz": clock.fps_hz,
        "tracked_ratio": track.tracked_ratio,
        "longest_gap_frames": float(tracks.longest_run(track.interpolated_T)),
        "mean_confidence": float(track.confidence_T[found].mean()) if found.any() else 0.0,
        "faces_ratio": track.faces_ratio,
        "interocular_px": float(np.median(ibug.interocular_distance(track.landmarks_TPD))),
        "max_jump": tracks.largest_jump(track.landmarks_TPD),
    }


def _observe(
    media: Path, clock: decode.Clock, face_detector: Detector, max_fps_hz: float
) -> Iterator[tuple[float, Detection | None]]:
    for time_s, frame in decode.frames(media, clock, max_fps_hz=max_fps_hz):
        yield time_s, face_detector.detect(frame)
