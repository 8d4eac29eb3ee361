"""Every version there was: a small file for each, by which any two can be compared.

`versions/<revision>.parquet` beside the dataset has one row for each clip of the manifest, kept or
not. It grows by one file with every new version; no stage depends on it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssync import records
from mssync.data import dataset
from mssync.errors import InputError
from mssync.ledger import Decision
from mssync.records import Row

_FOLDER = "versions"
_LOST = "purged.json"
_DIGITS = 16
_FEWEST_DIGITS = 4


def folder_of(dataset_folder: Path) -> Path:
    """Where the versions of a dataset are remembered."""
    return dataset_folder.with_name(_FOLDER)


def remember(
    folder: Path,
    revision: str,
    rows: Iterable[Row],
    decisions: Iterable[Decision],
    *,
    seen: Mapping[str, str],
    speakers: Mapping[str, str],
    facts: Mapping[str, object],
) -> None:
    """Add a version; one that is there stays as it is.

    Args:
        folder: As `folder_of` gives it.
        revision: Its name.
        rows: Its clips, of `records.CLIPS`.
        decisions: On every clip of the manifest, sorted.
        seen: Digest of what a model sees of each of its clips (`versions.clip_digest`).
        speakers: Who speaks in each clip of the manifest.
        facts: What to tell of the version in a list: numbers and texts.
    """
    path = folder / f"{revision[:_DIGITS]}.parquet"
    if path.exists():
        return
    kept = {row["clip_id"]: row for row in rows}

    def row(decision: Decision) -> Row:
        clip = kept.get(decision.clip_id)
        return {
            "clip_id": decision.clip_id,
            "speaker_id": speakers[decision.clip_id],
            "split": clip["split"] if clip else "",
            "reason": decision.reason,
            "detail": decision.detail,
            "frames": clip["frames"] if clip else 0,
            "content": seen[decision.clip_id][:_DIGITS] if clip else "",
        }

    told = {"revision": revision, "facts": json.dumps(facts, sort_keys=True)}
    records.write(path, map(row, decisions), records.VERSION, metadata=told)


@dataclass(frozen=True)
class Version:
    """One version of a dataset.

    Attributes:
        revision: Its name.
        path: The file that remembers it.
        facts: As given to `remember`.
    """

    revision: str
    path: Path
    facts: Mapping[str, Any]

    def rows(self) -> Iterator[Row]:
        """Its clips, of `records.VERSION`, sorted, kept or not."""
        return records.stream(self.path, records.VERSION)


def known(folder: Path) -> list[Version]:
    """All versions, the oldest first."""
    paths = sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    return [_read(path) for path in paths]


def mark_lost(folder: Path, revisions: Iterable[str]) -> None:
    """Remember versions that can no longer be restored, for good."""
    marked = sorted({*lost(folder), *revisions})
    records.write_text(folder / _LOST, json.dumps(marked, indent=1) + "\n")


def lost(folder: Path) -> list[str]:
    """Versions that can no longer be restored, because clips of theirs were purged."""
    path = folder / _LOST
    found: list[str] = json.loads(path.read_text()) if path.exists() else []
    return found


def find(folder: Path, name: str) -> Version:
    """The version that somebody means.

    Args:
        folder: As `folder_of` gives it.
        name: A dataset's folder, or the first digits of a revision.

    Raises:
        InputError: If there is none, or more than one.
    """
    place = Path(name)
    if (place / dataset.METADATA).exists():
        revision = str(dataset.load_metadata(place)["revision"])
        folder = folder_of(place)
    else:
        revision = name
    found = [path for path in folder.glob("*.parquet") if path.stem.startswith(revision[:_DIGITS])]
    if len(found) == 1 and len(revision) >= _FEWEST_DIGITS:
        return _read(found[0])
    there = ", ".join(version.revision[:12] for version in known(folder)) or "none"
    what = "names several versions" if len(found) > 1 else "names no version"
    raise InputError(
        f"{name} {what}: give a dataset's folder, or at least {_FEWEST_DIGITS} digits of a "
        f"revision. {folder} has: {there}"
    )


def _read(path: Path) -> Version:
    told = records.read_metadata(path)
    if "revision" not in told:
        raise InputError(f"{path} remembers no version: delete it")
    return Version(told["revision"], path, json.loads(told["facts"]))


@dataclass(frozen=True)
class Entry:
    """What became of a clip from one version to another.

    Attributes:
        clip_id: The clip.
        what: One sentence.
    """

    clip_id: str
    what: str


@dataclass(frozen=True)
class Difference:
    """What tells two versions apart; each list is sorted by clip.

    Attributes:
        added: Clips that only the second lists.
        removed: Clips that only the first lists.
        decided: Clips in both that are kept in one only, or left out for another reason.
        changed: Clips kept in both of which a model sees something else.
        moved: Clips kept in both that are in another split: a fault, always.
        same: How many are as they were.
    """

    added: Sequence[Entry]
    removed: Sequence[Entry]
    decided: Sequence[Entry]
    changed: Sequence[Entry]
    moved: Sequence[Entry]
    same: int


def diff(before: Version, after: Version) -> Difference:
    """Compare two versions clip by clip."""
    old = {row["clip_id"]: row for row in before.rows()}
    added, removed, decided, changed, moved = ([] for _ in range(5))
    same = 0
    for now in after.rows():
        clip = now["clip_id"]
        was = old.pop(clip, None)
        if was is None:
            added.append(Entry(clip, _state(now)))
        elif was["split"] and now["split"] and was["split"] != now["split"]:
            moved.append(Entry(clip, f"from {was['split']} to {now['split']}"))
        elif was["reason"] != now["reason"]:
            decided.append(Entry(clip, f"{was['reason'] or 'kept'} -> {_state(now)}"))
        elif was["content"] != now["content"]:
            lengths = f"{was['frames']} -> {now['frames']} frames"
            other = was["frames"] != now["frames"]
            changed.append(Entry(clip, lengths if other else "other landmarks, sound or crop"))
        else:
            same += 1
    removed = [Entry(clip, _state(row)) for clip, row in sorted(old.items())]
    return Difference(added, removed, decided, changed, moved, same)


def _state(row: Row) -> str:
    return f"{row['reason']}: {row['detail']}" if row["reason"] else f"kept in {row['split']}"
