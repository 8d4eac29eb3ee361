"""What is left of a download that was stopped, and may it go on?

Beside the part, `partial/<key>`, lies a note, `partial/<key>.json`: what the server said of the
file before its first byte. Bytes are added only while the server says the same.

A part is written by whoever holds its lock. The lock is the kernel's and on the part itself, so it
ends with the process, and leaves nothing behind.
"""

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from mssync.errors import ClipRejectedError, InputError
from mssync.media.store import MediaStore, Origin, Provenance
from mssync.reasons import REASONS

_BLOCK_BYTES = 1 << 20
# What comes at once is as soon fetched again as noted.
_NOTED_BYTES = 1 << 16
_LOOK_S = (0.02, 1.0)  # first and longest wait for a part that another holds
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Note:
    """What a server says of a file.

    Attributes:
        key: What the file is remembered by.
        validator: Proves that more bytes belong to the same file; empty: it cannot go on.
        total_bytes: Size of the file; -1 where it is not known.
        provenance: Where it comes from.
    """

    key: str
    validator: str
    total_bytes: int
    provenance: Provenance


class Part:
    """A file under way, which nobody else writes.

    Attributes:
        note: What the server said of it; None while there is nothing.
        size: Bytes so far.
    """

    def __init__(self, path: Path, key: str, file: FileIO) -> None:
        self._path = path
        self._note_path = path.with_suffix(".json")
        self._key = key
        self._file = file
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._adopted = False
        self.size = os.fstat(file.fileno()).st_size
        self.note = self._read_note() if self.size else None

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self.note is not None and self.note.total_bytes == self.size

    @property
    def can_go_on(self) -> bool:
        """Whether more bytes can be asked for."""
        note = self.note
        if note is None or not note.validator or not self.size:
            return False
        return note.total_bytes < 0 or self.size < note.total_bytes

    def begin(self, note: Note) -> None:
        """Start anew, with an empty file."""
        self.discard()
        self.note = note
        if not 0 <= note.total_bytes <= _NOTED_BYTES:
            temporary = self._note_path.with_suffix(".writing")
            temporary.write_text(json.dumps(asdict(note)))
            temporary.replace(self._note_path)

    def go_on(self) -> None:
        """Take up the bytes that are there."""
        self._file.seek(self._hashed)
        while block := self._file.read(_BLOCK_BYTES):
            self._digest.update(block)
            self._hashed += len(block)

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._digest.update(chunk)
        self._hashed += len(chunk)
        self.size += len(chunk)
        written = self._file.write(chunk)
        while written < len(chunk):
            written += self._file.write(chunk[written:])

    def discard(self) -> None:
        """Throw away what is there."""
        # the note goes first: bytes never lie beside the note of other bytes
        self._note_path.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.seek(0)
        self._digest, self._hashed = hashlib.sha256(), 0
        self.size, self.note = 0, None

    def finish(self, store: MediaStore) -> Origin:
        """Move the file, which is complete, into the store."""
        assert self.note is not None
        self.go_on()
        content = self._digest.hexdigest()
        seen = self.note.provenance
        origin = Origin(content, self.size, seen.etag or seen.modified, seen)
        # In this order: killed between the two, the part is still there, and complete.
        store.remember(self._key, origin)
        store.adopt(self._path, sha256=content)
        self._adopted = True
        self._note_path.unlink(missing_ok=True)
        return origin

    def leave(self, *, useless: bool) -> None:
        """End without having finished; what cannot go on is removed."""
        if self._adopted:
            return
        if useless or not (self.can_go_on or self.is_complete):
            self.discard()
            self._path.unlink(missing_ok=True)

    def _read_note(self) -> Note | None:
        try:
            stored = json.loads(self._note_path.read_text())
            note = Note(**stored | {"provenance": Provenance(**stored["provenance"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        fits = note.key == self._key and (note.total_bytes < 0 or self.size <= note.total_bytes)
        return note if fits else None


@contextmanager
def hold(store: MediaStore, key: str, *, patience_s: float) -> Iterator[Part]:
    """Take up the part of a source; whoever else wants it waits.

    Args:
        store: Where it lies.
        key: What the source is remembered by.
        patience_s: How long another process may hold it without getting a byte.

    Yields:
        The part. Unless it is finished, it is left as it is if it can go on, else removed.

    Raises:
        ClipRejectedError: `timeout`, if another process holds it and does not get on.
        InputError: If the store's file system has no locks.
    """
    path = store.partial(key)
    with _locked(path, patience_s) as file:
        part = Part(path, key, file)
        useless = False
        try:
            yield part
        except ClipRejectedError as error:
            useless = REASONS[error.reason].again == "never"
            raise
        finally:
            part.leave(useless=useless)


@contextmanager
def scratch(store: MediaStore, key: str, *, patience_s: float) -> Iterator[Path]:
    """A file to be written from its beginning; whoever else wants it waits.

    Args:
        store: Where it lies.
        key: What is made.
        patience_s: How long another process may hold it while it does not grow.

    Yields:
        The file. What is not moved away is removed.

    Raises:
        ClipRejectedError: `timeout`, if another process holds it and does not get on.
        InputError: If the store's file system has no locks.
    """
    path = store.partial(key)
    with _locked(path, patience_s):
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, patience_s: float) -> FileIO:
    """Open a file that nobody else holds."""
    wait_s, seen, quiet_since = _LOOK_S[0], -1, time.monotonic()
    while True:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
        try:
            if _lock(file) and _is_still(path, file):
                return file
            size = os.fstat(file.fileno()).st_size
        except BaseException:
            file.close()
            raise
        file.close()
        now = time.monotonic()
        if size != seen:
            seen, quiet_since = size, now
        elif now - quiet_since > patience_s:
            raise ClipRejectedError("timeout", "another process fetches it, and does not get on")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LOOK_S[1])


def _lock(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise InputError(
                "the media store's file system has no file locks: choose another one for "
                "MSSYNC_MEDIA"
            ) from error
        raise
    return True


def _is_still(path: Path, file: FileIO) -> bool:
    """Whether the path has not been moved away before the lock was ours."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
