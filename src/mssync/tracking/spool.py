"""What a tracking store has not got yet: entries on disk, in order, kept until they have arrived.

    <root>/<name>/entries.jsonl    one entry a line, only ever appended to
                  files/<n>/       files that entries name
                  state.json       how much has arrived, and what the sender has learnt
                  lock             held by the process that writes and sends
    <root>/refused.jsonl           entries that the store will never take

A process that is killed loses nothing that was appended. Memory holds one batch, never the file.
"""

import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from mssync import records

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

_ENTRIES, _FILES, _STATE, _LOCK = "entries.jsonl", "files", "state.json", "lock"
_REFUSED = "refused.jsonl"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_LEAST_BATCH_BYTES = 100_000


class Stored(NamedTuple):
    """An entry, and the byte at which it ends."""

    entry: Entry
    end: int


class Spool:
    """The entries of one run. One process has it open at a time.

    Attributes:
        folder: Where it is.
        state: What the sender has learnt, kept with how much has arrived.
    """

    def __init__(self, folder: Path, lock: FileIO) -> None:
        self.folder = folder
        self._lock = lock
        self.state: dict[str, Any] = {"arrived_bytes": 0} | _json(folder / _STATE)
        _drop_torn_end(folder / _ENTRIES)
        self._file = (folder / _ENTRIES).open("ab", buffering=0)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever appended."""
        return self._file.tell() == 0

    @property
    def drained(self) -> bool:
        """Whether all of it has arrived."""
        return bool(self._file.tell() == self.state["arrived_bytes"])

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry at the end, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        line = json.dumps(entry).encode() + b"\n"
        before = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / _ENTRIES))
        except OSError:
            self._file.truncate(before)
            self._file.seek(before)
            raise

    def keep(self, path: Path) -> str:
        """Keep a file or a folder as it is now, until `discard`.

        Nothing is copied where a link will do: outputs are replaced, never written into.

        Returns:
            Its name within the spool.

        Raises:
            OSError: If it cannot be kept.
        """
        kept = self.folder / _FILES / str(self._file.tell()) / path.name
        shutil.rmtree(kept.parent, ignore_errors=True)  # of a process that was killed here
        kept.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, kept, copy_function=_link)
        else:
            _link(str(path), str(kept))
        return kept.relative_to(self.folder).as_posix()

    def discard(self, name: str) -> None:
        """Forget what `keep` kept."""
        shutil.rmtree((self.folder / name).parent, ignore_errors=True)

    def waiting(self) -> list[Stored]:
        """The next entries that have not arrived, in order; as many as one batch takes."""
        found, place = list[Stored](), int(self.state["arrived_bytes"])
        with (self.folder / _ENTRIES).open("rb") as file:
            file.seek(place)
            first = place
            while place - first < _LEAST_BATCH_BYTES and (line := file.readline()).endswith(b"\n"):
                place += len(line)
                found.append(Stored(_entry(line), place))
        return found

    def arrived(self, end: int) -> None:
        """Note that everything up to a byte has arrived."""
        self.state["arrived_bytes"] = end
        self.learn()

    def learn(self, **facts: str) -> None:
        """Add to what the sender has learnt."""
        self.state |= facts
        records.write_text(self.folder / _STATE, json.dumps(self.state) + "\n")

    def refuse(self, entry: Mapping[str, Any], reason: str) -> None:
        """Put an entry aside that the store will never take."""
        with (self.folder.parent / _REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, **self.state, **entry}) + "\n")

    def first(self) -> Entry:
        """The entry that everything after it belongs to."""
        return first(self.folder)

    def close(self, *, remove: bool = False) -> None:
        """Give the spool back, and delete it where all of it has arrived and no more will come."""
        if remove and self.drained:
            shutil.rmtree(self.folder)
        self._file.close()
        self._lock.close()


def opened(root: Path, name: str) -> Spool:
    """Open the spool of that name; a second one where another process has it open.

    Raises:
        OSError: If it cannot be written.
    """
    number = 0
    while True:
        folder = root / (f"{name}.{number}" if number else name)
        spool = _open(folder)
        if spool is not None:
            return spool
        number += 1


def left(root: Path) -> Iterator[Spool]:
    """The spools that no process has open, oldest first, one after the other.

    Whoever takes one closes it.
    """
    folders = [path.parent for path in root.glob(f"*/{_ENTRIES}")]
    for folder in sorted(folders, key=lambda path: path.stat().st_ctime_ns):
        if (folder / _ENTRIES).exists():
            spool = _open(folder)
            if spool is not None:
                yield spool


def first(folder: Path) -> Entry:
    """The first entry of a spool, whoever has it open; an empty one where there is none."""
    return next(_entries(folder), {})


def mentions(folder: Path, kind: str, **fields: str) -> bool:
    """Whether a spool, whoever has it open, has an entry of that kind with these fields."""
    return any(
        entry["kind"] == kind and all(entry.get(name) == value for name, value in fields.items())
        for entry in _entries(folder)
    )


def _entries(folder: Path) -> Iterator[Entry]:
    try:
        with (folder / _ENTRIES).open("rb") as file:
            yield from map(_entry, file)
    except (FileNotFoundError, NotADirectoryError):
        return


def _open(folder: Path) -> Spool | None:
    """A spool under its lock; None where another process has it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileIO(folder / _LOCK, "a")
        except FileNotFoundError:  # its last owner deleted it just now
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if (folder / _LOCK).exists() and os.path.samestat(
            os.fstat(lock.fileno()), (folder / _LOCK).stat()
        ):
            return Spool(folder, lock)
        lock.close()


def _drop_torn_end(path: Path) -> None:
    """Cut off a last line that a machine which stopped left half written."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        whole = 0
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
        file.truncate(whole)


def _entry(line: bytes) -> Entry:
    try:
        entry: Entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            return entry
    except ValueError:
        pass
    return {"kind": "unreadable", "line": line.decode(errors="replace").strip()}


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
