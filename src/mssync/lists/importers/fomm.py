"""The metadata of FOMM's video-preprocessing."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.importers.reading import PAGE, VIDEO_ID, Clip, rounded, to_number
from mssync.lists.sources import source_of
from mssync.media.ffmpeg import Crop

_PERSON_ID = re.compile(r"id\d{5}")


def clips(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """`vox-metadata.csv` of FOMM's video-preprocessing, and others of its form.

    Start and end are frames at `fps`, the box is `left-top-right-bottom` in pixels of a picture of
    `width` by `height`, cut where it reaches beyond the picture, as its own reader does. The person
    comes from `person_id`, or from a `video_id` such as `id10283#u3s9xdUlmmk#002705`; without one,
    each video is its own speaker. `partition` is the split. Of the rest of such an id, the
    utterance, nothing is kept.
    """
    needed = ("video_id", "start", "end", "bbox", "fps", "width", "height")
    missing = sorted(set(needed) - set(tables.header(path)))
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}: expected the metadata of "
            f"video-preprocessing (columns {', '.join(needed)}, partition, person_id)"
        )
    for number, row in tables.read_rows(path):
        where = f"{path}, row {number}"
        parts = row["video_id"].split("#")
        people = [part for part in parts if _PERSON_ID.fullmatch(part)]
        video = next((part for part in parts if part not in people), "")
        if not VIDEO_ID.fullmatch(video):
            raise InputError(
                f"{where}: video_id must hold a YouTube id of 11 characters, found "
                f"{row['video_id']!r}"
            )
        start, end, fps_hz, width, height = (
            to_number(row[name], name, where) for name in ("start", "end", "fps", "width", "height")
        )
        box = [to_number(edge, "bbox", where) for edge in row["bbox"].split("-")]
        if len(box) != 4 or not fps_hz > 0 or not min(width, height) > 0:
            raise InputError(
                f"{where}: expected a bbox left-top-right-bottom and fps, width and height above "
                f"0, found {row['bbox']!r}, {fps_hz:g}, {width:g}, {height:g}"
            )
        left, top, right, bottom = box[0], box[1], min(box[2], width), min(box[3], height)
        if right <= left or bottom <= top:
            left_out["with a box outside the picture"] += 1
            continue
        split = row.get("partition", "")
        source = source_of(
            PAGE + video,
            speaker_id=row.get("person_id", "") or (people[0] if people else f"youtube-{video}"),
            split=split if split in ("train", "val", "test") else "",
            start_s=rounded(start / fps_hz),
            end_s=rounded(end / fps_hz),
            crop=Crop(left, top, right, bottom, height_px=round(height), fractions=False),
        )
        yield Clip(source, (video,))
