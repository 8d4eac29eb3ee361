"""The page where people look at the result: one HTML file with its videos inside.

It needs no network and no other file: it can be mailed, archived or opened from a disk.

Axes: T frames, P = 68 points, D = 2.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from mssync.media import ffmpeg
from mssync.render import draw, plots
from mssync.timing import FRAME_RATE_HZ, SAMPLES_PER_FRAME

PANEL_PX = 320


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
class SyncPlot:
    """Distance over shift of several systems at one level.

    Attributes:
        title: Level and points.
        shifts_s: Shifts in seconds; positive: the sound is late.
        series: System -> distance at each shift; the same systems in every plot of a page.
    """

    title: str
    shifts_s: Sequence[float]
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class GalleryEntry:
    """One clip.

    Attributes:
        clip_id: Its name.
        speaker: Who speaks.
        motions: Panel label -> motion (T, 68, 2), left to right, all of one length.
        waveform: Sound, float32 at 16 kHz; cut to the length of the motion.
        scores: Score -> panel label -> value; None or nan is printed as n/a.
        warnings: What is wrong with the generated motion, one short phrase each.
    """

    clip_id: str
    speaker: str
    motions: Mapping[str, NDArray[np.float32]]
    waveform: NDArray[np.float32]
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def level_label(level: int) -> str:
    """A level in words: its rate and how long its windows of five samples are."""
    rate_hz = FRAME_RATE_HZ / 2**level
    return f"Level {level} · {rate_hz:g} Hz · {5 / rate_hz:g} s windows"


def write_gallery(
    out: Path,
    entries: Sequence[GalleryEntry],
    *,
    title: str,
    summary: str,
    tables: Sequence[MetricTable],
    facts: Mapping[str, str],
    sync_plots: Sequence[SyncPlot] = (),
    panel_px: int = PANEL_PX,
) -> None:
    """Write the page, whole or not at all.

    Args:
        out: HTML file to write; its folder is created.
        entries: Clips, in the order shown (put the failures first).
        title: Heading.
        summary: One or two sentences of result, in plain words.
        tables: Metrics.
        facts: What was evaluated: dataset revision, model, commit, ...
        sync_plots: Sync curves.
        panel_px: Side of each face in the videos, even.

    Raises:
        ValueError: If a table's row does not fit its columns, or a clip cannot be drawn.
        ToolError: If ffmpeg fails.
    """
    for table in tables:
        _check_table(table)
    page = _environment().from_string(
        resources.files("mssync.render").joinpath("gallery.html").read_text(encoding="utf-8")
    )
    html = page.render(
        title=title,
        summary=summary,
        facts=facts,
        tables=tables,
        plots=[
            (plot.title, Markup(plots.sync_curves(plot.shifts_s, plot.series)))
            for plot in sync_plots
        ],
        series=list(sync_plots[0].series) if sync_plots else [],
        clips=[_clip(entry, panel_px) for entry in entries],
        legend={part: "rgb({} {} {})".format(*colour) for part, colour in draw.COLOURS.items()},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.tmp")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(out)


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["percent"] = _percent
    return environment


def _number(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else plots.number(value)


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


def _clip(entry: GalleryEntry, panel_px: int) -> dict[str, object]:
    """What the page shows of one clip."""
    frames = len(next(iter(entry.motions.values()), ()))
    sound = entry.waveform[: frames * SAMPLES_PER_FRAME]
    with TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        ffmpeg.encode(
            draw.panels(entry.motions, panel_px), video, fps_hz=FRAME_RATE_HZ, waveform=sound
        )
        content = base64.b64encode(video.read_bytes()).decode()
    return {
        "id": entry.clip_id,
        "speaker": entry.speaker,
        "panels": list(entry.motions),
        "video": f"data:video/mp4;base64,{content}",
        "wave": Markup(plots.waveform(sound)),
        "duration_s": frames / FRAME_RATE_HZ,
        "scores": entry.scores,
        "warnings": entry.warnings,
    }
