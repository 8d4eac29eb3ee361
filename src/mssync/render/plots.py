"""Inline SVG for the gallery: sync curves and waveforms. Colours come from the page's CSS.

Series are drawn in the classes `s0`, `s1`, ... in the order given.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40

WAVE_WIDTH, WAVE_HEIGHT = 600, 40


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
    low, high = float(np.nanmin(everything)), float(np.nanmax(everything))
    margin = 0.08 * (high - low) or 0.5
    low, high = low - margin, high + margin
    x_px = _scale(x_s, float(x_s[0]), float(x_s[-1]), LEFT, WIDTH - RIGHT)
    parts = [_frame(x_s, low, high)]
    # Last first, so that the first series (the ground truth, the system) lies on top.
    for number, values in reversed(list(enumerate(lines.values()))):
        y_px = _scale(values, low, high, HEIGHT - BOTTOM, TOP)
        parts.append(_line(number, x_px, y_px))
    summary = "; ".join(f"{name}: {_least(x_s, values)}" for name, values in lines.items())
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"Distance over shift. {summary}.")}">{"".join(parts)}</svg>'
    )


def waveform(samples: NDArray[np.float32]) -> str:
    """The envelope of a sound (N,), drawn across the whole width, as an `<svg>` element.

    Raises:
        ValueError: If there is no sample.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"expected samples (N,), found shape {samples.shape}")
    bins = min(WAVE_WIDTH // 2, len(samples))
    envelope = np.array([np.abs(part).max() for part in np.array_split(samples, bins)])
    reach = envelope / max(float(envelope.max()), 1e-6) * (WAVE_HEIGHT / 2 - 1)
    x = (np.arange(bins) + 0.5) * WAVE_WIDTH / bins
    middle = WAVE_HEIGHT / 2
    strokes = "".join(
        f"M{at:.1f} {middle - up:.1f}V{middle + up:.1f}"
        for at, up in zip(x, np.maximum(reach, 0.5), strict=True)
    )
    return (
        f'<svg viewBox="0 0 {WAVE_WIDTH} {WAVE_HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path d="{strokes}"/></svg>'
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


def _frame(x_s: NDArray[np.float64], low: float, high: float) -> str:
    """Grid, ticks and the names of both axes."""
    parts = []
    for value in _ticks(low, high):
        y = float(_scale(np.array(value), low, high, HEIGHT - BOTTOM, TOP))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(value)}</text>'
        )
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
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">'
        "sound early ← shift → sound late</text>"
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> NDArray[np.float64]:
    """About three round numbers within [low, high]."""
    rough = (high - low) / 4
    power = float(10.0 ** np.floor(np.log10(rough)))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return np.arange(first, last + 1, dtype=np.float64) * step


def _line(series: int, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> str:
    finite = np.isfinite(y_px)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_px[finite], y_px[finite], strict=True))
    # Pixels grow downwards: the least distance is the largest y.
    best = int(np.nanargmax(y_px))
    dot = f'<circle class="s{series}" cx="{x_px[best]:.1f}" cy="{y_px[best]:.1f}" r="3.5"/>'
    return f'<polyline class="s{series}" points="{points}"/>{dot}'


def _least(x_s: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    best = int(np.nanargmin(values))
    return f"least distance {number(float(values[best]))} at {x_s[best]:+.2f} s"
