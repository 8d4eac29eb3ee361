"""What must never come back?

A takedown list is a comma-separated UTF-8 file with a header (or any other format of a list). Its
columns, of which one of the first five is needed:

| column | what is taken down |
|---|---|
| `source` | this source, however its address is spelled, and with it all clips of it |
| `speaker_id` | everything of this speaker, written exactly as in the list of sources |
| `sha256` | these very bytes, wherever they come from: a file as it was fetched |
| `uploader` | everything of this account, as the site names it |
| `clip_id` | this clip, written exactly as in the manifest |
| `reason` | said to whoever asks why; free text |
| `date` | free text |

Every filled cell of a row stands for itself: a row with a source and a speaker takes down both,
so a row for one video of a speaker names the source alone. `mssync.download.takedown.COLUMNS` is
the order in which they are written.
"""

import csv
import io
import logging
import posixpath
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mssync import records
from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.locations import SITE_PREFIX, scheme_of

logger = logging.getLogger(__name__)

WHAT = ("source", "speaker_id", "sha256", "uploader", "clip_id")
COLUMNS = (*WHAT, "reason", "date")
EMPTY = ",".join(COLUMNS) + "\n"  # a list that takes nothing down

_DIGEST = re.compile("[0-9a-f]{64}")
_YOUTUBE = re.compile(r"(?:\w+\.)*(?:youtube(?:-nocookie)?\.com|youtu\.be)")
_PORTS = {"http": 80, "https": 443}
_NO_REASON = "no reason is given"


class Tombstones:
    """What was taken down, and why. Memory grows with the takedown list alone."""

    def __init__(self) -> None:
        # by column, then by what its cells name
        self._reasons: dict[str, dict[str, str]] = {column: {} for column in WHAT}

    @classmethod
    def read(cls, path: Path | None) -> "Tombstones":
        """Read a takedown list.

        Args:
            path: The list; None, an empty or a missing file: nothing was taken down.

        Raises:
            InputError: If it is of the wrong form.
        """
        tombstones = cls()
        if path is None:
            return tombstones
        if not path.exists():
            logger.warning("the takedown list %s does not exist: nothing is left out", path)
        elif not path.is_file() or path.stat().st_size:
            _check_columns(path)
            for number, row in tables.read_rows(path):
                tombstones._add(row, f"{path}, row {number}")
        return tombstones

    def match(self, source: str, speaker_id: str, clip_id: str = "") -> str | None:
        """Why a source was taken down; None if it was not.

        Args:
            source: As written in the list of sources.
            speaker_id: The same.
            clip_id: Of the clip that the list makes of it.
        """
        by_source, by_speaker = self._reasons["source"], self._reasons["speaker_id"]
        found = self._reasons["clip_id"].get(clip_id)
        if found is None and by_speaker:
            found = by_speaker.get(speaker_id)
        if found is None and by_source:
            found = by_source.get(same_source(source))
        return found

    def match_content(self, sha256: str) -> str | None:
        """Why content was taken down; None if it was not."""
        return self._reasons["sha256"].get(sha256)

    def match_origin(self, sha256: str, uploader: str | None) -> bool:
        """Whether what was fetched was taken down, by its digest or by its uploader."""
        if self.match_content(sha256) is not None:
            return True
        return bool(uploader) and self.match_uploader(str(uploader)) is not None

    def match_uploader(self, uploader: str) -> str | None:
        """Why all of an uploader was taken down; None if it was not."""
        return self._reasons["uploader"].get(_same_name(uploader)) if uploader else None

    def _add(self, row: dict[str, str], where: str) -> None:
        named = {column: row[column] for column in WHAT if row.get(column)}
        if not named:
            if any(row.values()):
                raise InputError(f"{where}: names nothing: fill one of {', '.join(WHAT)}")
            return
        reason = sys.intern(row.get("reason") or _NO_REASON)
        for column, value in named.items():
            if column == "sha256":
                value = value.lower()
                if not _DIGEST.fullmatch(value):
                    raise InputError(f"{where}: expected 64 hexadecimal digits, found {value!r}")
            elif column == "source":
                value = same_source(value)
            elif column == "uploader":
                value = _same_name(value)
            self._reasons[column][value] = reason


def append(path: Path, row: Mapping[str, str]) -> None:
    """Add a row to a takedown list, if it has no such row; a missing list is begun.

    Args:
        path: The list, comma-separated.
        row: Cells by column.

    Raises:
        InputError: If the list is of the wrong form, or not comma-separated.
    """
    if tables.format_of(path.name) != tables.COMMA:
        raise InputError(f"{path}: rows are added to a comma-separated list (.csv) only")
    known = []
    if path.exists() and path.stat().st_size:
        _check_columns(path)
        known = [
            {name: there.get(name, "") for name in COLUMNS} for _, there in tables.read_rows(path)
        ]
    wanted = {name: row.get(name, "") for name in COLUMNS}
    if any(all(there[name] == wanted[name] for name in WHAT) for there in known):
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*known, wanted])
    records.write_text(path, text.getvalue())


def same_source(source: str) -> str:
    """One spelling for all spellings of a source; only good for comparing.

    Args:
        source: A path, or an address.
    """
    source = unicodedata.normalize("NFC", source.strip())
    scheme = scheme_of(source)
    if not scheme:
        return posixpath.normpath(source)
    if scheme.startswith(SITE_PREFIX):
        source = source[len(SITE_PREFIX) :]
        scheme = scheme.removeprefix(SITE_PREFIX)
    if scheme not in _PORTS:
        return f"{scheme}://" + source.partition("://")[2]
    try:
        return _same_page(source, scheme)
    except ValueError:  # no address at all, as whoever fetches it will say
        return source


def _same_page(url: str, scheme: str) -> str:
    parts = urlsplit(url)
    host = _same_host(parts.hostname or "")
    if _YOUTUBE.fullmatch(host):
        video = _youtube_id(url)
        if video:
            return f"youtube:{video}"
    port = "" if parts.port in (None, _PORTS[scheme]) else f":{parts.port}"
    path = unquote(parts.path).rstrip("/")
    query = f"?{unquote(parts.query)}" if parts.query else ""
    # http or https, it is the same page
    return unicodedata.normalize("NFC", f"//{host}{port}{path}{query}")


def _same_host(host: str) -> str:
    host = host.lower().removesuffix(".").removeprefix("www.")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _youtube_id(url: str) -> str:
    """The video that an address shows, which has many addresses; empty for a list or channel."""
    from yt_dlp.extractor.youtube import YoutubeIE  # takes half a second

    return YoutubeIE.get_temp_id(url) or ""


def _same_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()


def _check_columns(path: Path) -> None:
    names = {name for name in tables.header(path) if name}
    unknown = sorted(names - set(COLUMNS))
    if unknown:
        raise InputError(
            f"{path} has the column {unknown[0]!r}, which a takedown list has not: expected any of "
            f"{', '.join(COLUMNS)}"
        )
    if not names & set(WHAT):
        raise InputError(f"{path} names nothing: expected one of the columns {', '.join(WHAT)}")
