"""The media store: files under the name of their content's SHA-256, outside DVC.

$MSSYNC_MEDIA/objects/ab/cdef...   media
              index/<key>.json     which content a source had, and by which ETag
              partial/             downloads under way
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

_CHUNK_BYTES = 1 << 20


def default_folder() -> Path:
    """`$MSSYNC_MEDIA`, else a folder in the user's cache."""
    named = os.environ.get("MSSYNC_MEDIA")
    return Path(named) if named else Path(platformdirs.user_cache_dir("mssync")) / "media"


def sha256(path: Path) -> str:
    """Digest of a file's content."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


@dataclass(frozen=True)
class Origin:
    """What is known of a source that was fetched before.

    Attributes:
        sha256: Its content, present in the store.
        bytes: Its size.
        validator: ETag or Last-Modified, or a local file's time; empty where there is none.
    """

    sha256: str
    bytes: int
    validator: str


class MediaStore:
    """A folder of media by content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where content is, or would be."""
        return self.folder / "objects" / sha256[:2] / sha256[2:]

    def __contains__(self, sha256: object) -> bool:
        return isinstance(sha256, str) and self.path(sha256).is_file()

    def partial(self, key: str) -> Path:
        """A file to write to before `adopt`; the same for the same key, so that it can go on."""
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / hashlib.sha256(key.encode()).hexdigest()

    def adopt(self, file: Path) -> str:
        """Move a finished file, on the store's file system, into the store: its SHA-256."""
        name = sha256(file)
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return name

    def adopt_copy(self, file: Path, key: str) -> str:
        """Copy a file into the store: its SHA-256."""
        temporary = self.partial(key)
        shutil.copyfile(file, temporary)
        return self.adopt(temporary)

    def recall(self, key: str) -> Origin | None:
        """What was fetched under this key, if the store still holds it whole."""
        try:
            origin = Origin(**json.loads(self._index(key).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return origin if origin.sha256 in self else None

    def remember(self, key: str, origin: Origin) -> None:
        """Keep what was fetched under this key."""
        path = self._index(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.writing")
        temporary.write_text(json.dumps(asdict(origin)))
        temporary.replace(path)

    def _index(self, key: str) -> Path:
        return self.folder / "index" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
