"""Stage 2: manifest -> raw landmark parts and decisions with scores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssync import records
from mssync.landmarks import ibug, motion, tracks
from mssync.landmarks.detector import Backend, open_backend
from mssync.landmarks.follow import Following, Frame
from mssync.landmarks.follow import follow as follow_faces
from mssync.landmarks.pose import pose
from mssync.landmarks.tracks import Track
from mssync.media import decode
from mssync.media.decode import Clock
from mssync.media.remote import remote_frames
from mssync.media.sandbox import Sandbox
from mssync.media.store import MediaStore
from mssync.params import ExtractLandmarks
from mssync.records import LANDMARK_SCORES, Row
from mssync.stages._extract import Extraction, allowed_s, apart, clock_apart, extract

VERSION = 3  # raise when the same media would give other landmarks


def run(
    manifest: Path,
    out: Path,
    ledger: Path,
    params: ExtractLandmarks,
    *,
    store: MediaStore,
    workers: int,
    device: str,
    whole: bool = True,
) -> dict[str, float]:
    """Follow the face through every clip and write its 68 landmarks.

    Args:
        manifest: As `download_videos` writes it.
        out: Folder of parts (`records.LANDMARKS`); what is there and still applies is kept.
        ledger: Folder for the stage's decisions and attempts.
        params: The stage's section.
        store: Where the media are.
        workers: Clips at a time.
        device: `auto`, `cpu` or `cuda`, for backends that run on torch.
        whole: False for a shard of a list: whether enough of its clips survive is decided over
            all shards (`mssync.shards.gather`).

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the manifest is missing, or the backend's weights or library are.
        ParamsError: If there is no such device.
        StageFailedError: If too few clips show a face.
    """
    with follower(params, device=device) as (one, identity):
        extraction = Extraction(
            name="extract_landmarks",
            one=one,
            schema=records.LANDMARKS,
            scores=list(LANDMARK_SCORES),
            version=VERSION,
            params=params,
            identity=identity,
        )
        return extract(extraction, manifest, out, ledger, store=store, workers=workers, whole=whole)


@contextmanager
def follower(
    params: ExtractLandmarks, *, device: str
) -> Iterator[tuple[Callable[[Path, Sandbox], Row], str]]:
    """What follows the face through one clip, all in a sandbox or but the decoder; its identity."""
    with open_backend(params, device=device) as backend:
        if backend.shared:
            yield partial(_follow_shared, params=params, backend=backend), backend.identity
            return
        identity = backend.identity
    yield apart(partial(follow, params=params), params), identity


def _follow_shared(
    media: Path, sandbox: Sandbox, *, params: ExtractLandmarks, backend: Backend
) -> Row:
    clock = clock_apart(media, sandbox)
    frames = remote_frames(
        sandbox,
        media,
        clock,
        max_fps_hz=params.max_source_fps_hz,
        max_side_px=params.max_side_px,
        max_pixels=params.max_pixels,
        wall_s=allowed_s(clock, params),
    )
    with closing(frames):  # another clip is given the sandbox next
        return _row(clock, follow_faces(frames, backend, params))


def follow(media: Path, *, params: ExtractLandmarks, device: str = "auto") -> Row:
    """Follow the face through one video: the columns of `records.LANDMARKS` but the clip's name.

    Raises:
        ClipRejectedError: `no_face`, or why the video cannot be read.
        InputError: If the backend's weights or library are missing.
    """
    clock = decode.read_clock(media)
    with open_backend(params, device=device) as backend:
        return _row(clock, follow_faces(_frames(media, clock, params), backend, params))


def _frames(media: Path, clock: Clock, params: ExtractLandmarks) -> Iterator[Frame]:
    return decode.frames(
        media,
        clock,
        max_fps_hz=params.max_source_fps_hz,
        max_side_px=params.max_side_px,
        max_pixels=params.max_pixels,
        threads=1,
    )


def _row(clock: Clock, seen: Following) -> Row:
    track = tracks.track(seen.times_s, seen.shot_N, seen.faces, clock.frames)
    mouth_T = motion.mouth_opening(track.landmarks_TPD, track.shot_T)
    move_T = motion.moves(track.landmarks_TPD, track.shot_T)
    pose_TA = pose(track.landmarks_TPD)
    return {
        "landmarks_TPD": track.landmarks_TPD.ravel(),
        "confidence_T": track.confidence_T,
        "interpolated_T": track.interpolated_T,
        "pose_TA": pose_TA.ravel(),
        "mouth_T": mouth_T,
        "move_T": move_T,
        "shot_T": track.shot_T,
    } | _scores(clock, seen, track, pose_TA, mouth_T, move_T)


def _scores(
    clock: Clock,
    seen: Following,
    track: Track,
    pose_TA: NDArray[np.float32],
    mouth_T: NDArray[np.float32],
    move_T: NDArray[np.float32],
) -> dict[str, float]:
    found_T = ~track.interpolated_T
    looked = len(seen.times_s)
    within_shot_T = np.append(False, track.shot_T[1:] == track.shot_T[:-1])
    yaw_deg, pitch_deg, roll_deg = np.percentile(
        np.abs(pose_TA[found_T] if found_T.any() else pose_TA), 95, axis=0
    )
    return {
        "frames": float(clock.frames),
        "source_fps_hz": clock.fps_hz,
        "tracked_ratio": track.tracked_ratio,
        "interpolated_ratio": float(track.interpolated_T.mean()),
        "longest_gap_frames": float(tracks.longest_run(track.interpolated_T)),
        "mean_confidence": float(track.confidence_T[found_T].mean()) if found_T.any() else 0.0,
        "faces_ratio": seen.rivalled / max(1, seen.searched),
        "max_faces": float(seen.most_faces),
        "rival_mouth_energy": seen.rival_mouth_energy,
        "interocular_px": float(np.median(ibug.interocular_distance(track.landmarks_TPD))),
        "blur": _median([detail.blur for detail in seen.details]),
        "yaw_p95_deg": float(yaw_deg),
        "pitch_p95_deg": float(pitch_deg),
        "roll_p95_deg": float(roll_deg),
        "jitter": motion.jitter(track.landmarks_TPD, track.interpolated_T, track.shot_T),
        "mouth_energy": motion.mouth_energy(mouth_T, track.interpolated_T),
        "mouth_texture": _median([detail.mouth_texture for detail in seen.details]),
        "frozen_ratio": seen.repeated / max(1, looked - 1),
        "shots": float(track.shot_T.max() + 1),
        "max_jump": float(move_T[within_shot_T].max(initial=0.0)),
        "interlaced_ratio": seen.interlaced / looked,
    }


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0
