"""Is what lies on disk what docs/data.md says? The first value that is not is named.

Types are checked as files are read (`mssync.records`); here ranges, clocks, digests, duplicates,
and that no table speaks of a clip that another does not know. Few clips are in memory at a time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync import records, versions
from mssync.data import dataset
from mssync.data.splits import SPLITS
from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.ledger import DECISIONS, stream_decisions
from mssync.parts import PATTERN, Place, places
from mssync.records import Row
from mssync.timing import ROWS_PER_FRAME


@dataclass(frozen=True)
class _Array:
    """What an array column of a part may hold.

    Attributes:
        per_tick: Values for each tick; None: any multiple of `rows` values.
        rows: Rows for each tick, where the number of values in a row is a parameter.
        low: Least value.
        high: Largest value.
        may_be_empty: Whether a clip may have none.
    """

    per_tick: int | None = None
    rows: int = 1
    low: float = -np.inf
    high: float = np.inf
    may_be_empty: bool = False


_FLOOR = float(np.log(1e-8))
_LANDMARKS = {
    "landmarks_TPD": _Array(ibug.POINTS * 2, low=-1e5, high=1e5),
    "confidence_T": _Array(1, low=0, high=1),
    "interpolated_T": _Array(1, low=0, high=1),
    "pose_TA": _Array(3, low=-180, high=180),
    "mouth_T": _Array(1, low=0, high=100),
    "move_T": _Array(1, low=0),
    "shot_T": _Array(1, low=0),
}
_AUDIO = {
    # a float32 of the floor may lie a little below it
    "log_mel_AM": _Array(rows=ROWS_PER_FRAME, low=_FLOOR - 1e-3, high=100),
    "mfcc_AC": _Array(rows=ROWS_PER_FRAME, low=-1e4, high=1e4),
    "wide_mel_AM": _Array(rows=ROWS_PER_FRAME, low=_FLOOR - 1e-3, high=100, may_be_empty=True),
    "loudness_A": _Array(ROWS_PER_FRAME, low=-120 - 1e-3, high=20),
    "speech_A": _Array(ROWS_PER_FRAME, low=0, high=1),
}


@dataclass(frozen=True)
class Checked:
    """How many rows were found good.

    Attributes:
        clips: Of the manifest.
        landmarks: Of the landmark parts.
        audio: Of the audio parts.
        dataset: Of the dataset; None where there is none yet.
    """

    clips: int
    landmarks: int
    audio: int
    dataset: int | None


def validate(manifest: Path, landmarks: Path, audio: Path, ledger: Path, folder: Path) -> Checked:
    """Check everything from the manifest to the dataset.

    Args:
        manifest: As `download_videos` writes it.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        ledger: Folder of all stages' ledgers.
        folder: The dataset's; may be missing.

    Raises:
        InputError: Naming the first value that is wrong: file, clip, column, place, what was found
            and what was expected.
    """
    clips = _manifest(manifest)
    frames = _parts(landmarks, records.LANDMARKS, _LANDMARKS, clips)
    heard = _parts(audio, records.AUDIO, _AUDIO, clips)
    for clip in frames.keys() & heard.keys():
        if frames[clip] != heard[clip]:
            raise InputError(
                f"{clip}: {landmarks} has {frames[clip]} frames of it and {audio} {heard[clip]}, "
                "expected the same clock: run the extraction stages again"
            )
    _ledger(ledger / "extract_landmarks" / DECISIONS, clips, set(frames))
    _ledger(ledger / "extract_audio" / DECISIONS, clips, set(heard))
    listed = None
    if (folder / dataset.METADATA).exists():
        listed = _dataset(folder, landmarks, audio, ledger, frames)
    return Checked(len(clips), len(frames), len(heard), listed)


def _manifest(path: Path) -> dict[str, str]:
    """Digest of the media of every clip."""
    clips = dict[str, str]()
    before = ""
    for number, row in enumerate(records.stream(path, records.MANIFEST)):
        clip = row["clip_id"]
        where = f"{path}, row {number} ({clip})"
        if clip in clips:
            raise InputError(f"{where}: clip_id is there twice, expected one row a clip")
        if clip < before:
            raise InputError(f"{where}: clip_id comes after {before}, expected them sorted")
        if row["split"] not in ("", *SPLITS):
            raise InputError(
                f"{where}: split is {row['split']!r}, expected one of {SPLITS} or none"
            )
        if np.isinf(row["av_offset_ms"]):
            raise InputError(
                f"{where}: av_offset_ms is infinite, expected a number, or NaN for none"
            )
        if row["bytes"] <= 0:
            raise InputError(f"{where}: bytes is {row['bytes']}, expected more than 0")
        clips[clip] = row["sha256"]
        before = clip
    return clips


def _parts(
    folder: Path,
    schema: Any,  # noqa: ANN401 - pyarrow is untyped
    arrays: Mapping[str, _Array],
    clips: Mapping[str, str],
) -> dict[str, int]:
    """Length of every clip in a folder of parts."""
    places(folder, schema)
    frames = dict[str, int]()
    for path in sorted(folder.glob(PATTERN)):
        for number, row in enumerate(records.stream(path, schema)):
            clip = row["clip_id"]
            where = f"{path}, row {number} ({clip})"
            if clips.get(clip) != row["sha256"]:
                what = "another media file" if clip in clips else "no such clip"
                raise InputError(
                    f"{where}: orphaned, the manifest has {what}: run the stage that writes it"
                )
            frames[clip] = _row(row, arrays, where)
            if row["content"] != records.row_digest(row, schema):
                raise InputError(
                    f"{where}: content is not the digest of the row, which was changed after it "
                    "was written: restore the file (dvc checkout --force), or delete it and "
                    "extract again"
                )
    return frames


def _row(row: Row, arrays: Mapping[str, _Array], where: str) -> int:
    """Check the arrays of a clip; its length."""
    frames = int(row["frames"])
    if frames < 1 or frames != row["frames"]:
        raise InputError(f"{where}: frames is {row['frames']}, expected a number of ticks")
    for name, allowed in arrays.items():
        values = np.asarray(row[name])
        if allowed.may_be_empty and not len(values):
            continue
        _length(values, allowed, frames, f"{where}: {name}")
        _range(values, allowed, f"{where}: {name}")
    return frames


def _length(values: NDArray[Any], allowed: _Array, frames: int, where: str) -> None:
    if allowed.per_tick is not None:
        if len(values) != allowed.per_tick * frames:
            raise InputError(
                f"{where} has {len(values)} values, expected {allowed.per_tick} for each of "
                f"{frames} ticks"
            )
    elif not len(values) or len(values) % (allowed.rows * frames):
        raise InputError(
            f"{where} has {len(values)} values, expected a multiple of {allowed.rows} rows for "
            f"each of {frames} ticks"
        )


def _range(values: NDArray[Any], allowed: _Array, where: str) -> None:
    # NaN is in no range
    wrong = np.flatnonzero(~((values >= allowed.low) & (values <= allowed.high)))
    if len(wrong):
        raise InputError(
            f"{where}[{wrong[0]}] is {values[wrong[0]]}, expected a number in "
            f"[{allowed.low:g}, {allowed.high:g}] ({len(wrong)} values are not)"
        )


def _ledger(path: Path, clips: Mapping[str, str], extracted: set[str]) -> None:
    """Every clip is decided once, and what is kept was extracted."""
    decided = set[str]()
    for decision in stream_decisions(path):
        clip = decision.clip_id
        if clip not in clips:
            raise InputError(f"{path}: {clip} is orphaned, the manifest does not have it")
        if clip in decided:
            raise InputError(f"{path}: {clip} is decided twice")
        if decision.kept != (clip in extracted):
            found = "not in its parts" if decision.kept else "in its parts"
            raise InputError(
                f"{path}: {clip} is {'kept' if decision.kept else 'rejected'} and {found}: run "
                "the stage again"
            )
        decided.add(clip)
    undecided = clips.keys() - decided
    if undecided:
        raise InputError(f"{path}: {min(undecided)} of the manifest is not decided")


def _dataset(
    folder: Path, landmarks: Path, audio: Path, ledger: Path, frames: Mapping[str, int]
) -> int:
    """Check the list against the parts and the ledger; its length."""
    version = dataset.load(folder)
    faces, sounds = places(landmarks, records.LANDMARKS), places(audio, records.AUDIO)
    decisions = list(stream_decisions(ledger / "build_dataset" / DECISIONS))
    kept = {decision.clip_id for decision in decisions if decision.kept}
    homes = dict[str, str]()
    for problem in _problems(version, faces, sounds, frames, kept, homes):
        raise InputError(f"{folder}: {problem}: run build-dataset again")
    listed = {row["clip_id"] for row in version.rows}
    if kept - listed:
        raise InputError(f"{folder}: {min(kept - listed)} is kept and not listed")
    revision = versions.dataset_revision(
        map(versions.clip_digest, version.rows),
        decisions,
        smoothing_frames=version.metadata["params"]["smoothing_frames"],
    )
    if revision != version.revision:
        raise InputError(
            f"{folder}: the revision of its rows and of {ledger} is {revision[:12]}, "
            f"{dataset.METADATA} says {version.revision[:12]}: run build-dataset again"
        )
    return len(version.rows)


def _problems(
    version: dataset.Dataset,
    faces: Mapping[str, Place],
    sounds: Mapping[str, Place],
    frames: Mapping[str, int],
    kept: set[str],
    homes: dict[str, str],
) -> Iterator[str]:
    """What is wrong with rows of the list, in their order."""
    before = ""
    for row in version.rows:
        clip, split, home = row["clip_id"], row["split"], row["speaker_id"]
        first, length, end = row["first_frame"], row["frames"], frames.get(row["clip_id"], 0)
        face = Place(row["landmarks_part"], row["landmarks_content"])
        sound = Place(row["audio_part"], row["audio_content"])
        shift = row["audio_shift_rows"]
        other = homes.setdefault(home, split)
        checks = [
            (clip > before, f"comes after {before!r}, expected them sorted, each once"),
            (clip in kept, "is listed and not kept by the ledger"),
            (split in SPLITS, f"has the split {split!r}, expected one of {', '.join(SPLITS)}"),
            (other == split, f"its speaker {home} is in {other} and in {split}"),
            (faces.get(clip) == face, f"{face.part} does not hold the landmarks that are listed"),
            (sounds.get(clip) == sound, f"{sound.part} does not hold the sound that is listed"),
            (
                0 <= first < first + length <= end,
                f"its stretch is {first} to {first + length} of {end} frames",
            ),
            (
                ROWS_PER_FRAME * first + shift >= 0
                and ROWS_PER_FRAME * (first + length) + shift <= ROWS_PER_FRAME * end,
                f"its sound, shifted by {shift} rows, lies outside the clip",
            ),
            (row["crop_side_px"] > 0, f"crop_side_px is {row['crop_side_px']}"),
        ]
        yield from (f"{clip}: {told}" for good, told in checks if not good)
        before = clip
