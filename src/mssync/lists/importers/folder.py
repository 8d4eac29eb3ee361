"""A folder of media files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mssync.errors import InputError
from mssync.lists.importers.reading import Clip, sorted_files
from mssync.lists.locations import MEDIA_SUFFIXES
from mssync.lists.sources import source_of


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """Media files below a folder, in the order of their names.

    The speaker is the first folder below it, or the file itself where there is none. Hidden files
    and folders, and what does not end like a media file, are passed over.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder: expected a folder of media files")
    top = path.resolve()
    for file in sorted_files(top, MEDIA_SUFFIXES):
        try:
            str(file).encode()
        except UnicodeEncodeError:
            left_out["whose names are not UTF-8"] += 1
            continue
        people = file.relative_to(top).parts[:-1]
        yield Clip(source_of(str(file), speaker_id=people[0].strip() if people else ""))
