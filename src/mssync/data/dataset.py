"""The dataset on disk: `clips.parquet`, `dataset.json` and `card.md` in one folder."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mssync import records
from mssync.data.clips import Clip, Statistics
from mssync.data.splits import SPLITS
from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.timing import ROWS_PER_FRAME, frame_time_s

CLIPS = "clips.parquet"
METADATA = "dataset.json"
CARD = "card.md"


def as_clip(row: records.Row) -> Clip:
    """A row of `records.CLIPS` as models see it."""
    frames = row["frames"]
    return Clip(
        clip_id=row["clip_id"],
        speaker_id=row["speaker_id"],
        split=row["split"],
        motion_TPD=records.shaped(row["motion_TPD"], frames, ibug.POINTS, 2),
        audio_AM=records.shaped(row["audio_AM"], frames * ROWS_PER_FRAME, -1),
    )


def load_clips(folder: Path) -> dict[str, list[Clip]]:
    """All clips by split, sorted by id; every split is a key.

    Raises:
        InputError: If the folder holds no dataset.
    """
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for row in records.read(folder / CLIPS, records.CLIPS):
        clips[row["split"]].append(as_clip(row))
    return clips


class Source(NamedTuple):
    """Where a clip comes from.

    Attributes:
        sha256: Digest of its media.
        first_frame: 25 Hz tick of the media at which the clip begins.
    """

    sha256: str
    first_frame: int


def media(folder: Path) -> dict[str, Source]:
    """Where every clip comes from, by clip id.

    Raises:
        InputError: If the folder holds no dataset.
    """
    rows = records.stream(
        folder / CLIPS, records.CLIPS, columns=["clip_id", "sha256", "first_frame"]
    )
    return {row["clip_id"]: Source(row["sha256"], row["first_frame"]) for row in rows}


def load_metadata(folder: Path) -> dict[str, Any]:
    """Revision, counts and statistics.

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


def statistics_to_json(statistics: Statistics) -> dict[str, Any]:
    """Statistics as lists and numbers."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(statistics).items()
    }


def counts(rows: Iterable[records.Row]) -> dict[str, dict[str, float]]:
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


def card(
    revision: str,
    rows: Sequence[records.Row],
    reasons: Mapping[str, int],
    thresholds: Mapping[str, object],
) -> str:
    """The dataset card: what is in it, what was left out and why, in Markdown."""
    lines = [
        "# Dataset card",
        "",
        f"Revision `{revision}`",
        "",
        "| split | clips | speakers | minutes |",
        "|---|---|---|---|",
    ]
    for split, count in counts(rows).items():
        lines.append(
            f"| {split} | {count['clips']} | {count['speakers']} | {count['minutes']:.2f} |"
        )
    lines += ["", "No speaker is in two splits.", "", "## Left out", ""]
    lines += [f"- {reason}: {count}" for reason, count in reasons.items()] or ["Nothing."]
    for title, column in (("Languages", "language"), ("Licences", "licence")):
        found = Counter(str(row[column]) or "not stated" for row in rows)
        lines += ["", f"## {title}", ""]
        lines += [f"- {name}: {count} clips" for name, count in sorted(found.items())]
    lines += ["", "## Thresholds", ""]
    lines += [f"- {name}: {value}" for name, value in thresholds.items()]
    return "\n".join(lines) + "\n"
