"""The lists of HDTF."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mssync.errors import InputError
from mssync.lists.importers.reading import PAGE, Clip, lines, to_number
from mssync.lists.sources import source_of
from mssync.media.ffmpeg import Crop


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """The folder `HDTF_dataset`: addresses, times, resolutions and boxes of three subsets.

    The subset (`RD`, `WDA`, `WRA`) becomes a tag. The person is the name without the number behind
    it; in `RD`, where names are `Radio1` and so on, each video is its own speaker. Boxes are
    pixels of a picture of the stated resolution. Clips without an address, box or resolution, or
    with a box higher than the picture, are left out, as HDTF's own script cannot make them.
    `*_crop_ratio.txt` is not read.
    """
    subsets = [name for name in ("RD", "WDA", "WRA") if (path / f"{name}_video_url.txt").exists()]
    if not subsets:
        raise InputError(
            f"{path} holds no RD_video_url.txt, WDA_video_url.txt or WRA_video_url.txt: expected "
            "HDTF's folder HDTF_dataset"
        )
    for subset in subsets:
        tables_of = {
            name: _words_by_name(path / f"{subset}_{name}.txt")
            for name in ("video_url", "annotion_time", "resolution", "crop_wh")
        }
        for name, spans in tables_of["annotion_time"].items():
            yield from _video(subset, name, spans, tables_of, left_out, path)


def _video(
    subset: str,
    name: str,
    spans: list[str],
    tables_of: Mapping[str, Mapping[str, list[str]]],
    left_out: Counter[str],
    path: Path,
) -> Iterator[Clip]:
    where = f"{path}, {subset}, {name}"
    address = next(iter(tables_of["video_url"].get(name, [])), "")
    resolution = next(iter(tables_of["resolution"].get(name, [])), "0")
    height_px = round(to_number(resolution, "resolution", where))
    video = re.search(r"(?:v=|youtu\.be/)([\w-]{11})", address)
    for index, span in enumerate(spans):
        box = tables_of["crop_wh"].get(f"{name}_{index}")
        if not video:
            left_out["without an address"] += 1
        elif not box or not height_px:
            left_out["without a box or resolution"] += 1
        else:
            if len(box) != 4:
                raise InputError(f"{where}_{index}: expected 4 numbers of a box, found {box}")
            left, width, top, height = (to_number(edge, "crop_wh", where) for edge in box)
            if top + height > height_px:
                left_out["with a box higher than the picture"] += 1
                continue
            start_s, end_s = _span(span, where)
            source = source_of(
                PAGE + video[1],
                speaker_id=name if subset == "RD" else name.rstrip("0123456789"),
                start_s=start_s,
                end_s=end_s,
                crop=Crop(left, top, left + width, top + height, height_px, fractions=False),
                tags=subset,
            )
            yield Clip(source, (video[1], name, f"{subset}_{name}"))


def _span(span: str, where: str) -> tuple[float, float]:
    times = [re.fullmatch(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", time) for time in span.split("-")]
    seconds = [
        int(time[1] or 0) * 3600 + int(time[2]) * 60 + float(time[3]) for time in times if time
    ]
    if len(seconds) != 2 or len(times) != 2:
        raise InputError(f"{where}: expected a span such as 00:30-01:00, found {span!r}")
    return seconds[0], seconds[1]


def _words_by_name(file: Path) -> dict[str, list[str]]:
    """Lines of a file: what follows the name of a video or clip, which may end in `.mp4`."""
    found = dict[str, list[str]]()
    for line in lines(file):
        name, *words = line.split() or [""]
        if name:
            found[name.removesuffix(".mp4")] = words
    return found
