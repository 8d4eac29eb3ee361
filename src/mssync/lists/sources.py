"""The list of sources: which videos, whose faces, which pieces (docs/sources.md)."""

import codecs
import csv
import filecmp
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import fsspec

from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.locations import (
    Kind,
    fault,
    host_of,
    is_url,
    locate,
    location_kind,
    relative_to,
    scheme_of,
    site_name,
    without_secrets,
)
from mssync.media.ffmpeg import Crop
from mssync.timing import milliseconds

__all__ = [
    "BASE",
    "COLUMNS",
    "Kind",
    "Pins",
    "Source",
    "fetch_list",
    "host_of",
    "is_url",
    "locate",
    "location_kind",
    "pins",
    "place_list",
    "read_sources",
    "scheme_of",
    "site_name",
    "source_of",
    "sources_writer",
    "without_secrets",
    "write_offsets",
    "write_sources",
]

logger = logging.getLogger(__name__)

# The environment variable that names the base, for commands.
BASE = "MSSYNC_SOURCE_BASE"
COLUMNS = (
    "source",
    "speaker_id",
    "split",
    "start_s",
    "end_s",
    "crop",
    "crop_px",
    "crop_height_px",
    "av_offset_ms",
    "language",
    "licence",
    "tags",
)
LARGEST_OFFSET_MS = 10_000.0
_OFFSET = "av_offset_ms"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One row of the list.

    Attributes:
        clip_id: Source as listed, with start and end in ms where they are cut, and the crop.
        written: Source as listed, relative to the base where it lies under it.
        location: Where it is: an address, or a local path.
        speaker_id: Who speaks.
        split: `train`, `val`, `test`, or empty: `build_dataset` decides.
        start_s: Start of the cut.
        end_s: End of the cut; None: the end of the source.
        language: As listed.
        licence: As listed.
        crop: The part of the picture that is kept; None: all of it.
        tags: As listed.
        av_offset_ms: How late the sound is; None: not known.
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
    crop: Crop | None = None
    tags: str = ""
    av_offset_ms: float | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the clip is a piece of the source."""
        return self.start_s > 0 or self.end_s is not None


def source_of(
    written: str,
    *,
    base: str = "",
    folder: Path = Path(),
    speaker_id: str = "",
    split: str = "",
    start_s: float = 0.0,
    end_s: float | None = None,
    language: str = "",
    licence: str = "",
    crop: Crop | None = None,
    tags: str = "",
    av_offset_ms: float | None = None,
) -> Source:
    """A source as a row of a list names it.

    Args:
        written: As in the list.
        base: Folder or address that relative sources start from; empty: the list's folder.
        folder: The list's folder.
        speaker_id: Who speaks; empty: the source itself, so that nobody is mixed up.
        split: As in `Source`.
        start_s: As in `Source`.
        end_s: As in `Source`.
        language: As in `Source`.
        licence: As in `Source`.
        crop: As in `Source`.
        tags: As in `Source`.
        av_offset_ms: As in `Source`.
    """
    written = relative_to(base, written)
    end = "end" if end_s is None else milliseconds(end_s)
    cut = f"#{milliseconds(start_s)}-{end}" if start_s > 0 or end_s is not None else ""
    return Source(
        clip_id=f"{written}{cut}" + (f"@{_edges(crop)}" if crop else ""),
        written=written,
        location=locate(written, base=base, folder=folder),
        speaker_id=speaker_id or default_speaker(written),
        split=split,
        start_s=start_s,
        end_s=end_s,
        language=language,
        licence=licence,
        crop=crop,
        tags=tags,
        av_offset_ms=av_offset_ms,
    )


def read_sources(
    path: Path, *, base: str, may_be_empty: bool = False, quiet: bool = False
) -> Iterator[Source]:
    """Read and check a list of sources, row by row: it may be longer than memory.

    A clip may come twice, and the split of a speaker stands only in the rows where it is written
    (`pins`).

    Args:
        path: The list, in a format of `mssync.lists.tables`, with the columns of `COLUMNS`. Only
            `source` must be there: a path, relative to the list or to `base`, or an address.
        base: Folder or address that relative sources start from; empty: the list's folder.
        may_be_empty: A list without rows is no error.
        quiet: Columns that are unknown or missed are not warned of again.

    Yields:
        The rows.

    Raises:
        InputError: If the list is missing or of the wrong form; rows before the wrong one were
            yielded.
    """
    names = tables.header(path)
    if names and "source" not in names:
        raise _no_source(path, names)
    empty = True
    for number, row in tables.read_rows(path, columns=COLUMNS):
        if empty and not quiet:
            _warn_of_columns(names, path)
        empty = False
        yield _read_row(row, where=f"{path}, row {number}", base=base, folder=path.parent)
    if empty and not may_be_empty:
        raise _no_source(path, [])


def _no_source(path: Path, names: Sequence[str]) -> InputError:
    kind = tables.format_of(str(path))
    kind = f"a {kind} header" if kind in (tables.COMMA, tables.TAB) else kind
    return InputError(
        f"{path} lists no source: expected {kind} with the column `source` (known "
        f"columns: {', '.join(COLUMNS)}) and at least one row, found "
        f"{', '.join(sorted(names)) or 'no row'}"
    )


def _warn_of_columns(names: Sequence[str], path: Path) -> None:
    ignored = sorted(set(names) - {*COLUMNS, ""})
    if ignored:
        logger.warning("%s: columns %s are not known and ignored", path, ", ".join(ignored))
    if "speaker_id" not in names:
        logger.warning(
            "%s has no column speaker_id: every source counts as a speaker of its own, so one "
            "person may be trained on and tested on",
            path,
        )


def _read_row(row: Mapping[str, str], *, where: str, base: str, folder: Path) -> Source:
    written = row.get("source", "")
    if not written:
        raise InputError(f"{where}: `source` is empty")
    wrong = fault(written)
    if wrong:
        raise InputError(f"{where}: {wrong}")
    start_s = _seconds(row, "start_s", where) or 0.0
    end_s = _seconds(row, "end_s", where)
    if end_s is not None and end_s <= start_s:
        raise InputError(f"{where}: end_s ({end_s:g}) must come after start_s ({start_s:g})")
    split = row.get("split", "")
    if split not in ("", "train", "val", "test"):
        raise InputError(f"{where}: split must be train, val, test or empty, found {split!r}")
    return source_of(
        written,
        base=base,
        folder=folder,
        speaker_id=row.get("speaker_id", ""),
        split=split,
        start_s=start_s,
        end_s=end_s,
        language=row.get("language", ""),
        licence=row.get("licence", ""),
        crop=_crop(row, where),
        tags=row.get("tags", ""),
        av_offset_ms=_offset_ms(row, where),
    )


def default_speaker(source: str) -> str:
    """Who speaks where the list does not say: the source itself, so that nobody is mixed up."""
    if not scheme_of(source):
        return Path(source).as_posix()
    # the query of a page says which video it is, that of a file how to get at it
    whole = location_kind(source) == "site"
    return (source if whole else source.split("?")[0]).split("://", 1)[1]


def _seconds(row: Mapping[str, str], column: str, where: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    value = _number(text)
    if value is None or value < 0:
        raise InputError(f"{where}: {column} must be seconds, 0 or more, found {text!r}")
    return value


def _offset_ms(row: Mapping[str, str], where: str) -> float | None:
    text = row.get("av_offset_ms", "")
    if not text:
        return None
    value = _number(text)
    if value is None or abs(value) > LARGEST_OFFSET_MS:
        raise InputError(
            f"{where}: av_offset_ms must be milliseconds by which the sound is late, negative "
            f"where it is early, within {LARGEST_OFFSET_MS:g}, found {text!r}"
        )
    return value


def _crop(row: Mapping[str, str], where: str) -> Crop | None:
    fractions, pixels = row.get("crop", ""), row.get("crop_px", "")
    if not fractions and not pixels:
        return None
    if fractions and pixels:
        raise InputError(f"{where}: `crop` and `crop_px` are both given: keep one of them")
    edges = [_number(part) for part in (fractions or pixels).split(",")]
    left, top, right, bottom = edges if len(edges) == 4 else [None] * 4
    if (
        left is None
        or top is None
        or right is None
        or bottom is None
        or not 0 <= left < right
        or not 0 <= top < bottom
        or (fractions and max(right, bottom) > 1)
    ):
        column, unit = ("crop", "shares in [0, 1]") if fractions else ("crop_px", "pixels")
        raise InputError(
            f"{where}: {column} must be left,top,right,bottom in {unit}, found "
            f"{fractions or pixels!r}"
        )
    if fractions:
        return Crop(left, top, right, bottom)
    return Crop(left, top, right, bottom, height_px=_height(row, where), fractions=False)


def _height(row: Mapping[str, str], where: str) -> int | None:
    text = row.get("crop_height_px", "")
    if not text:
        return None
    value = _number(text)
    if value is None or value < 1 or value != int(value):
        raise InputError(
            f"{where}: crop_height_px must be the height of the picture that crop_px counts in, "
            f"found {text!r}"
        )
    return int(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _edges(crop: Crop) -> str:
    edges = (crop.left, crop.top, crop.right, crop.bottom)
    return ",".join(format(edge, ".10g") for edge in edges)


@dataclass
class Pins:
    """Splits that a list pins speakers to.

    Attributes:
        path: The list.
        splits: Split by speaker.
    """

    path: Path
    splits: dict[str, str] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        """Take up a row.

        Raises:
            InputError: If its speaker is pinned to another split.
        """
        if not source.split:
            return
        pinned = self.splits.setdefault(source.speaker_id, source.split)
        if pinned != source.split:
            raise InputError(
                f"{self.path}: speaker {source.speaker_id} is pinned to {pinned} and to "
                f"{source.split}; a speaker belongs to one split"
            )


def pins(path: Path, base: str) -> dict[str, str]:
    """Split of every speaker whom a list pins to one, in any of their rows.

    Without a column `split`, the list is not read.

    Args:
        path: The list.
        base: Folder or address that relative sources start from; empty: the list's folder.

    Raises:
        InputError: If a speaker is pinned to two splits, or the list is of the wrong form.
    """
    some_rows_may = tables.format_of(str(path)) == tables.JSON_LINES
    if not some_rows_may and "split" not in tables.header(path):
        return {}
    found = Pins(path)
    for source in read_sources(path, base=base, may_be_empty=True, quiet=True):
        found.add(source)
    return found.splits


def fetch_list(uri: str, target: Path, *, base: str) -> str:
    """Bring a list from wherever it is, as comma-separated text.

    Args:
        uri: A path, or a URL that fsspec knows (`https://`, `s3://`). The ending of its name tells
            the format.
        target: File to write; one that would be the same is left alone.
        base: Folder or address that relative sources start from; empty: the list's own.

    Returns:
        That base, a folder as an absolute path.

    Raises:
        InputError: If the list cannot be read, or its own place cannot be a base.
    """
    named = without_secrets(uri)
    found = _base(base or _folder(uri))
    if scheme_of(uri) in ("", "file"):
        place_list(Path(unquote(urlsplit(uri).path) if scheme_of(uri) else uri), target)
        return found
    tables.format_of(named)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f".{target.name}.fetching{Path(urlsplit(named).path).suffix}")
    try:
        try:
            with fsspec.open(uri, "rb") as there, copy.open("wb") as here:
                shutil.copyfileobj(there, here, _BLOCK_BYTES)
        except Exception as error:  # each of fsspec's libraries has errors of its own
            cause = f"{type(error).__name__}: {error}".replace(uri, named)
            raise InputError(
                f"the list {named} cannot be read ({cause}): name a file or URL that can be "
                "reached from here"
            ) from error
        place_list(copy, target, named=named)
    finally:
        copy.unlink(missing_ok=True)
    return found


def place_list(source: Path, target: Path, *, named: str = "") -> None:
    """Put a list where a run keeps it, as comma-separated text; an equal one is left alone.

    Args:
        source: The list, in a format of `mssync.lists.tables`. Comma-separated text is copied as it
            is; of other formats, the columns that are known.
        target: File to write; its folder is created.
        named: What messages call the list; empty: its path.

    Raises:
        InputError: If the list cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.writing")
    try:
        tables.header(source)
        if tables.format_of(str(source)) == tables.COMMA:
            _copy_text(source, temporary)
        else:
            _convert(source, temporary, named or str(source))
        if not target.exists() or not filecmp.cmp(temporary, target, shallow=False):
            temporary.replace(target)
    except InputError as error:
        if named:
            raise InputError(str(error).replace(str(source), named)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _copy_text(source: Path, target: Path) -> None:
    check = codecs.getincrementaldecoder("utf-8")()
    try:
        with source.open("rb") as there, target.open("wb") as here:
            for block in iter(partial(there.read, _BLOCK_BYTES), b""):
                check.decode(block)
                here.write(block)
            check.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{source} cannot be read as comma-separated UTF-8: {error}") from error


def _convert(source: Path, target: Path, named: str) -> None:
    # Of JSON lines every row may bring columns of its own: a look at all of them comes first.
    found = set(tables.header(source))
    if tables.format_of(str(source)) == tables.JSON_LINES:
        for _, row in tables.read_rows(source):
            found |= row.keys()
    if "source" not in found:
        raise _no_source(source, sorted(found))
    ignored = sorted(found - set(COLUMNS))
    if ignored:
        logger.warning("%s: columns %s are not known and ignored", named, ", ".join(ignored))
    known = [name for name in COLUMNS if name in found]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(known)
        for _, row in tables.read_rows(source, columns=known):
            writer.writerow([row.get(name, "") for name in known])


def _folder(uri: str) -> str:
    """Where a list is."""
    if not scheme_of(uri):
        return str(Path(uri).resolve().parent)
    address = urlsplit(without_secrets(uri))
    folder = address.path.rsplit("/", 1)[0]
    return urlunsplit((address.scheme, address.netloc, folder, "", ""))


def _base(base: str) -> str:
    if scheme_of(base) == "file":
        return unquote(urlsplit(base).path)
    if not scheme_of(base):
        return str(Path(base).resolve())
    wrong = fault(base)
    if wrong:
        raise InputError(
            f"sources cannot start from {without_secrets(base)} (source_base): "
            f"{wrong.replace('`source`', 'it')}"
        )
    return base


@contextmanager
def sources_writer(path: Path) -> Iterator[Callable[[Source], None]]:
    """Write a list row by row; it appears when all is written, and not at all after an error.

    Args:
        path: Comma-separated file to write; its folder is created.

    Yields:
        What writes one row. `read_sources` reads it back as the same clip, under the same base.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            yield lambda source: writer.writerow(_cells(source))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_sources(path: Path, sources: Iterable[Source]) -> None:
    """Write a list that `read_sources` reads back as the same clips, under the same base."""
    with sources_writer(path) as write:
        for source in sources:
            write(source)


def write_offsets(path: Path, target: Path, *, base: str, offsets_ms: Mapping[str, float]) -> int:
    """Write a list once more, with the offsets of some clips in the column `av_offset_ms`.

    Everything else stays as it is written, columns that are not known too.

    Args:
        path: The list.
        target: Comma-separated file to write; may be `path` itself.
        base: Folder or address that relative sources start from; empty: the list's folder.
        offsets_ms: How late the sound is, by clip id; other rows keep what they have.

    Returns:
        Rows that were given an offset.

    Raises:
        InputError: If the list is missing or of the wrong form.
    """
    names = dict.fromkeys(tables.header(path))
    if tables.format_of(str(path)) == tables.JSON_LINES:
        for _, row in tables.read_rows(path):
            names |= dict.fromkeys(row)
    names.setdefault(_OFFSET)
    temporary = target.with_name(f".{target.name}.writing")
    target.parent.mkdir(parents=True, exist_ok=True)
    given = 0
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            rows = (row for _, row in tables.read_rows(path))
            sources = read_sources(path, base=base, quiet=True)
            for row, source in zip(rows, sources, strict=True):
                if source.clip_id in offsets_ms:
                    row[_OFFSET] = format(offsets_ms[source.clip_id], ".1f")
                    given += 1
                writer.writerow(row)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return given


def _cells(row: Source) -> list[object]:
    crop = row.crop
    edges = _edges(crop) if crop else ""
    return [
        row.written,
        row.speaker_id,
        row.split,
        repr(row.start_s) if row.is_cut else "",
        "" if row.end_s is None else repr(row.end_s),
        edges if crop and crop.fractions else "",
        edges if crop and not crop.fractions else "",
        crop.height_px or "" if crop else "",
        "" if row.av_offset_ms is None else repr(row.av_offset_ms),
        row.language,
        row.licence,
        row.tags,
    ]
