"""The media store: files under the name of their content's SHA-256, outside DVC.

$MSSYNC_MEDIA/objects/ab/cdef...   media
              index/ab/cdef.json   which content a source had, and by which ETag
              partial/             downloads under way
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import get_ident

import platformdirs

_CHUNK_BYTES = 1 << 20


def default_folder() -> Path:
    """`$MSSYNC_MEDIA`, else a folder in the user's cache."""
    named = os.environ.get("MSSYNC_MEDIA")
    return Path(named) if named else Path(platformdirs.user_cache_dir("mssync")) / "media"


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Where content came from, as far as it says so; empty where it does not.

    Attributes:
        url: As asked for, without password.
        final_url: After redirects, without password and query.
        title: As the site gives it.
        uploader: The same.
        licence: The same.
        fetched: When, ISO 8601 in UTC.
        tool: What fetched it, with its version.
        etag: Of the answer.
        modified: `Last-Modified` of the answer.
        content_type: Of the answer.
    """

    url: str = ""
    final_url: str = ""
    title: str = ""
    uploader: str = ""
    licence: str = ""
    fetched: str = ""
    tool: str = ""
    etag: str = ""
    modified: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class Origin:
    """What is known of a source that was fetched.

    Attributes:
        sha256: Its content, present in the store.
        bytes: Its size.
        validator: ETag or Last-Modified, or a local file's time; empty where there is none.
        provenance: Where it came from.
    """

    sha256: str
    bytes: int
    validator: str
    provenance: Provenance = Provenance()


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

    def adopt(self, file: Path, *, sha256: str | None = None) -> str:
        """Move a finished file, on the store's file system, into the store.

        Args:
            file: What to move.
            sha256: Its digest, where it is known: then it is not read.

        Returns:
            Its SHA-256.
        """
        name = sha256 or digest(file)
        _move(file, self.path(name))
        return name

    def discard(self, sha256: str) -> None:
        """Remove content, if it is there."""
        if sha256:
            self.path(sha256).unlink(missing_ok=True)

    def recall(self, key: str) -> Origin | None:
        """What was fetched under this key, if the store still holds it whole."""
        try:
            stored = json.loads(self._index(key).read_text())
            origin = Origin(**stored | {"provenance": Provenance(**stored.get("provenance", {}))})
        except (OSError, ValueError, TypeError):
            return None
        return origin if origin.sha256 in self else None

    def remember(self, key: str, origin: Origin) -> None:
        """Keep what was fetched under this key."""
        path = self._index(key)
        temporary = path.with_suffix(f".{os.getpid()}.{get_ident()}.writing")
        text = json.dumps(asdict(origin))
        try:
            temporary.write_text(text)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text)
        temporary.replace(path)

    def _index(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / "index" / name[:2] / f"{name[2:]}.json"


def _move(file: Path, target: Path) -> None:
    """Rename at once, into a folder that is mostly there already."""
    try:
        file.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
