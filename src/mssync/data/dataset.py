"""The dataset on disk: a list of clips over the parts of the extraction stages, in one folder.

`dataset.json` names the version and the file that lists its clips; it is replaced last and at once,
so that a reader sees one version or the next. Landmarks and sound stay where extraction wrote them;
they are cut, smoothed and brought into the crop as they are read.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mssync import records
from mssync.data.clips import Clip
from mssync.data.splits import SPLITS
from mssync.errors import InputError
from mssync.landmarks import crop, ibug
from mssync.parts import PartReader, Place
from mssync.records import Row
from mssync.timing import ROWS_PER_FRAME, frame_time_s

logger = logging.getLogger(__name__)

METADATA = "dataset.json"
_CLIPS = "clips-{}.parquet"
_REVISION_DIGITS = 16


class Source(NamedTuple):
    """Where a clip comes from.

    Attributes:
        sha256: Digest of its media.
        first_frame: 25 Hz tick of the media at which the clip begins.
    """

    sha256: str
    first_frame: int


@dataclass(frozen=True)
class Dataset:
    """A version of the dataset.

    Attributes:
        folder: Where it is.
        metadata: What `dataset.json` holds.
        rows: Its clips, of `records.CLIPS`, sorted by id.
    """

    folder: Path
    metadata: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def revision(self) -> str:
        """The version's name."""
        return str(self.metadata["revision"])

    def clips(self, *splits: str, only: Collection[str] | None = None) -> Iterator[Clip]:
        """Clips in the order in which parts hold them, with few in memory at a time.

        Args:
            splits: Of these splits; none: of all.
            only: Ids of those that are wanted; None: all.

        Raises:
            InputError: If a part is gone or is another than the dataset was built from.
        """
        identity = ["clip_id", "content"]
        landmarks = PartReader(
            self._parts("landmarks"),
            records.LANDMARKS,
            columns=[*identity, "landmarks_TPD"],
            parts_in_memory=1,
        )
        audio = PartReader(
            self._parts("audio"), records.AUDIO, columns=[*identity, "frames", "log_mel_AM"]
        )
        wanted = [
            row
            for row in self.rows
            if (not splits or row["split"] in splits) and (only is None or row["clip_id"] in only)
        ]
        wanted.sort(key=lambda row: (row["landmarks_part"], row["audio_part"]))
        for row in wanted:
            face = Place(row["landmarks_part"], row["landmarks_content"])
            sound = Place(row["audio_part"], row["audio_content"])
            yield _clip(
                row,
                landmarks.row(row["clip_id"], face),
                audio.row(row["clip_id"], sound),
                smoothing_frames=self.metadata["params"]["smoothing_frames"],
            )

    def sources(self) -> dict[str, Source]:
        """Where every clip comes from, by clip id."""
        return {row["clip_id"]: Source(row["sha256"], row["first_frame"]) for row in self.rows}

    def _parts(self, name: str) -> Path:
        return self.folder / str(self.metadata["parts"][name])


def load(folder: Path) -> Dataset:
    """The dataset in a folder.

    Raises:
        InputError: If the folder holds no dataset.
    """
    metadata = load_metadata(folder)
    if "clips" not in metadata:
        raise InputError(
            f"{folder} was written by an older version of mssync: run build-dataset again"
        )
    rows = records.read(folder / str(metadata["clips"]), records.CLIPS)
    return Dataset(folder, metadata, rows)


def before(folder: Path) -> Dataset | None:
    """The dataset in a folder; None where there is none, or one of an older form.

    Raises:
        InputError: If it cannot be read.
    """
    if not (folder / METADATA).exists():
        return None
    if "clips" not in load_metadata(folder):
        logger.warning("%s is of an older form: a new line of versions begins", folder)
        return None
    return load(folder)


def pack_folder(folder: Path, revision: str) -> Path:
    """Where a version in `folder` is kept packed for training (`data.pack`)."""
    return folder.with_name(f"{folder.name}.pack") / revision[:_REVISION_DIGITS]


def drop_packs(folder: Path, *, but: str | None = None) -> None:
    """Delete what is packed of every version in `folder` but one."""
    kept = pack_folder(folder, but) if but else None
    for pack in pack_folder(folder, "").glob("*"):
        if pack != kept:
            shutil.rmtree(pack)


def load_clips(folder: Path) -> dict[str, list[Clip]]:
    """All clips by split, sorted by id; every split is a key.

    Raises:
        InputError: If the folder holds no dataset.
    """
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for clip in load(folder).clips():
        clips[clip.split].append(clip)
    for found in clips.values():
        found.sort(key=lambda clip: clip.clip_id)
    return clips


def load_metadata(folder: Path) -> dict[str, Any]:
    """What `dataset.json` holds.

    Raises:
        InputError: If the folder holds no dataset.
    """
    if not (folder / METADATA).exists():
        raise InputError(f"{folder} holds no dataset: build-dataset writes it")
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no dataset ({METADATA}): {error}") from error
    return metadata


def write(
    folder: Path,
    rows: Sequence[Row],
    *,
    revision: str,
    landmarks: Path,
    audio: Path,
    reasons: Mapping[str, int],
    params: Mapping[str, object],
) -> None:
    """Make a version the one in a folder; killed at any moment, one whole version is there.

    Args:
        folder: The dataset's.
        rows: Clips, of `records.CLIPS`, sorted by id.
        revision: The version's name.
        landmarks: Folder of the landmark parts that the rows name.
        audio: Folder of the audio parts that they name.
        reasons: Clips left out, by reason.
        params: The section `build_dataset`.
    """
    name = _CLIPS.format(revision[:_REVISION_DIGITS])
    metadata = {
        "revision": revision,
        "clips": name,
        "parts": {
            "landmarks": Path(os.path.relpath(landmarks, folder)).as_posix(),
            "audio": Path(os.path.relpath(audio, folder)).as_posix(),
        },
        "splits": counts(rows),
        "rejected": dict(reasons),
        "params": dict(params),
    }
    records.write(folder / name, rows, records.CLIPS, metadata={"revision": revision})
    text = json.dumps(metadata, indent=1, sort_keys=True)
    records.write_text(folder / METADATA, text + "\n")
    for path in folder.iterdir():
        if path.name not in (METADATA, name) and path.is_file():
            path.unlink()
    drop_packs(folder, but=revision)


def _clip(row: Row, face: Row, sound: Row, *, smoothing_frames: int) -> Clip:
    """A clip as models see it; nothing outside its stretch has a part in it."""
    first, end = row["first_frame"], row["first_frame"] + row["frames"]
    shift = row["audio_shift_rows"]
    points = records.shaped(face["landmarks_TPD"], -1, ibug.POINTS, 2)[first:end]
    corner = np.array([row["crop_left_px"], row["crop_top_px"]], np.float32)
    smoothed = crop.smooth(points, smoothing_frames)
    audio_AM = records.shaped(sound["log_mel_AM"], int(sound["frames"]) * ROWS_PER_FRAME, -1)
    return Clip(
        clip_id=row["clip_id"],
        speaker_id=row["speaker_id"],
        split=row["split"],
        motion_TPD=(smoothed - corner) / np.float32(row["crop_side_px"]),
        audio_AM=audio_AM[slice(*(tick * ROWS_PER_FRAME + shift for tick in (first, end)))],
    )


def counts(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Clips, speakers and minutes of every split."""
    listed = list(rows)
    found = {}
    for split in SPLITS:
        chosen = [row for row in listed if row["split"] == split]
        found[split] = {
            "clips": len(chosen),
            "speakers": len({row["speaker_id"] for row in chosen}),
            "minutes": round(sum(frame_time_s(row["frames"]) for row in chosen) / 60, 2),
        }
    return found
