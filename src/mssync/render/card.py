"""The dataset's card: what is in a version and what was left out, for people and for programs.

`card.md` with pictures beside it, `card.html` with all of it in one file, and `card.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mssync.records import write_text
from mssync.render.plots import number

MARKDOWN, PAGE, NUMBERS = "card.md", "card.html", "card.json"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 340, 170, 8, 24, 18
_BINS = 24
_STYLE = (
    "<style>rect.bar{fill:#2f5fe0}text{font:12px sans-serif;fill:#56637a}"
    "path{stroke:#dfe4ec;fill:none}</style>"
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
)


@dataclass(frozen=True)
class Table:
    """A table of the card; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int]]


@dataclass(frozen=True)
class Distribution:
    """One number of every clip.

    Attributes:
        name: Name of its picture, and its key in `card.json`.
        title: For people, with the unit.
        values: Finite ones count.
    """

    name: str
    title: str
    values: Sequence[float]


@dataclass(frozen=True)
class Card:
    """What a card tells.

    Attributes:
        revision: The version's name.
        summary: One paragraph.
        tables: In the order in which they are shown; on the page two before the pictures.
        distributions: Over the clips that are kept.
        facts: What `card.json` holds besides.
    """

    revision: str
    summary: str
    tables: Sequence[Table]
    distributions: Sequence[Distribution]
    facts: Mapping[str, object]


def write(folder: Path, card: Card) -> None:
    """Write a card; pictures of an older one are removed."""
    drawn = {shown.name: shown for shown in card.distributions if _finite(shown).size}
    for path in folder.glob("*.svg"):
        if path.stem not in drawn:
            path.unlink()
    figures = []
    for name, shown in drawn.items():
        picture = _histogram(shown)
        figures.append({"title": shown.title, "note": _note(shown), "svg": Markup(picture)})
        write_text(folder / f"{name}.svg", picture.replace(">", f">{_STYLE}", 1) + "\n")
    write_text(folder / MARKDOWN, _markdown(card, list(drawn.values())))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("mssync.render").joinpath("card.html").read_text(encoding="utf-8")
    write_text(folder / PAGE, environment.from_string(source).render(card=card, figures=figures))
    numbers = {
        "revision": card.revision,
        **card.facts,
        "distributions": {name: _quantiles(shown) for name, shown in drawn.items()},
    }
    write_text(folder / NUMBERS, json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def _finite(shown: Distribution) -> np.ndarray:
    values = np.asarray(shown.values, np.float64)
    return values[np.isfinite(values)]


def _quantiles(shown: Distribution) -> dict[str, float]:
    values = _finite(shown)
    points = {"min": 0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1}
    found = {name: round(float(np.quantile(values, at)), 4) for name, at in points.items()}
    return {"clips": int(values.size), **found}


def _note(shown: Distribution) -> str:
    found = _quantiles(shown)
    return (
        f"{found['clips']:.0f} clips; median {number(found['median'])}, "
        f"nine in ten within {number(found['p05'])} and {number(found['p95'])}"
    )


def _histogram(shown: Distribution) -> str:
    """Clips over their values, as an `<svg>` element."""
    values = _finite(shown)
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    width = (_WIDTH - 2 * _LEFT) / _BINS
    tall = _HEIGHT - _BOTTOM - _TOP
    floor = _HEIGHT - _BOTTOM
    bars = "".join(
        f'<rect class="bar" x="{_LEFT + width * place + 1:.1f}" '
        f'y="{floor - tall * count / counts.max():.1f}" width="{width - 2:.1f}" '
        f'height="{tall * count / counts.max():.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{number(low)}</text>'
        f'<text x="{_WIDTH - _LEFT}" y="{_HEIGHT - 8}" text-anchor="end">{number(high)}</text>'
        f'<text x="{_LEFT}" y="12">{counts.max()} clips</text>'
    )
    label = escape(f"{shown.title}: {_note(shown)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{label}"><path d="M{_LEFT} {floor}H{_WIDTH - _LEFT}"/>{bars}{ends}</svg>'
    )


def _markdown(card: Card, drawn: Sequence[Distribution]) -> str:
    lines = ["# Dataset card", "", f"Revision `{card.revision}`", "", card.summary]
    for table in card.tables:
        lines += ["", f"## {table.title}", "", *table_lines(table)]
    lines += ["", "## Distributions", "", "Over the clips that are kept.", ""]
    for shown in drawn:
        lines += [f"![{shown.title}]({shown.name}.svg)", "", f"{shown.title}: {_note(shown)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(table: Table) -> list[str]:
    """A table in Markdown, without its title."""
    return [
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows),
    ]


def _cell(value: str | int) -> str:
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
