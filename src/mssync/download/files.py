"""How does a file of this machine get into the media store?

It is copied, so that the store never changes with it. What is copied counts for the budget like
what is fetched: it takes the same space, and a folder may well be another machine's.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mssync.download import partial
from mssync.download.budget import Budget
from mssync.download.partial import Note, Part
from mssync.errors import ClipRejectedError
from mssync.media.store import MediaStore, Origin, Provenance
from mssync.params import DownloadVideos

_CHUNK_BYTES = 4 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def key(path: Path) -> str:
    """What a file is remembered by."""
    # names need not be text
    return "file:" + os.fsencode(path.resolve()).decode(errors="backslashreplace")


def take(
    path: Path,
    store: MediaStore,
    *,
    params: DownloadVideos,
    budget: Budget,
    known: Origin | None = None,
) -> Origin:
    """Copy a file into the store, unless it is there already and did not change.

    Where there is no file of that name, but one whose name looks the same, that one is taken:
    composed and decomposed letters (NFC, NFD) differ in their bytes alone.

    Args:
        path: The file; links are followed.
        store: Where it goes.
        params: The stage's section.
        budget: Is asked before the file is copied, and counts what is.
        known: What was taken before; default: what the store remembers.

    Raises:
        ClipRejectedError: `not_found`, `unreadable`, `too_large`, `disk` or `budget`.
    """
    with _explained():
        path, status = _find(path)
        _check_regular(status)
        name = key(path)
    validator = _validator(status)
    known = known or store.recall(name)
    if known and known.validator == validator and known.sha256 in store:
        return known
    if not status.st_size:
        raise ClipRejectedError("not_a_video", "the file is empty")
    patience_s = 2 * params.timeout_s + params.max_wait_s
    with partial.hold(store, name, patience_s=patience_s) as part:
        newer = store.recall(name)  # another process may have been quicker
        if newer and newer.validator == validator:
            return newer
        _copy(path, part, Note(name, validator, status.st_size, _provenance(status)), budget)
        return part.finish(store)


def _provenance(status: os.stat_result) -> Provenance:
    return Provenance(
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        tool="copy",
        etag=_validator(status),
        modified=datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds"),
    )


def _find(path: Path) -> tuple[Path, os.stat_result]:
    """The file of this name, or of one that looks the same."""
    try:
        return path, path.stat()
    except FileNotFoundError:
        found = Path()
        for part in path.parts:
            forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
            found /= next((form for form in forms if (found / form).exists()), part)
        return found, found.stat()


def _check_regular(status: os.stat_result) -> None:
    """Anything else may wait for ever, or never end."""
    if stat.S_ISDIR(status.st_mode):
        raise ClipRejectedError("not_found", "a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ClipRejectedError("not_found", "a pipe, socket or device, not a file")


def _copy(path: Path, part: Part, note: Note, budget: Budget) -> None:
    """Copy what is missing."""
    if part.note and part.note.validator == note.validator:
        part.go_on()
    else:
        part.begin(note)
    total = note.total_bytes
    budget.receive(0, total=total)
    budget.expect(total - part.size)
    with _explained():
        # what was a file a moment ago may be a pipe by now
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        with _explained():
            _check_regular(os.fstat(descriptor))
            source.seek(part.size)
        # no further than it was long: somebody may still be writing it
        while part.size < total:
            with _explained():
                chunk = source.read(min(_CHUNK_BYTES, total - part.size))
            if not chunk:
                break
            budget.receive(len(chunk), total=part.size + len(chunk))
            part.write(chunk)
        if part.size != total or _validator(os.fstat(descriptor)) != note.validator:
            part.discard()
            raise ClipRejectedError("unreadable", "the file changed while it was copied")


def _validator(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _explained() -> Iterator[None]:
    """Give what the system says of a file its reason code."""
    try:
        yield
    except ValueError as error:  # a name with a null character
        raise ClipRejectedError("not_found", f"no name of a file: {error}") from error
    except OSError as error:
        if error.errno in _ABSENT:
            raise ClipRejectedError(
                "not_found",
                "the file does not exist; relative sources start from the list's folder, or from "
                "MSSYNC_SOURCE_BASE where it is set",
            ) from error
        raise ClipRejectedError("unreadable", f"cannot be read: {error.strerror}") from error
