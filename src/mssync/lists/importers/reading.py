"""What several formats have in common: clips, ids of videos, lines, numbers, folders of files."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mssync.errors import InputError
from mssync.lists.sources import Source

PAGE = "https://www.youtube.com/watch?v="
VIDEO_ID = re.compile(r"[\w-]{11}")


@dataclass(frozen=True)
class Clip:
    """A clip of another project's list.

    Attributes:
        source: As a row of our list.
        stems: Names, without ending, that its video has where the project's own tools kept it.
    """

    source: Source
    stems: tuple[str, ...] = ()


def sorted_files(top: Path, suffixes: frozenset[str] | set[str]) -> Iterator[Path]:
    """Files of these endings below a folder, sorted folder by folder; hidden ones passed over."""
    if not top.is_dir():
        raise InputError(f"{top} is no folder")
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{top} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from sorted_files(Path(entry.path), suffixes)
        elif Path(entry.name).suffix.lower() in suffixes:
            yield Path(entry.path)


def lines(file: Path) -> Iterator[str]:
    """Lines of a text, without the blanks around them."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            for line in opened:
                yield line.strip()
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist: the format needs it") from error
    except (OSError, UnicodeError) as error:
        raise InputError(f"{file} cannot be read as text: {error}") from error


def to_number(value: object, name: str, where: str) -> float:
    """A number of 0 or more; the message names the value and where it stands."""
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InputError(f"{where}: {name} must be a number, 0 or more, found {value!r}")
    return number


def rounded(time_s: float) -> float:
    """A time to the millisecond, as clip ids write it."""
    return round(time_s, 3)
