"""Plots as SVG: within a page, whose CSS gives the colours, or as images of their own.

Series are drawn in the classes `s0`, `s1`, ... in the order given; after the seventh they repeat.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40
SERIES = 7


def sync_curves(shifts_s: Sequence[float], series: Mapping[str, Sequence[float]]) -> str:
    """Distance over the shift between motion and sound, one line a system.

    A dot marks the least distance of each line.

    Args:
        shifts_s: Shifts in seconds, ascending; positive: the sound is late.
        series: System -> distance at each shift; nan where there is none.

    Returns:
        An `<svg>` element.

    Raises:
        ValueError: If a series is of another length, or has no finite value.
    """
    lines = {name: np.asarray(values, dtype=np.float64) for name, values in series.items()}
    x_s = np.asarray(shifts_s, dtype=np.float64)
    for name, values in lines.items():
        if values.shape != x_s.shape or not np.isfinite(values).any():
            raise ValueError(f"{name}: expected {len(x_s)} distances, some finite, found {values}")
    if not lines:
        raise ValueError("there is no curve to draw")

    everything = np.concatenate(list(lines.values()))
    low, high = _range(everything)
    x_px = _scale(x_s, float(x_s[0]), float(x_s[-1]), LEFT, WIDTH - RIGHT)
    parts = [_shift_frame(x_s, low, high)]
    # Last first, so that the first series (the ground truth, the system) lies on top.
    for number, values in reversed(list(enumerate(lines.values()))):
        y_px = _scale(values, low, high, HEIGHT - BOTTOM, TOP)
        parts.append(_line(number, x_px, y_px))
    summary = "; ".join(f"{name}: {_least(x_s, values)}" for name, values in lines.items())
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"Distance over shift. {summary}.")}">{"".join(parts)}</svg>'
    )


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x_label: str, unit: str = ""
) -> str:
    """Values over time, steps or the like, as an `<svg>` element.

    Args:
        series: Name -> places, ascending, and value at each; nan where there is none. A name
            without any finite value keeps its colour and has no line.
        x_label: What the places are.
        unit: Of the places, with a leading space.

    Raises:
        ValueError: If places and values differ in number, or no value is finite.
    """
    drawn = {
        name: (np.asarray(x, np.float64), np.asarray(values, np.float64))
        for name, (x, values) in series.items()
    }
    for name, (x, values) in drawn.items():
        if x.shape != values.shape:
            raise ValueError(f"{name}: {len(x)} places but {len(values)} values")
    known = [values[np.isfinite(values)] for _, values in drawn.values()]
    everything = np.concatenate([*known, np.empty(0)])
    if not everything.size:
        raise ValueError("there is no finite value to draw")
    low, high = _range(everything)
    places = np.concatenate([x for x, _ in drawn.values()])
    first, last = float(places.min()), float(places.max())
    parts = [_frame((first, last), low, high, x_label, unit)]
    for place, (x, values) in reversed(list(enumerate(drawn.values()))):
        finite = np.isfinite(values)
        if finite.any():
            x_px = _scale(x, first, last, LEFT, WIDTH - RIGHT)
            y_px = _scale(values, low, high, HEIGHT - BOTTOM, TOP)
            parts.append(_polyline(place, x_px[finite], y_px[finite]))
    named = ", ".join(drawn)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{named} over {x_label}")}">{"".join(parts)}</svg>'
    )


def bars(series: Mapping[str, tuple[float, float, float]], chance: Mapping[str, float]) -> str:
    """Shares with intervals, one bar each, and a mark where chance would be.

    Args:
        series: Name -> value, lower and upper end of its interval, all in [0, 1].
        chance: Name -> value of guessing.

    Returns:
        An `<svg>` element.

    Raises:
        ValueError: If there is no bar.
    """
    if not series:
        raise ValueError("there is no bar to draw")
    floor = HEIGHT - BOTTOM
    parts = [_grid(0.0, 1.0)]
    wide = (WIDTH - RIGHT - LEFT) / len(series)

    def y_px(value: float) -> float:
        return float(_scale(np.array(value), 0.0, 1.0, floor, TOP))

    for place, (name, (value, low, high)) in enumerate(series.items()):
        left, middle = LEFT + (place + 0.2) * wide, LEFT + (place + 0.5) * wide
        parts += [
            f'<rect class="s1" x="{left:.1f}" y="{y_px(value):.1f}" width="{0.6 * wide:.1f}" '
            f'height="{floor - y_px(value):.1f}"/>',
            f'<path class="error" d="M{middle:.1f} {y_px(low):.1f}V{y_px(high):.1f}"/>',
            f'<path class="chance" d="M{left:.1f} {y_px(chance[name]):.1f}h{0.6 * wide:.1f}"/>',
            f'<text x="{middle:.1f}" y="{floor + 15}" text-anchor="middle">{escape(name)}</text>',
        ]
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(", ".join(series))}">{"".join(parts)}</svg>'
    )


_COLOURS = ("#12855a", "#2f5fe0", "#c2410c", "#8a6d00", "#6b7688", "#a21caf", "#0e7490")


def image(svg: str, title: str, series: Sequence[str] = ()) -> str:
    """A plot as a file of its own, with its title, its colours and the names of its lines.

    Args:
        svg: As the other functions of this module return it.
        title: Written above it.
        series: Names of its lines, in their order.
    """
    colours = "".join(
        f"polyline.s{place}{{stroke:{colour}}}.s{place}{{fill:{colour}}}"
        f"polyline.s{place}{{fill:none}}"
        for place, colour in enumerate(_COLOURS)
    )
    style = (
        "text{font:12px sans-serif;fill:#56637a}.title{font-weight:600;fill:#16202e}"
        ".grid{stroke:#dfe4ec;fill:none}.zero{stroke:#56637a;stroke-dasharray:2 3;fill:none}"
        "polyline{fill:none;stroke-width:2}.error{stroke:#16202e;stroke-width:1.5}"
        ".chance{stroke:#a8261d;stroke-width:1.5;stroke-dasharray:3 2}" + colours
    )
    height = HEIGHT + 24 + 16 * len(series)
    inner = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    legend = "".join(
        f'<rect class="s{place % SERIES}" x="{LEFT}" y="{HEIGHT + 28 + 16 * place}" '
        f'width="14" height="4"/>'
        f'<text x="{LEFT + 20}" y="{HEIGHT + 34 + 16 * place}">{escape(name)}</text>'
        for place, name in enumerate(series)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{2 * WIDTH}" height="{2 * height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="title" x="8" y="16">{escape(title)}</text>'
        f'<g transform="translate(0 20)">{inner}</g>{legend}</svg>\n'
    )


def number(value: float) -> str:
    """Three digits, never an exponent below ten thousand: 0.123, 4.56, 78.9, 123."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _scale(
    values: NDArray[np.float64], low: float, high: float, start_px: float, end_px: float
) -> NDArray[np.float64]:
    return start_px + (values - low) / ((high - low) or 1.0) * (end_px - start_px)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """The finite values' range with some room."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


def _grid(low: float, high: float) -> str:
    parts = []
    for value in _ticks(low, high):
        y = float(_scale(np.array(value), low, high, HEIGHT - BOTTOM, TOP))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(value)}</text>'
        )
    return "".join(parts)


def _frame(ends: tuple[float, float], low: float, high: float, x_label: str, unit: str) -> str:
    """Grid, the ends of the axis and its name."""
    parts = [_grid(low, high)]
    for value, x, anchor in ((ends[0], LEFT, "start"), (ends[1], WIDTH - RIGHT, "end")):
        parts.append(f'<path class="grid" d="M{x} {TOP}V{HEIGHT - BOTTOM}"/>')
        y = HEIGHT - BOTTOM + 15
        parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{value:g}{unit}</text>')
    parts.append(_axis_name(x_label))
    return "".join(parts)


def _shift_frame(x_s: NDArray[np.float64], low: float, high: float) -> str:
    """Grid, ticks around 0 and the names of both axes."""
    parts = [_grid(low, high)]
    first, last = float(x_s[0]), float(x_s[-1])
    for value in (first, 0.0, last):
        x = float(_scale(np.array(value), first, last, LEFT, WIDTH - RIGHT))
        style = "zero" if value == 0 else "grid"
        parts.append(f'<path class="{style}" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        anchor = "start" if value == first else "end" if value == last else "middle"
        label = f"{'+' if value > 0 else ''}{value:.2f} s".replace("-", "−")
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{label}</text>'
        )
    parts.append(_axis_name("sound early ← shift → sound late"))
    return "".join(parts)


def _axis_name(text: str) -> str:
    x, y = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4
    return f'<text class="axis" x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _ticks(low: float, high: float) -> NDArray[np.float64]:
    """About three round numbers within [low, high]."""
    rough = (high - low) / 4
    power = float(10.0 ** np.floor(np.log10(rough)))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return np.arange(first, last + 1, dtype=np.float64) * step


def _line(series: int, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> str:
    finite = np.isfinite(y_px)
    # Pixels grow downwards: the least distance is the largest y.
    best = int(np.nanargmax(y_px))
    dot = (
        f'<circle class="s{series % SERIES}" cx="{x_px[best]:.1f}" cy="{y_px[best]:.1f}" r="3.5"/>'
    )
    return _polyline(series, x_px[finite], y_px[finite]) + dot


def _polyline(series: int, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_px, y_px, strict=True))
    return f'<polyline class="s{series % SERIES}" points="{points}"/>'


def _least(x_s: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    best = int(np.nanargmin(values))
    return f"least distance {number(float(values[best]))} at {x_s[best]:+.2f} s"
