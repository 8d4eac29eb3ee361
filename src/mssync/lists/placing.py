"""Where is the list of a run, and in which format: brought here as comma-separated text."""

import codecs
import csv
import filecmp
import logging
import shutil
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import fsspec

from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.locations import fault, scheme_of, without_secrets
from mssync.lists.sources import COLUMNS, no_source

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20


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
        raise no_source(source, sorted(found))
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
