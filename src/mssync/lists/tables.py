"""How are rows read from a list, whatever its format? One after the other: lists may be long.

Comma-separated (`.csv`), tab-separated (`.tsv`), one JSON object a line (`.jsonl`, `.ndjson`) and
Parquet (`.parquet`) give the same rows: text by name of column, empty where there is none.
"""

import csv
import itertools
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mssync.errors import InputError

Rows = Iterator[tuple[int, dict[str, str]]]

COMMA, TAB, JSON_LINES, PARQUET = "comma-separated", "tab-separated", "JSON lines", "Parquet"
FORMATS = {
    ".csv": COMMA,
    ".tsv": TAB,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".parquet": PARQUET,
}

_BATCH_ROWS = 1024


def format_of(name: str) -> str:
    """Format of a list, by the ending of its name.

    Raises:
        InputError: If the ending is none of those known.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{name}: the name of a list ends in {', '.join(FORMATS)}, found "
            f"{suffix or 'no ending'}: rename it, or make a list of it with `mssync import-sources`"
        )
    return FORMATS[suffix]


def header(path: Path) -> list[str]:
    """Names of the columns; of JSON lines, those of the first row.

    Raises:
        InputError: If the list is missing, unreadable, or has no header.
    """
    kind = _checked_format(path)
    with _told(path, kind):
        if kind == PARQUET:
            return list(pq.read_schema(path).names)
        if kind == JSON_LINES:
            first = next(_json_rows(path), None)
            return list(first[1]) if first else []
        return _read_header(path, kind)


def read_rows(path: Path, *, columns: Collection[str] | None = None) -> Rows:
    """Read a list, row by row.

    Args:
        path: The list; the ending of its name tells the format.
        columns: Columns to read; None: all.

    Yields:
        The row's number as a person counts, and its text by column, without blanks around it. A
        text file is counted in lines, of which a header is the first; Parquet in rows, from 1.

    Raises:
        InputError: If the list is missing, of an unknown format, or cannot be read.
    """
    kind = _checked_format(path)
    with _told(path, kind):
        yield from _READERS[kind](path, columns)


def _checked_format(path: Path) -> str:
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, expected a list of sources: make one of it with "
            f"`mssync import-sources folder {path} --out sources.csv`"
        )
    kind = format_of(str(path))
    if not path.exists():
        raise InputError(f"{path} does not exist: name an existing list of sources")
    return kind


@contextmanager
def _told(path: Path, kind: str) -> Iterator[None]:
    """Within, what a format's own library finds wrong is told as a wrong list."""
    try:
        yield
    except (OSError, ValueError, OverflowError, csv.Error, pa.ArrowException) as error:
        what = kind if kind == PARQUET else f"{kind} UTF-8"
        raise InputError(f"{path} cannot be read as {what}: {error}") from error


def _read_header(path: Path, kind: str) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return _header_of(_reader(file, kind), path)


def _reader(file: Any, kind: str) -> Any:  # noqa: ANN401 - csv's reader has no public type
    return csv.reader(file, delimiter="\t" if kind == TAB else ",")


def _header_of(reader: Any, path: Path) -> list[str]:  # noqa: ANN401
    names = next((row for row in reader if row), None)
    if names is None:
        raise InputError(f"{path} is empty, expected a header such as source,speaker_id")
    names = [name.strip() for name in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(f"{path} has the column {twice[0]} twice: keep one of them")
    return names


def _delimited_rows(path: Path, columns: Collection[str] | None, *, kind: str) -> Rows:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = _reader(file, kind)
        names = _header_of(reader, path)
        wanted = [
            (index, name)
            for index, name in enumerate(names)
            if name and (columns is None or name in columns)
        ]
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(names) and any(cells[len(names) :]):
                raise InputError(
                    f"{path}, row {reader.line_num}: {len(cells)} cells under a header of "
                    f"{len(names)}: put quotes around a cell that holds the separator"
                )
            cells += [""] * (len(names) - len(cells))
            yield reader.line_num, {name: cells[index].strip() for index, name in wanted}


def _json_rows(path: Path, columns: Collection[str] | None = None) -> Rows:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _parsed(line, f"{path}, row {number}")
            texts = {
                name: _text(value)
                for name, value in row.items()
                if columns is None or name in columns
            }
            if "\\u" in line:  # half a character can be written so, and nowhere else
                "".join(itertools.chain(texts, texts.values())).encode()
            yield number, texts


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected one JSON object a line, found {error}") from error
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: expected one JSON object a line, found a {type(row).__name__}"
            + (": write the list's items one a line" if isinstance(row, list) else "")
        )
    return row


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Rows:
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if columns is None or name in columns]
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            texts = [[_text(value) for value in column.to_pylist()] for column in batch.columns]
            for index in range(batch.num_rows):
                number += 1
                yield (
                    number,
                    {name: column[index] for name, column in zip(names, texts, strict=True)},
                )


def _text(value: object) -> str:
    """A value as a comma-separated list would hold it."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode().strip()
    if value is None or value != value:  # missing, or not a number
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(_text(part) for part in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


_READERS: dict[str, Callable[[Path, Collection[str] | None], Rows]] = {
    COMMA: lambda path, columns: _delimited_rows(path, columns, kind=COMMA),
    TAB: lambda path, columns: _delimited_rows(path, columns, kind=TAB),
    JSON_LINES: _json_rows,
    PARQUET: _parquet_rows,
}
