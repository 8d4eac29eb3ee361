"""The list of TalkVid."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.lists.importers.reading import PAGE, Clip, rounded, to_number
from mssync.lists.sources import source_of

_BLOCK = 1 << 20
_LONGEST_OBJECT = 1 << 26
_DECODER = json.JSONDecoder()
_BETWEEN_OBJECTS = re.compile(r"[\s,\[\]]*")


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """TalkVid's JSON: one long list of clips, read piece by piece, or one clip a line.

    The person is `talkvid-` and the `Person ID`; the language as given. Tags are the category and
    the scores of DOVER and CoTracker. Age, gender and ethnicity, the description and the scores of
    the head are left out. The format has no boxes.
    """
    for number, item in enumerate(_objects(path), start=1):
        where = f"{path}, clip {number}"
        info = item.get("info")
        if not isinstance(info, dict) or not isinstance(info.get("Video Link"), str):
            raise InputError(
                f"{where}: expected the keys info (with a Video Link), start-time and end-time, "
                f"found {', '.join(sorted(item)) or 'none'}"
            )
        if item.get("start-time") is None or item.get("end-time") is None:
            left_out["without start or end"] += 1
            continue
        address = info["Video Link"].strip()
        video = re.search(r"(?:[?&]v=|youtu\.be/|/shorts/)([\w-]{11})", address)
        person = str(info.get("Person ID") or "").strip()
        tags = {
            "category": info.get("Video Category"),
            "dover": item.get("dover_scores"),
            "cotracker": item.get("cotracker_ratio"),
        }
        source = source_of(
            PAGE + video[1] if video else address,
            speaker_id=f"talkvid-{person}" if person else "",
            start_s=rounded(to_number(item["start-time"], "start-time", where)),
            end_s=rounded(to_number(item["end-time"], "end-time", where)),
            language=str(info.get("Language") or ""),
            tags=",".join(f"{name}={_short(value)}" for name, value in tags.items() if value),
        )
        yield Clip(source, (video[1],) if video else ())


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of lines of JSON, without the whole list in memory."""
    expected = "expected a JSON list of objects, or one object a line"
    text, line = "", 1
    for block in _blocks(path):
        text, start = text + block, 0
        while (start := _after_blanks(text, start)) < len(text):
            try:
                item, end = _DECODER.raw_decode(text, start)
            except ValueError:
                if block and len(text) - start < _LONGEST_OBJECT:
                    break  # it goes on in the next block
                line += text.count("\n", 0, start)
                raise InputError(
                    f"{path}: the object that begins in line {line} is broken, {expected}"
                ) from None
            if not isinstance(item, dict):
                raise InputError(f"{path}: {expected}, found a {type(item).__name__}")
            yield item
            start = end
        line += text.count("\n", 0, start)
        text = text[start:]


def _blocks(path: Path) -> Iterator[str]:
    """A text in blocks, the last of which is empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            while block := file.read(_BLOCK):
                yield block
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error
    yield ""


def _after_blanks(text: str, start: int) -> int:
    """Where the next object begins: behind blanks, commas, and the brackets of the list."""
    found = _BETWEEN_OBJECTS.match(text, start)
    return found.end() if found else start


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace(",", " ")
