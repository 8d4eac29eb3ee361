"""What other systems made of the same clips: a folder of videos or of landmark files.

Axes: T frames (25 Hz), P = 68 points, D = 2.
"""

import logging
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError, InputError
from mssync.landmarks import crop, ibug
from mssync.lists.locations import MEDIA_SUFFIXES
from mssync.media.sandbox import Sandbox
from mssync.params import ExtractLandmarks
from mssync.records import Row, shaped
from mssync.stages import extract_landmarks
from mssync.stages._motion import SUFFIXES
from mssync.stages._scores import Excerpt, Motion
from mssync.timing import FRAME_RATE_HZ

logger = logging.getLogger(__name__)

_LENGTH_S = 0.5  # by which an import may be longer or shorter than its clip
_MIN_TRACKED = 0.5  # of a video's frames: below it the motion is mostly interpolated


@dataclass(frozen=True)
class Extraction:
    """How landmarks of videos are found: as those of the dataset were.

    Attributes:
        params: The section `extract_landmarks`.
        device: For backends that run on torch.
    """

    params: ExtractLandmarks
    device: str


def is_import(folder: Path) -> bool:
    """Does a folder hold videos or landmark files?"""
    return any(
        path.suffix.lower() in (*SUFFIXES, *MEDIA_SUFFIXES) and path.is_file()
        for path in folder.rglob("*.*")
    )


def read(
    folder: Path,
    pieces: Sequence[Excerpt],
    *,
    lengths: Mapping[str, int],
    smoothing_frames: int,
    extraction: Extraction | None,
) -> tuple[dict[int, Motion], dict[int, str]]:
    """The motion of each piece by a system, or why there is none.

    A file belongs to the clip whose id it bears, with folders or without:
    `speaker_01/clip_0.mp4` is found as `speaker_01/clip_0.npz`, and as `clip_0.npz` where no other
    clip ends in that name. It holds the whole clip from its first frame on; one of another length
    is not of this clip, or was written at another frame rate, and is left out. Landmarks are moved
    and scaled, all frames alike, so that the first face is where that of the ground truth is and as
    large: pictures of any size and crop compare.

    Args:
        folder: Videos, or `.npz` and `.parquet` files as `mssync generate` writes them.
        pieces: Held-out pieces of clips.
        lengths: Frames of each clip.
        smoothing_frames: Width of the mean that the dataset's landmarks were smoothed by, and those
            of videos are.
        extraction: How videos are read; None: they cannot be.

    Returns:
        Motion (T, 68, 2) by the piece's index, and a reason by the index of every other piece.

    Raises:
        InputError: If no file is of a test clip, two are of one, or videos are given and cannot be
            read here.
    """
    wanted = _by_file(folder, pieces)
    motions, missing = dict[int, Motion](), dict[int, str]()
    with ExitStack() as opened:
        follow = None
        for file, indices in wanted.items():
            if file is None:
                missing |= dict.fromkeys(indices, f"{folder} has no file of this name")
                continue
            try:
                if file.suffix.lower() in SUFFIXES:
                    points_TPD = read_points(file)
                else:
                    follow = follow or _follower(folder, extraction, opened)
                    points_TPD = crop.smooth(_tracked(follow(file)), smoothing_frames)
            except ClipRejectedError as error:
                missing |= dict.fromkeys(indices, f"{file.name}: {error}")
                continue
            for index in indices:
                piece = pieces[index]
                end = piece.start + len(piece.motion_TPD)
                length = lengths[piece.clip_id]
                if abs(len(points_TPD) - length) > _LENGTH_S * FRAME_RATE_HZ:
                    missing[index] = f"{file.name}: {_other_length(len(points_TPD), length)}"
                elif len(points_TPD) < end:
                    missing[index] = f"{file.name}: {len(points_TPD)} frames, {end} are needed"
                else:
                    motions[index] = _placed(points_TPD[piece.start : end], piece.motion_TPD[0])
    logger.info("evaluate: %s: %d of %d sequences", folder, len(motions), len(pieces))
    return motions, missing


def read_points(file: Path) -> NDArray[np.float32]:
    """Landmarks (T, 68, 2) in pixels of a file as `mssync generate` writes it.

    Raises:
        ClipRejectedError: If it is no such file.
    """
    try:
        if file.suffix.lower() == ".npz":
            with np.load(file, allow_pickle=False) as found:
                points, rate_hz = found["landmarks_TPD"], float(found["fps_hz"])
        else:
            table = pq.read_table(file, columns=["source_px"])
            metadata = pq.read_schema(file).metadata or {}
            points = np.array(table["source_px"].to_pylist(), np.float32)
            points, rate_hz = points.reshape(-1, ibug.POINTS, 2), float(metadata[b"fps_hz"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise ClipRejectedError(
            "corrupt", f"is no landmark file as mssync generate writes it ({error})"
        ) from error
    points_TPD: NDArray[np.float32] = np.asarray(points, np.float32)
    if points_TPD.ndim != 3 or points_TPD.shape[1:] != (ibug.POINTS, 2) or rate_hz != FRAME_RATE_HZ:
        raise ClipRejectedError(
            "corrupt",
            f"expected (T, {ibug.POINTS}, 2) at {FRAME_RATE_HZ} Hz, found {points_TPD.shape} at "
            f"{rate_hz:g} Hz",
        )
    if not np.isfinite(points_TPD).all():
        raise ClipRejectedError("corrupt", "holds landmarks that are no numbers")
    return points_TPD


def _by_file(folder: Path, pieces: Sequence[Excerpt]) -> dict[Path | None, list[int]]:
    """Indices of the pieces that each file holds; None: that none does."""
    files = _files(folder)
    stems = {_stem(piece.clip_id) for piece in pieces}
    bare = Counter(PurePosixPath(stem).name for stem in stems)
    found: dict[Path | None, list[int]] = {}
    for index, piece in enumerate(pieces):
        stem = _stem(piece.clip_id)
        name = PurePosixPath(stem).name
        file = files.get(stem) or (files.get(name) if bare[name] == 1 else None)
        found.setdefault(file, []).append(index)
    others = [path for path in files.values() if path not in found]
    if found.keys() == {None}:
        raise InputError(
            f"{folder} has no file of a test clip: expected names like "
            f"{_stem(pieces[0].clip_id)}{others[0].suffix}, found "
            f"{others[0].relative_to(folder).as_posix()} and {len(others) - 1} more"
        )
    if others:
        logger.log(
            logging.WARNING if None in found else logging.INFO,
            "evaluate: %s: %d files are of no test clip and are not looked at, first %s",
            folder,
            len(others),
            others[0].relative_to(folder).as_posix(),
        )
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Videos and landmark files by their path without suffix."""
    files = dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (*MEDIA_SUFFIXES, *SUFFIXES) or not path.is_file():
            continue
        stem = _stem(path.relative_to(folder).as_posix())
        if stem in files:
            raise InputError(
                f"{folder}: {files[stem].name} and {path.name} are of one clip, {stem}: leave one"
            )
        files[stem] = path
    return files


def _other_length(found: int, expected: int) -> str:
    """Why a file is not of its clip."""
    seconds = (f"{frames} frames ({frames / FRAME_RATE_HZ:.2f} s)" for frames in (found, expected))
    return (
        "{} at 25 Hz, the clip has {}: make it of the whole clip and nothing else, and write it at "
        "the rate it was made for"
    ).format(*seconds)


def _stem(name: str) -> str:
    """A clip's id or a file's path without the suffix of a video or a landmark file."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in (*MEDIA_SUFFIXES, *SUFFIXES) else name


def _follower(
    folder: Path, extraction: Extraction | None, opened: ExitStack
) -> Callable[[Path], Row]:
    if extraction is None:
        raise InputError(
            f"{folder} holds videos, which are read on the command line only (mssync evaluate): "
            "give landmark files (.npz, .parquet) here"
        )
    one, _ = opened.enter_context(
        extract_landmarks.follower(extraction.params, device=extraction.device)
    )
    sandbox = opened.enter_context(Sandbox(memory_bytes=extraction.params.process_bytes))
    return lambda media: one(media, sandbox)


def _tracked(row: Row) -> NDArray[np.float32]:
    """The landmarks of a row of `records.LANDMARKS`."""
    if row["tracked_ratio"] < _MIN_TRACKED:
        raise ClipRejectedError(
            "no_face", f"a face is found in {row['tracked_ratio']:.0%} of the frames only"
        )
    return shaped(row["landmarks_TPD"], -1, ibug.POINTS, 2)


def _placed(points_TPD: NDArray[np.float32], like_PD: NDArray[np.float32]) -> Motion:
    """Points in any unit, moved and scaled so that the first face is placed as another."""
    left, top, side = crop.crop_like(points_TPD[0], like_PD)
    placed: Motion = (points_TPD - np.array([left, top], np.float32)) / np.float32(side)
    return placed
