"""How does a list of another project become a list of sources?

Each importer reads one format and yields its clips one after the other. What a format lacks is left
empty, above all the licence: that of a metadata file is none of the videos. What cannot be used is
counted, never silently dropped.
"""

import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.lists import tables
from mssync.lists.locations import MEDIA_SUFFIXES, fault, locate
from mssync.lists.sources import Pins, Source, source_of, sources_writer
from mssync.media.ffmpeg import Crop

logger = logging.getLogger(__name__)

_PAGE = "https://www.youtube.com/watch?v="
_VIDEO_ID = re.compile(r"[\w-]{11}")
_PERSON_ID = re.compile(r"id\d{5}")
_VOXCELEB_HZ = 25
_BLOCK = 1 << 20
_LONGEST_OBJECT = 1 << 26
_DECODER = json.JSONDecoder()
_BETWEEN_OBJECTS = re.compile(r"[\s,\[\]]*")


@dataclass(frozen=True)
class Clip:
    """A clip of another project's list.

    Attributes:
        source: As a row of our list.
        stems: Names, without ending, that its video has where the project's own tools kept it.
    """

    source: Source
    stems: tuple[str, ...] = ()


@dataclass
class Summary:
    """What was imported.

    Attributes:
        clips: Rows written.
        speakers: People in them.
        length_s: Length of the clips that have an end.
        open_ended: Clips whose end is that of the source.
        local: Clips whose video was found in the folder of local videos.
        left_out: Entries that make no row, by cause.
    """

    clips: int = 0
    speakers: int = 0
    length_s: float = 0.0
    open_ended: int = 0
    local: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        hours = f"{self.length_s / 3600:.2f} hours"
        if self.open_ended:
            hours += f" and {self.open_ended} clips of unknown length"
        left = ", ".join(f"{count} {cause}" for cause, count in self.left_out.most_common())
        return f"{self.clips} clips of {self.speakers} speakers, {hours}" + (
            f"; left out: {left}" if left else ""
        )


def import_sources(kind: str, path: Path, out: Path, *, root: Path | None = None) -> Summary:
    """Write a list of sources from another project's list.

    Args:
        kind: A name of `IMPORTERS`.
        path: The file or folder that the format has.
        out: Comma-separated list to write.
        root: Folder of local media. The format `folder` writes sources relative to it, as for
            `$MSSYNC_SOURCE_BASE`; of the others, a video that lies there under its own name is
            taken in place of its page. Default: the list's folder, or no local videos.

    Returns:
        What was imported.

    Raises:
        InputError: If the input is not of that format or holds no clip; nothing is written then.
    """
    if root is not None and not root.is_dir():
        raise InputError(f"{root} is no folder: --root names the folder of local media")
    summary, pins, speakers = Summary(), Pins(path), set[str]()
    local = {} if root is None or kind == "folder" else _videos(root)
    written_from = (root if root and kind == "folder" else out.parent).resolve()
    with sources_writer(out) as write:
        for clip in IMPORTERS[kind](path, summary.left_out):
            source = _from_here(clip, local, written_from, summary)
            if source.end_s is not None and source.end_s <= source.start_s:
                summary.left_out["ending before they start"] += 1
                continue
            if fault(source.written):
                summary.left_out["with an address that a list cannot hold"] += 1
                continue
            pins.add(source)
            write(source)
            speakers.add(source.speaker_id)
            summary.clips += 1
            summary.open_ended += source.end_s is None
            summary.length_s += (source.end_s or source.start_s) - source.start_s
        summary.speakers = len(speakers)
        if not summary.clips:
            left = ", ".join(f"{count} {cause}" for cause, count in summary.left_out.items())
            raise InputError(
                f"{path} holds no clip that can be listed"
                + (f" (left out: {left})" if left else "")
            )
    return summary


def _videos(root: Path) -> dict[str, Path]:
    """Media files right in a folder, by name without ending."""
    files = (Path(entry.path) for entry in os.scandir(root))
    return {file.stem: file.resolve() for file in files if file.suffix.lower() in MEDIA_SUFFIXES}


def _from_here(
    clip: Clip, local: Mapping[str, Path], written_from: Path, summary: Summary
) -> Source:
    """The source of a clip, by its local file where there is one."""
    source = clip.source
    found = next((local[stem] for stem in clip.stems if stem in local), None)
    summary.local += found is not None
    file = found or (Path(source.location) if Path(source.location).is_absolute() else None)
    if file is None:
        return source
    named = str(file.relative_to(written_from) if file.is_relative_to(written_from) else file)
    # a list's cells lose the blanks around them
    named = named if named == named.strip() else f"./{named}"
    own = source.speaker_id if source.speaker_id != source.written else named
    return replace(source, written=named, location=locate(named, base="", folder=written_from),
                   speaker_id=own)  # fmt: skip


def fomm(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
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
        if not _VIDEO_ID.fullmatch(video):
            raise InputError(
                f"{where}: video_id must hold a YouTube id of 11 characters, found "
                f"{row['video_id']!r}"
            )
        start, end, fps_hz, width, height = (
            _number(row[name], name, where) for name in ("start", "end", "fps", "width", "height")
        )
        box = [_number(edge, "bbox", where) for edge in row["bbox"].split("-")]
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
            _PAGE + video,
            speaker_id=row.get("person_id", "") or (people[0] if people else f"youtube-{video}"),
            split=split if split in ("train", "val", "test") else "",
            start_s=_rounded(start / fps_hz),
            end_s=_rounded(end / fps_hz),
            crop=Crop(left, top, right, bottom, height_px=round(height), fractions=False),
        )
        yield Clip(source, (video,))


def voxceleb(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """The folders of VoxCeleb 1 and 2: `id10001/VIDEO/00001.txt`, one utterance a file.

    An utterance lasts from its first frame to its last, at 25 Hz. The crop is the box around the
    face in all its frames, wider by half its size on each side for the whole head; VoxCeleb 1
    counts in pixels of a picture 360 high, VoxCeleb 2 in shares of the picture. Which people are
    the test set is told by the archive's name, not by the files, so the split stays empty; the
    confidences are left out.
    """
    files = _sorted_files(path, {".txt"})
    first = next(files, None)
    if first is None:
        raise InputError(
            f"{path} holds no .txt file: expected the folder of VoxCeleb's annotations, "
            "id10001/VIDEO/00001.txt"
        )
    for file in itertools.chain([first], files):
        facts, frames = _utterance(file)
        person, video = facts.get("identity", ""), facts.get("reference", "")
        if not person or not _VIDEO_ID.fullmatch(video) or not frames:
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
            _PAGE + video,
            speaker_id=person,
            start_s=_rounded(frames[0][0] / _VOXCELEB_HZ),
            end_s=_rounded((frames[-1][0] + 1) / _VOXCELEB_HZ),
            crop=Crop(*box, height_px=height_px, fractions=fractions),
        )
        yield Clip(source, (video,))


def _utterance(file: Path) -> tuple[dict[str, str], list[list[float]]]:
    """Head and frames (number, x, y, width, height) of an utterance of VoxCeleb."""
    facts, frames = dict[str, str](), list[list[float]]()
    for number, line in enumerate(_lines(file), start=1):
        name, colon, value = line.partition(":")
        if colon:
            facts[name.strip().lower()] = value.strip()
        elif line and not line.startswith("FRAME"):
            where = f"{file}, line {number}"
            frame = [_number(cell, "FRAME X Y W H", where) for cell in line.split()]
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


def hdtf(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
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
            yield from _hdtf_video(subset, name, spans, tables_of, left_out, path)


def _hdtf_video(
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
    height_px = round(_number(resolution, "resolution", where))
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
            left, width, top, height = (_number(edge, "crop_wh", where) for edge in box)
            if top + height > height_px:
                left_out["with a box higher than the picture"] += 1
                continue
            start_s, end_s = _hdtf_span(span, where)
            source = source_of(
                _PAGE + video[1],
                speaker_id=name if subset == "RD" else name.rstrip("0123456789"),
                start_s=start_s,
                end_s=end_s,
                crop=Crop(left, top, left + width, top + height, height_px, fractions=False),
                tags=subset,
            )
            yield Clip(source, (video[1], name, f"{subset}_{name}"))


def _hdtf_span(span: str, where: str) -> tuple[float, float]:
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
    for line in _lines(file):
        name, *words = line.split() or [""]
        if name:
            found[name.removesuffix(".mp4")] = words
    return found


def celebv_hq(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """`celebvhq_info.json` of CelebV-HQ; the file is held in memory.

    Boxes are shares of the picture. The file names no people, so each video is its own speaker.
    Actions and emotions become tags; appearance, which describes the person, and the times of
    changing emotions are left out.
    """
    expected = 'expected {"meta_info": ..., "clips": {...}}, as celebvhq_info.json has it'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): {expected}") from error
    clips = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(clips, dict):
        raise InputError(f"{path} holds no clips: {expected}")
    actions = content.get("meta_info", {}).get("action_mapping", [])
    for name, clip in clips.items():
        try:
            video, span, box = clip["ytb_id"], clip["duration"], clip["bbox"]
            left, top, right, bottom = (
                min(1.0, max(0.0, float(box[edge]))) for edge in ("left", "top", "right", "bottom")
            )
            source = source_of(
                _PAGE + video,
                speaker_id=f"youtube-{video}",
                start_s=float(span["start_sec"]),
                end_s=float(span["end_sec"]),
                tags=_celebv_tags(clip.get("attributes", {}), actions),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: clip {name} lacks a sound ytb_id, duration or bbox ({error!r}): "
                f"{expected}"
            ) from error
        if right <= left or bottom <= top:
            left_out["with a box outside the picture"] += 1
            continue
        crop = Crop(left, top, right, bottom)
        yield Clip(replace(source, crop=crop), (video, name))


def _celebv_tags(attributes: Mapping[str, Any], actions: list[str]) -> str:
    flags = attributes.get("action", [])
    tags = [action for action, holds in zip(actions, flags, strict=False) if holds]
    labels = attributes.get("emotion", {}).get("labels", [])
    if isinstance(labels, str):
        tags.append(labels)
    else:
        tags += dict.fromkeys(label["emotion"] for label in labels)
    return ",".join(tags)


def talkvid(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
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
            _PAGE + video[1] if video else address,
            speaker_id=f"talkvid-{person}" if person else "",
            start_s=_rounded(_number(item["start-time"], "start-time", where)),
            end_s=_rounded(_number(item["end-time"], "end-time", where)),
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


def folder(path: Path, left_out: Counter[str]) -> Iterator[Clip]:
    """Media files below a folder, in the order of their names.

    The speaker is the first folder below it, or the file itself where there is none. Hidden files
    and folders, and what does not end like a media file, are passed over.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder: expected a folder of media files")
    top = path.resolve()
    for file in _sorted_files(top, MEDIA_SUFFIXES):
        try:
            str(file).encode()
        except UnicodeEncodeError:
            left_out["whose names are not UTF-8"] += 1
            continue
        people = file.relative_to(top).parts[:-1]
        yield Clip(source_of(str(file), speaker_id=people[0].strip() if people else ""))


def _sorted_files(top: Path, suffixes: frozenset[str] | set[str]) -> Iterator[Path]:
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
            yield from _sorted_files(Path(entry.path), suffixes)
        elif Path(entry.name).suffix.lower() in suffixes:
            yield Path(entry.path)


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as opened:
            for line in opened:
                yield line.strip()
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist: the format needs it") from error
    except (OSError, UnicodeError) as error:
        raise InputError(f"{file} cannot be read as text: {error}") from error


def _number(value: object, name: str, where: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InputError(f"{where}: {name} must be a number, 0 or more, found {value!r}")
    return number


def _rounded(time_s: float) -> float:
    """A time to the millisecond, as clip ids write it."""
    return round(time_s, 3)


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace(",", " ")


Importer = Callable[[Path, Counter[str]], Iterator[Clip]]

IMPORTERS: Mapping[str, Importer] = {
    "fomm": fomm,
    "voxceleb": voxceleb,
    "hdtf": hdtf,
    "celebv-hq": celebv_hq,
    "talkvid": talkvid,
    "folder": folder,
}
