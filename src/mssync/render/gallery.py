"""The page where people look at the result: one HTML file with motion and sound inside.

It needs no network and no other file: it can be mailed, archived or opened from a disk. Faces are
drawn in the page from their landmarks, so a clip takes about 0.1 MB, whatever number of systems is
beside each other. Its scripts and styles are the files of `page/`.
"""

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mssync.landmarks import ibug
from mssync.media import ffmpeg
from mssync.records import write_text
from mssync.render import draw, payload, plots
from mssync.render.payload import GalleryEntry
from mssync.timing import FRAME_RATE_HZ, SAMPLES_PER_FRAME

PANEL_PX = 240
VIDEOS = 4  # clips that are in the page as MP4 too, which takes another 0.2 MB each
_SCRIPTS = ("basics", "sort")
_CLIP_SCRIPTS = ("data", "faces", "strip", "cards", "list", "player", "gif", "start")


class Value(Protocol):
    """A number with an interval, either of which may be missing."""

    @property
    def value(self) -> float | None:
        """The number; None is printed as n/a."""

    @property
    def low(self) -> float | None:
        """Lower end of its interval."""

    @property
    def high(self) -> float | None:
        """Upper end of its interval."""


@dataclass(frozen=True)
class MetricRow:
    """One line of a table.

    Attributes:
        label: What is measured, e.g. level and points.
        values: One for each of the table's columns; None leaves the cell empty.
        normalised: Place between floor (0) and ground truth (1); None without such a column.
        n: Sequences, or other samples, that it rests on.
    """

    label: str
    values: Sequence[Value | None]
    normalised: Value | None
    n: int


@dataclass(frozen=True)
class MetricTable:
    """One metric of every system.

    Attributes:
        title: Name of the metric.
        explanation: What it means, in one line for a stranger.
        better: Which direction is better.
        columns: Names of the systems.
        rows: Lines.
    """

    title: str
    explanation: str
    better: Literal["lower", "higher", "closer to the ground truth"]
    columns: Sequence[str]
    rows: Sequence[MetricRow]


@dataclass(frozen=True)
class Cell:
    """One place of a table of text.

    Attributes:
        text: What is read.
        detail: Smaller, below it.
        tone: How it is coloured.
        value: What it is sorted by; None: its text.
    """

    text: str
    detail: str = ""
    tone: Literal["", "good", "bad", "soft"] = ""
    value: float | None = None


@dataclass(frozen=True)
class TextTable:
    """A table that is no metric's.

    Attributes:
        title: What it shows.
        explanation: In one line for a stranger.
        columns: Their names.
        rows: The first place of each names it.
        open: Whether it is open at first.
        wide: Whether its texts are long.
    """

    title: str
    explanation: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    open: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Plots:
    """Plots of the same lines.

    Attributes:
        title: Heading.
        explanation: How to read them.
        series: Names of the lines; an empty one only takes a colour.
        plots: Title and `<svg>` of each.
    """

    title: str
    explanation: str
    series: Sequence[str]
    plots: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        title: Heading.
        summary: One or two sentences of result, in plain words.
        facts: What was evaluated: dataset revision, model, commit, ...
        notes: What a reader must know first: a decision, a warning.
        changes: What tells the compared things apart.
        tables: Metrics.
        entries: Clips, in the order shown at first: put the failures first.
        clips_note: What is seen in them.
        plots: Curves.
        judged: The system that clips are listed and sorted by; empty: the first.
        higher_is_better: Those of the clips' scores.
    """

    title: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    changes: Sequence[TextTable] = ()
    tables: Sequence[MetricTable] = ()
    entries: Sequence[GalleryEntry] = ()
    clips_note: str = ""
    plots: Sequence[Plots] = ()
    judged: str = ""
    higher_is_better: Sequence[str] = ()


def level_label(level: int) -> str:
    """A level in words: its rate and how long its windows of five samples are."""
    rate_hz = FRAME_RATE_HZ / 2**level
    return f"Level {level} · {rate_hz:g} Hz · {5 / rate_hz:g} s windows"


def write_gallery(
    out: Path,
    page: Page,
    *,
    videos: Path | None = None,
    embedded: int = VIDEOS,
    panel_px: int = PANEL_PX,
) -> None:
    """Write the page, whole or not at all.

    Args:
        out: HTML file to write; its folder is created.
        page: What it shows.
        videos: Folder to write an MP4 of each clip to, which the page then links to.
        embedded: Without it, how many of the clips are in the page as MP4 too, the first ones.
        panel_px: Side of each face in the videos, even.

    Raises:
        ValueError: If a table's row does not fit its columns, or a clip cannot be drawn.
        ToolError: If ffmpeg fails.
    """
    for table in page.tables:
        _check_table(table)
    systems = list(dict.fromkeys(name for entry in page.entries for name in entry.motions))
    blocks = [payload.block(entry) for entry in page.entries]
    for number, (entry, block) in enumerate(zip(page.entries, blocks, strict=True)):
        if videos is not None:
            path = videos / f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', entry.clip_id)}.mp4"
            write_video(path, entry, panel_px)
            block["video"] = _relative(path, out)
        elif number < embedded:
            block["video"] = _embedded_video(entry, panel_px)
    html = (
        _environment()
        .from_string(_file("gallery.html"))
        .render(
            vars(page)
            | {
                "css": Markup(_file("gallery.css")),
                "script": Markup(_script(with_clips=bool(page.entries))),
                "legend": {part: draw.css(colour) for part, colour in draw.COLOURS.items()},
                "plots": [
                    vars(group) | {"plots": [(name, Markup(svg)) for name, svg in group.plots]}
                    for group in page.plots
                ],
                "page_data": Markup(payload.script_json(_page_data(page, systems))),
                "clips": [Markup(payload.script_json(block)) for block in blocks],
                "footer": _footer(blocks, videos),
            }
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.tmp")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(out)


def write_images(folder: Path, shown: Sequence[Plots]) -> None:
    """Write plots as SVG files, which MLflow and `dvc plots` show; those of before are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    for group in shown:
        for title, svg in group.plots:
            name = f"{group.title} {title.split(' · ')[0]}".lower()
            text = plots.image(svg, f"{group.title}: {title}", group.series)
            write_text(folder / f"{re.sub('[^a-z0-9]+', '_', name)}.svg", text)


def write_video(path: Path, entry: GalleryEntry, panel_px: int) -> None:
    """Write a clip's faces side by side, with sound, as MP4.

    Raises:
        ValueError: If it cannot be drawn.
        ToolError: If ffmpeg fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg.encode(
        draw.panels(entry.motions, panel_px),
        path,
        fps_hz=FRAME_RATE_HZ,
        waveform=entry.waveform[: entry.frames * SAMPLES_PER_FRAME],
        crf=24,
    )


def _page_data(page: Page, systems: Sequence[str]) -> dict[str, Any]:
    scores = dict.fromkeys(name for entry in page.entries for name in entry.scores)
    return {
        "format": payload.FORMAT,
        "frame_rate_hz": FRAME_RATE_HZ,
        "points": ibug.POINTS,
        "quantum": payload.QUANTUM,
        "background": draw.BACKGROUND,
        "lines": draw.lines(),
        "systems": systems,
        "judged": page.judged or next(iter(systems), ""),
        "scores": [
            {"name": name, "better": "higher" if name in page.higher_is_better else "lower"}
            for name in scores
        ],
        "clips": [payload.told(entry) for entry in page.entries],
    }


def _embedded_video(entry: GalleryEntry, panel_px: int) -> str:
    with TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, entry, panel_px)
        return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"


def _relative(path: Path, out: Path) -> str:
    """Address of a file as seen from the page."""
    return quote(os.path.relpath(path.resolve(), out.resolve().parent))


def _footer(blocks: Sequence[Mapping[str, Any]], videos: Path | None) -> str:
    if not blocks:
        return "This page is one file."
    inside = (
        "This page is one file: landmarks, sound and numbers are inside it. GIFs are made here."
    )
    if videos is not None:
        return f"{inside} MP4 files are in the folder beside it."
    with_video = sum("video" in block for block in blocks)
    return (
        f"{inside} The first {with_video} of {len(blocks)} clips are in it as MP4 too; "
        "mssync compare --videos DIR writes those of all."
    )


def _script(*, with_clips: bool) -> str:
    names = (*_SCRIPTS, *(_CLIP_SCRIPTS if with_clips else ()))
    return "\n".join(_file(f"{name}.js") for name in names)


def _file(name: str) -> str:
    return resources.files("mssync.render").joinpath("page", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent, "raw": _raw}
    return environment


def _number(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else plots.number(value)


def _raw(cell: Value | None) -> str:
    """What a cell is sorted by; empty where there is no number."""
    if cell is None or cell.value is None or not math.isfinite(cell.value):
        return ""
    return repr(float(cell.value))


def _percent(value: float | None) -> str:
    """Length of the normalised score's bar."""
    return f"{100 * min(1.0, max(0.0, value or 0.0)):.1f}%"


def _check_table(table: MetricTable) -> None:
    for row in table.rows:
        if len(row.values) != len(table.columns):
            raise ValueError(
                f"{table.title}, {row.label}: {len(table.columns)} columns "
                f"but {len(row.values)} values"
            )
