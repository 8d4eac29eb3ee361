"""The list of sources: which videos, whose faces, which pieces (docs/sources.md)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.locations import fault, locate, location_kind, relative_to, scheme_of
from mssync.media.ffmpeg import Crop
from mssync.timing import milliseconds

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
OFFSET_COLUMN = "av_offset_ms"


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
        clip_id=f"{written}{cut}" + (f"@{edges(crop)}" if crop else ""),
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
        raise no_source(path, names)
    empty = True
    for number, row in tables.read_rows(path, columns=COLUMNS):
        if empty and not quiet:
            _warn_of_columns(names, path)
        empty = False
        yield _read_row(row, where=f"{path}, row {number}", base=base, folder=path.parent)
    if empty and not may_be_empty:
        raise no_source(path, [])


def no_source(path: Path, names: Sequence[str]) -> InputError:
    """What is wrong with a list that has these columns, and no row or none of sources."""
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
    numbers = [_number(part) for part in (fractions or pixels).split(",")]
    left, top, right, bottom = numbers if len(numbers) == 4 else [None] * 4
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


def edges(crop: Crop) -> str:
    """A crop as a list writes it: left, top, right, bottom."""
    numbers = (crop.left, crop.top, crop.right, crop.bottom)
    return ",".join(format(number, ".10g") for number in numbers)


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
