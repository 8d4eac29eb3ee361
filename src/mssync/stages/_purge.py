"""After a takedown: delete what older versions and the media store still hold of the clips.

Nothing brings it back. Older versions that used the clips can no longer be restored; their names
are written down, so that whoever asks for one is told why.
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mssync import versions
from mssync.data import history
from mssync.lists import tables
from mssync.media.store import MediaStore
from mssync.stages._takedown import DATASET, TOMBSTONES
from mssync.versions import Objects

logger = logging.getLogger(__name__)

_ARRAYS = frozenset({"landmarks_TPD", "log_mel_AM"})  # what only parts have


@dataclass(frozen=True)
class Purged:
    """What was deleted.

    Attributes:
        parts: Files of parts, in the DVC cache and in all remotes.
        media: Files of the media store.
        places: Cache and remotes that were searched.
    """

    parts: int
    media: int
    places: list[str]


def lost(workspace: Path, clips: Collection[str]) -> list[str]:
    """Revisions that a purge makes impossible to restore, the oldest first."""
    return [
        version.revision
        for version in history.known(history.folder_of(workspace / DATASET))
        if any(row["split"] and row["clip_id"] in clips for row in version.rows())
    ]


def run(workspace: Path, clips: Collection[str], *, store: MediaStore) -> Purged:
    """Delete parts that hold some clips from DVC's cache and remotes, and their media.

    Args:
        workspace: Folder the chain runs in, after the takedown.
        clips: Of every version there was.
        store: Where media are; what the takedown list names by its digest is deleted from it.

    Raises:
        ToolError: If DVC fails.
        OSError: If a remote cannot be reached; what was deleted before stays deleted.
    """
    history.mark_lost(history.folder_of(workspace / DATASET), lost(workspace, clips))
    places = versions.object_stores(workspace)
    parts = sum(_purge_objects(place, clips) for place in places)
    media = 0
    for sha256 in _digests(workspace / TOMBSTONES):
        media += sha256 in store
        store.discard(sha256)
    return Purged(parts, media, [place.url for place in places])


def _purge_objects(place: Objects, clips: Collection[str]) -> int:
    """Delete the parts with the clips; how many there were."""
    files, root = fsspec.url_to_fs(place.url, **place.options)
    deleted = 0
    for path in files.find(f"{root}/files/md5"):
        if not path.endswith(".dir") and _holds(files, path, clips):
            files.rm_file(path)
            deleted += 1
    return deleted


def _holds(files: fsspec.AbstractFileSystem, path: str, clips: Collection[str]) -> bool:
    """Whether a file is a part with one of the clips."""
    try:
        # in this thread: one of Arrow's that still holds a Python file when the interpreter ends
        # takes the process down
        with files.open(path, "rb") as file, pq.ParquetFile(file) as table:
            names = set(table.schema_arrow.names)
            if "clip_id" not in names or not names & _ARRAYS:
                return False
            ids = table.read(columns=["clip_id"], use_threads=False)["clip_id"].to_pylist()
    except pa.ArrowException:
        return False
    return not set(clips).isdisjoint(ids)


def _digests(tombstones: Path) -> Iterator[str]:
    if tombstones.exists() and tombstones.stat().st_size:
        for _, row in tables.read_rows(tombstones):
            if row.get("sha256"):
                yield row["sha256"].lower()
