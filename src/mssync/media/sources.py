"""The list of sources: which videos, whose faces, which pieces (docs/sources.md)."""

import csv
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import fsspec

from mssync import records
from mssync.errors import InputError
from mssync.media.fetch import is_url, locate
from mssync.timing import milliseconds

logger = logging.getLogger(__name__)

# The environment variable that names the base, for commands.
BASE = "MSSYNC_SOURCE_BASE"
COLUMNS = ("source", "speaker_id", "split", "start_s", "end_s", "language", "licence")


@dataclass(frozen=True)
class Source:
    """One row of the list.

    Attributes:
        clip_id: Source as listed, with start and end in ms where they are cut.
        written: Source as listed, relative to the base where it lies under it.
        location: Where it is: a URL, or a local path.
        speaker_id: Who speaks.
        split: `train`, `val`, `test`, or empty: `build_dataset` decides.
        start_s: Start of the cut.
        end_s: End of the cut; None: the end of the source.
        language: As listed.
        licence: As listed.
    """

    clip_id: str
    written: str
    location: str
    speaker_id: str
    split: str
    start_s: float
    end_s: float | None
    language: str
    licence: str

    @property
    def is_cut(self) -> bool:
        """Whether the clip is a piece of the source."""
        return self.start_s > 0 or self.end_s is not None


def read_sources(path: Path, *, base: str, may_be_empty: bool = False) -> list[Source]:
    """Read and check a list of sources.

    Args:
        path: Comma-separated, with a header. `source` is a path, relative to the list or to `base`,
            or an http(s) URL. Optional: `speaker_id` (default: the source itself), `start_s`,
            `end_s`, `split`, `language`, `licence`.
        base: Folder or URL that relative sources start from; empty: the list's folder.
        may_be_empty: A header without rows is no error.

    Returns:
        The rows, each clip once; a split that one row pins a speaker to stands in all of theirs.

    Raises:
        InputError: If the list is missing or of the wrong form.
    """
    rows = records.read_csv(path)
    if not rows and may_be_empty:
        return []
    header = set(rows[0]) if rows else set()
    if "source" not in header:
        raise InputError(
            f"{path} lists no source: expected a comma-separated header with the column `source` "
            f"(known columns: {', '.join(COLUMNS)}) and at least one row, found "
            f"{', '.join(sorted(header)) or 'no row'}"
        )
    _warn_of_columns(header, path)
    listed = dict[str, Source]()
    for line, row in enumerate(rows, start=2):
        source = _read_row(row, where=f"{path}, row {line}", base=base, folder=path.parent)
        if source.clip_id in listed:
            logger.warning("%s, row %d: %s is listed before", path, line, source.clip_id)
        listed.setdefault(source.clip_id, source)
    pinned = _pinned(listed.values(), path)
    return [replace(source, split=pinned.get(source.speaker_id, "")) for source in listed.values()]


def _warn_of_columns(header: set[str], path: Path) -> None:
    ignored = sorted(header - set(COLUMNS))
    if ignored:
        logger.warning("%s: columns %s are not known and ignored", path, ", ".join(ignored))
    if "speaker_id" not in header:
        logger.warning(
            "%s has no column speaker_id: every source counts as a speaker of its own, so one "
            "person may be trained on and tested on",
            path,
        )


def _read_row(row: Mapping[str, str], *, where: str, base: str, folder: Path) -> Source:
    written = row["source"]
    if not written:
        raise InputError(f"{where}: `source` is empty")
    if base:
        written = written.removeprefix(f"{base.rstrip('/')}/")
    start_s = _seconds(row, "start_s", where) or 0.0
    end_s = _seconds(row, "end_s", where)
    if end_s is not None and end_s <= start_s:
        raise InputError(f"{where}: end_s ({end_s:g}) must come after start_s ({start_s:g})")
    split = row.get("split", "")
    if split not in ("", "train", "val", "test"):
        raise InputError(f"{where}: split must be train, val, test or empty, found {split!r}")
    end = "end" if end_s is None else milliseconds(end_s)
    cut = f"#{milliseconds(start_s)}-{end}" if start_s > 0 or end_s is not None else ""
    return Source(
        clip_id=written + cut,
        written=written,
        location=locate(written, base=base, folder=folder),
        speaker_id=row.get("speaker_id", "") or _speaker(written),
        split=split,
        start_s=start_s,
        end_s=end_s,
        language=row.get("language", ""),
        licence=row.get("licence", ""),
    )


def _speaker(source: str) -> str:
    """Who speaks where the list does not say: the file itself, so that nobody is mixed up."""
    return source.split("?")[0].split("://")[-1] if is_url(source) else Path(source).as_posix()


def _seconds(row: Mapping[str, str], column: str, where: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{where}: {column} must be seconds, 0 or more, found {text!r}")
    return value


def _pinned(listed: Iterable[Source], path: Path) -> dict[str, str]:
    """Split of every speaker whom the list pins to one, in any of their rows."""
    pinned = dict[str, str]()
    for source in listed:
        if source.split and pinned.setdefault(source.speaker_id, source.split) != source.split:
            raise InputError(
                f"{path}: speaker {source.speaker_id} is pinned to {pinned[source.speaker_id]} "
                f"and to {source.split}; a speaker belongs to one split"
            )
    return pinned


def fetch_list(uri: str, target: Path, *, base: str) -> str:
    """Copy a list from wherever it is.

    Args:
        uri: A path, or a URL that fsspec knows (`https://`, `s3://`).
        target: File to write.
        base: Folder or http(s) URL that relative sources start from; empty: the list's own.

    Returns:
        That base, a folder as an absolute path.

    Raises:
        InputError: If the list cannot be read, or its own place cannot be a base.
    """
    named = _without_secrets(uri)
    try:
        with fsspec.open(uri, "rb") as file:
            content = file.read()
        text = content.decode("utf-8-sig")
    except Exception as error:  # each of fsspec's libraries has errors of its own
        cause = f"{type(error).__name__}: {error}".replace(uri, named)
        raise InputError(
            f"the list {named} cannot be read ({cause}): name a file or URL of comma-separated "
            "UTF-8 that can be reached from here"
        ) from error
    found = _base(base or _folder(uri, named))
    records.write_text(target, text)
    return found


def _folder(uri: str, named: str) -> str:
    """Where a list is."""
    address = urlsplit(uri)
    if "://" not in uri:
        return str(Path(uri).resolve().parent)
    if address.scheme == "file":
        return str(Path(unquote(address.path)).parent)
    if is_url(uri):
        return urlunsplit((address.scheme, address.netloc, address.path.rsplit("/", 1)[0], "", ""))
    raise InputError(
        f"the list is at {named}, from where sources cannot be fetched: say which folder or "
        "http(s) URL they start from (source_base)"
    )


def _base(base: str) -> str:
    if is_url(base):
        return base
    if "://" in base:
        raise InputError(
            f"sources start from {_without_secrets(base)}, expected a folder or an http(s) URL "
            "(source_base)"
        )
    return str(Path(base).resolve())


def _without_secrets(uri: str) -> str:
    """An address without user, password and query: what may be logged."""
    address = urlsplit(uri)
    host = address.netloc.rpartition("@")[2]
    return urlunsplit((address.scheme, host, address.path, "", "")) if "://" in uri else uri


def write_sources(path: Path, sources: Iterable[Source]) -> None:
    """Write a list that `read_sources` reads back as the same clips, under the same base."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sources:
        end_s = "" if row.end_s is None else repr(row.end_s)
        start_s = repr(row.start_s) if row.is_cut else ""
        writer.writerow(
            [row.written, row.speaker_id, row.split, start_s, end_s, row.language, row.licence]
        )
    records.write_text(path, text.getvalue())
