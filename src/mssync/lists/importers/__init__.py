"""How does a list of another project become a list of sources?

A module for each format, whose `clips` reads it and yields its clips one after the other. What a
format lacks is left empty, above all the licence: that of a metadata file is none of the videos.
What cannot be used is counted, never silently dropped.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mssync.errors import InputError
from mssync.lists.importers import celebv_hq, folder, fomm, hdtf, talkvid, voxceleb
from mssync.lists.importers.reading import Clip
from mssync.lists.locations import MEDIA_SUFFIXES, fault, locate
from mssync.lists.sources import Pins, Source
from mssync.lists.writing import sources_writer

Importer = Callable[[Path, Counter[str]], Iterator[Clip]]

IMPORTERS: Mapping[str, Importer] = {
    "fomm": fomm.clips,
    "voxceleb": voxceleb.clips,
    "hdtf": hdtf.clips,
    "celebv-hq": celebv_hq.clips,
    "talkvid": talkvid.clips,
    "folder": folder.clips,
}


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
