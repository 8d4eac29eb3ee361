"""Lists of sources that we write."""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mssync.lists import tables
from mssync.lists.sources import COLUMNS, OFFSET_COLUMN, Source, edges, read_sources


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


def _cells(row: Source) -> list[object]:
    crop = row.crop
    written = edges(crop) if crop else ""
    return [
        row.written,
        row.speaker_id,
        row.split,
        repr(row.start_s) if row.is_cut else "",
        "" if row.end_s is None else repr(row.end_s),
        written if crop and crop.fractions else "",
        written if crop and not crop.fractions else "",
        crop.height_px or "" if crop else "",
        "" if row.av_offset_ms is None else repr(row.av_offset_ms),
        row.language,
        row.licence,
        row.tags,
    ]


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
    names.setdefault(OFFSET_COLUMN)
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
                    row[OFFSET_COLUMN] = format(offsets_ms[source.clip_id], ".1f")
                    given += 1
                writer.writerow(row)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return given
