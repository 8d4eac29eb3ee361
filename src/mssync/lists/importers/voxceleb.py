"""The annotations of VoxCeleb."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mssync.errors import InputError
from mssync.lists.importers.reading import (
    PAGE,
    VIDEO_ID,
    Clip,
    lines,
    rounded,
    sorted_files,
    to_number,
)
from mssync.lists.sources import source_of
from mssync.media.ffmpeg import Crop

_RATE_HZ = 25


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """The folders of VoxCeleb 1 and 2: `id10001/VIDEO/00001.txt`, one utterance a file.

    An utterance lasts from its first frame to its last, at 25 Hz. The crop is the box around the
    face in all its frames, wider by half its size on each side for the whole head; VoxCeleb 1
    counts in pixels of a picture 360 high, VoxCeleb 2 in shares of the picture. Which people are
    the test set is told by the archive's name, not by the files, so the split stays empty; the
    confidences are left out.
    """
    files = sorted_files(path, {".txt"})
    first = next(files, None)
    if first is None:
        raise InputError(
            f"{path} holds no .txt file: expected the folder of VoxCeleb's annotations, "
            "id10001/VIDEO/00001.txt"
        )
    for file in itertools.chain([first], files):
        facts, frames = _utterance(file)
        person, video = facts.get("identity", ""), facts.get("reference", "")
        if not person or not VIDEO_ID.fullmatch(video) or not frames:
            raise InputError(
                f"{file}: expected an utterance of VoxCeleb (lines `Identity`, `Reference`, then "
                "FRAME X Y W H), found no "
                + ("frames" if person and video else "Identity and Reference")
            )
        left, top = (min(frame[edge] for frame in frames) for edge in (1, 2))
        right, bottom = (max(frame[e] + frame[e + 2] for frame in frames) for e in (1, 2))
        fractions = max(right, bottom) <= 2
        box = _widened(left, top, right, bottom, limit=1.0 if fractions else None)
        if box[2] <= box[0] or box[3] <= box[1]:
            left_out["with a box outside the picture"] += 1
            continue
        height_px = None if fractions else 360
        source = source_of(
            PAGE + video,
            speaker_id=person,
            start_s=rounded(frames[0][0] / _RATE_HZ),
            end_s=rounded((frames[-1][0] + 1) / _RATE_HZ),
            crop=Crop(*box, height_px=height_px, fractions=fractions),
        )
        yield Clip(source, (video,))


def _utterance(file: Path) -> tuple[dict[str, str], list[list[float]]]:
    """Head and frames (number, x, y, width, height) of an utterance of VoxCeleb."""
    facts, frames = dict[str, str](), list[list[float]]()
    for number, line in enumerate(lines(file), start=1):
        name, colon, value = line.partition(":")
        if colon:
            facts[name.strip().lower()] = value.strip()
        elif line and not line.startswith("FRAME"):
            where = f"{file}, line {number}"
            frame = [to_number(cell, "FRAME X Y W H", where) for cell in line.split()]
            if len(frame) != 5:
                raise InputError(f"{where}: expected FRAME X Y W H, found {line!r}")
            frames.append(frame)
    return facts, frames


def _widened(
    left: float, top: float, right: float, bottom: float, *, limit: float | None
) -> tuple[float, float, float, float]:
    across, down = (right - left) / 2, (bottom - top) / 2
    box = [left - across, top - down, right + across, bottom + down]
    low = [round(max(0.0, edge), 4) for edge in box]
    a, b, c, d = low if limit is None else [min(limit, edge) for edge in low]
    return a, b, c, d
