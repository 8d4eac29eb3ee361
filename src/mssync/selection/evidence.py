"""What decisions rest on: measured once for each clip from its parts, and kept.

The cache is no output: it can be deleted, and is then made again. It is good for one set of the
parameters that shape what is measured, and for one version of the code.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssync import records, versions
from mssync.errors import InputError
from mssync.landmarks import crop, ibug
from mssync.params import BuildDataset
from mssync.parts import PartReader, Place, places
from mssync.records import Row
from mssync.selection import fingerprints, rules
from mssync.selection.envelope import envelope
from mssync.selection.offset import UNKNOWN, Offset, estimate
from mssync.selection.rules import Face, Known, Sound, Usable
from mssync.selection.stretch import Stretch
from mssync.timing import ROWS_PER_FRAME
from mssync.workers import in_order

logger = logging.getLogger(__name__)

# The code that measures.
_CODE = (
    *("selection/envelope.py", "selection/fingerprints.py", "selection/offset.py"),
    *("selection/rules.py", "selection/stretch.py"),
    *("landmarks/crop.py", "landmarks/ibug.py", "timing.py"),
)
_SHAPING = ("max_jump", "max_gap_frames", "max_length_mismatch_s", "crop_scale")
_LENGTHS = {
    "shot_changes": "shot_frames",
    "face_jumps": "steady_frames",
    "face_lost": "followed_frames",
    "length_mismatch": "usable_frames",
}
_FACE = ("interpolated_T", "shot_T", "move_T", "mouth_T")
_SOUND = ("loudness_A", "log_mel_AM", "audio_start_s", "audio_end_s")
# Clips of which nothing is kept when the stage is killed; half a minute of work.
_CLIPS_PER_FILE = 1024
# It takes a process a second to start, and as long for so many clips.
_CLIPS_PER_WORKER = 100


@dataclass(frozen=True)
class Crop:
    """The fixed square around the face, in source pixels."""

    left_px: float
    top_px: float
    side_px: float


@dataclass(frozen=True)
class Evidence:
    """What is known of a clip in which a face was followed.

    Attributes:
        landmarks: Where its landmarks are.
        audio: Where its sound is; None where it has none.
        known: What decisions rest on.
        crop: Around the face in the usable stretch; its side is 0 where there is no stretch.
        sound_words_T: Fingerprint of its sound; empty where it has none.
        motion_words_T: Fingerprint of its movement.
        content: Digest of the rows that were measured.
    """

    landmarks: Place
    audio: Place | None
    known: Known
    crop: Crop
    sound_words_T: NDArray[np.uint32]
    motion_words_T: NDArray[np.uint32]
    content: str


def gather(
    landmarks: Path,
    audio: Path,
    params: BuildDataset,
    *,
    listed_ms: Mapping[str, float],
    cache: Path,
    keep: bool,
    workers: int = 1,
) -> dict[str, Evidence]:
    """Evidence of every clip with landmarks, by clip id.

    Args:
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        params: How long a gap is, and the like.
        listed_ms: How late the sound of clips is, as the list gives it; NaN: it does not.
        cache: Folder of what was measured before.
        keep: Write what is measured now into the cache, and drop what no longer applies.
        workers: Processes that measure; they decide nothing.

    Raises:
        InputError: If parts are missing or of the wrong form.
    """
    for folder, what, option in (
        (landmarks, "landmark parts", "--landmarks"),
        (audio, "audio-feature parts", "--audio"),
    ):
        if not folder.is_dir():
            raise InputError(f"there is no folder of {what} {folder}: name it with {option}")
    faces, sounds = places(landmarks, records.LANDMARKS), places(audio, records.AUDIO)
    wanted = {clip: _content(face, sounds.get(clip)) for clip, face in faces.items()}
    store = _Cache(cache, _key(params))
    rows = store.read(wanted)
    missing = sorted(wanted.keys() - rows.keys(), key=lambda clip: (faces[clip].part, clip))
    if missing:
        logger.info("build-dataset: measuring %d of %d clips", len(missing), len(wanted))
    pieces = [
        {clip: (faces[clip], sounds.get(clip)) for clip in clips}
        for _, clips in groupby(missing, key=lambda clip: faces[clip].part)
    ]
    measured = chain.from_iterable(
        in_order(
            partial(_measure, landmarks, audio, params),
            pieces,
            workers=min(workers, math.ceil(len(missing) / _CLIPS_PER_WORKER)) or 1,
        )
    )
    while group := list(islice(measured, _CLIPS_PER_FILE)):
        if keep:
            store.add(group)
        rows |= {row["clip_id"]: row for row in group}
    if keep:
        store.tidy(wanted)
    return {
        clip: _evidence(rows[clip], face, sounds.get(clip), listed_ms.get(clip, math.nan))
        for clip, face in faces.items()
    }


def forget(cache: Path, clips: Collection[str]) -> None:
    """Remove what was measured of some clips from the cache."""
    for path in sorted(cache.glob("evidence-*.parquet")):
        rows = records.read(path, None)
        left = [row for row in rows if row["clip_id"] not in clips]
        if len(left) == len(rows):
            continue
        if left:
            key = records.read_metadata(path)["key"]
            records.write(path, left, records.EVIDENCE, metadata={"key": key})
        else:
            path.unlink()


class _Cache:
    """Files of evidence; each is written once, and dropped when most of it no longer applies."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key
        self._clips = dict[Path, list[tuple[str, str]]]()

    def read(self, wanted: Mapping[str, str]) -> dict[str, Row]:
        """Rows of the wanted clips whose content is still the same."""
        found = dict[str, Row]()
        for path in sorted(self._folder.glob("evidence-*.parquet")):
            if records.read_metadata(path).get("key") != self._key:
                self._clips[path] = []
                continue
            rows = records.read(path, records.EVIDENCE)
            self._clips[path] = [(row["clip_id"], row["content"]) for row in rows]
            found |= {
                row["clip_id"]: row for row in rows if wanted.get(row["clip_id"]) == row["content"]
            }
        return found

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        name = records.digest(self._key, sorted(row["content"] for row in rows))[:16]
        path = self._folder / f"evidence-{name}.parquet"
        records.write(path, rows, records.EVIDENCE, metadata={"key": self._key})

    def tidy(self, wanted: Mapping[str, str]) -> None:
        """Drop files that were read and of which less than half is wanted."""
        for path, clips in self._clips.items():
            good = sum(wanted.get(clip) == content for clip, content in clips)
            if good * 2 < len(clips) or not clips:
                path.unlink()


def _content(face: Place, sound: Place | None) -> str:
    return records.digest(face.content, sound.content if sound else "")


def _key(params: BuildDataset) -> str:
    shaping = [f"{name} {getattr(params, name)}" for name in _SHAPING]
    return records.digest(shaping, versions.source_digest(*_CODE), records.EVIDENCE.to_string())


def _measure(
    landmarks: Path,
    audio: Path,
    params: BuildDataset,
    clips: Mapping[str, tuple[Place, Place | None]],
) -> list[Row]:
    """Evidence of clips, in the order in which they are given."""
    identity = ("clip_id", "content")
    points = PartReader(
        landmarks,
        records.LANDMARKS,
        columns=[*identity, "landmarks_TPD", *_FACE],
        parts_in_memory=1,
    )
    heard = PartReader(audio, records.AUDIO, columns=[*identity, *_SOUND])
    return [
        {"clip_id": clip, "content": _content(face, sound)}
        | _one(points.row(clip, face), heard.row(clip, sound) if sound else None, params)
        for clip, (face, sound) in clips.items()
    ]


def _one(face: Row, sound: Row | None, params: BuildDataset) -> Row:
    """What is measured of a clip."""
    usable = rules.measure(
        Face(**{name: face[name] for name in _FACE}),
        Sound(envelope(sound["loudness_A"]), sound["audio_start_s"], sound["audio_end_s"])
        if sound
        else None,
        params,
    )
    points_TPD = records.shaped(face["landmarks_TPD"], -1, ibug.POINTS, 2)
    square = _square(points_TPD, usable.stretch, params.crop_scale)
    offset, words_T = UNKNOWN, np.zeros(0, np.uint32)
    if sound:
        log_mel_AM = records.shaped(sound["log_mel_AM"], len(points_TPD) * ROWS_PER_FRAME, -1)
        words_T = fingerprints.of_sound(log_mel_AM)
        ticks = usable.stretch.ticks()
        offset = estimate(
            points_TPD[ticks],
            log_mel_AM[usable.stretch.ticks(ROWS_PER_FRAME)],
            ~face["interpolated_T"][ticks],
        )
    return {
        "frames": len(points_TPD),
        "usable_frames": usable.stretch.frames,
        "first_frame": usable.stretch.first_frame,
        "mouth_loudness_correlation": usable.correlation,
        "mouth_loudness_lag_s": usable.lag_s,
        "av_offset_ms": offset.offset_ms,
        "av_confidence": offset.confidence,
        "av_drift_ms_per_s": offset.drift_ms_per_s,
        "crop_left_px": square.left_px,
        "crop_top_px": square.top_px,
        "crop_side_px": square.side_px,
        "sound_words_T": words_T,
        "motion_words_T": fingerprints.of_motion(points_TPD),
    } | {
        name: usable.longest.get(reason, usable.stretch.frames) for reason, name in _LENGTHS.items()
    }


def _square(points_TPD: NDArray[np.float32], stretch: Stretch, scale: float) -> Crop:
    if not stretch.frames:
        return Crop(0, 0, 0)
    return Crop(*crop.square_crop(points_TPD[stretch.ticks()], scale))


def _evidence(row: Row, landmarks: Place, audio: Place | None, listed_ms: float) -> Evidence:
    usable = Usable(
        stretch=Stretch(row["first_frame"], row["usable_frames"]),
        longest={reason: row[name] for reason, name in _LENGTHS.items()},
        correlation=row["mouth_loudness_correlation"],
        lag_s=row["mouth_loudness_lag_s"],
    )
    offset = Offset(row["av_offset_ms"], row["av_confidence"], row["av_drift_ms_per_s"])
    return Evidence(
        landmarks,
        audio,
        Known(row["frames"], usable, offset, listed_ms),
        Crop(row["crop_left_px"], row["crop_top_px"], row["crop_side_px"]),
        row["sound_words_T"],
        row["motion_words_T"],
        row["content"],
    )
