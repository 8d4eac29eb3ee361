"""Curves over a whole clip, with what a stage marked in it, and a cursor that moves.

Axes: T ticks (25 Hz), A = 4 T audio rows, N values.
"""

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync import records
from mssync.ledger import Decision
from mssync.records import Row
from mssync.render.draw import BACKGROUND, RULE, TEXT, Colour
from mssync.render.overlay import SHIFT, Picture, Track, dimmed, fixed_point
from mssync.render.text import LINE_PX, text_width, write_line
from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

MARGIN_PX, GAP_PX = 10, 8
LABELS_PX = 92  # room for names and values at the left of the curves

SHADED: Colour = (28, 52, 88)
KEPT: Colour = (74, 201, 126)
REJECTED: Colour = (244, 108, 104)
SHOT: Colour = (245, 166, 66)
FAINT: Colour = (128, 140, 156)
CURSOR: Colour = (255, 255, 255)
MOUTH: Colour = (240, 220, 140)
LOUDNESS: Colour = (203, 120, 245)

_CURVE_PX, _STRIP_PX = 64, 12
_LOUDNESS_DB = (-80.0, 0.0)
_LEAST_OPENING = 0.1  # top of the scale of a mouth that stays shut, in inter-ocular distances
_TIME_STEPS_S = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Curves:
    """Mouth opening, loudness, speech and the usable stretch over the whole clip.

    Args:
        track: The landmarks; None where there are none.
        audio: Columns of `records.AUDIO`; None where there are none.
        decisions: Verdicts; the stretch from `usable_start_frames`, `usable_frames` long, of their
            scores is marked where one has them.
        ticks: Length of the clip.
        width_px: Width of the panel.

    Attributes:
        drawn: What stays the same, RGB, uint8 (height_px, width_px, 3).
        height_px: Its height.
    """

    def __init__(
        self,
        track: Track | None,
        audio: Row | None,
        decisions: Iterable[Decision],
        *,
        ticks: int,
        width_px: int,
    ) -> None:
        self._ticks = ticks
        self._left, self._right = LABELS_PX, width_px - MARGIN_PX
        self._track = track
        rows = ticks * ROWS_PER_FRAME
        self._loudness_A = records.shaped(audio["loudness_A"], rows) if audio else None
        self._speech_A = records.shaped(audio["speech_A"], rows) if audio else None
        self._mouth_top = GAP_PX
        self._loudness_top = self._mouth_top + _CURVE_PX + GAP_PX
        self._speech_top = self._loudness_top + _CURVE_PX + GAP_PX
        self._usable_top = self._speech_top + _STRIP_PX + GAP_PX
        usable = next(filter(None, map(_usable, decisions)), None)
        self._axis_top = self._usable_top + (_STRIP_PX + 4 if usable else 0)
        self.height_px = self._axis_top + LINE_PX
        self.drawn = np.full((self.height_px, width_px, 3), BACKGROUND, np.uint8)
        self._draw_grounds()
        self._draw_mouth()
        self._draw_sound()
        if usable:
            self._draw_usable(*usable)
        self._draw_axis()

    def mark(self, panel: Picture, tick: int) -> None:
        """Draw what moves: the cursor and the values under it."""
        x = round(self._x(tick + 0.5))
        panel[self._mouth_top : self._axis_top, x : x + 2] = CURSOR
        rows = slice(tick * ROWS_PER_FRAME, (tick + 1) * ROWS_PER_FRAME)
        if self._track:
            value = f"{self._track.mouth_T[tick]:.2f}"
            write_line(panel, value, MARGIN_PX, self._mouth_top + LINE_PX, self._track.colour(tick))
        if self._loudness_A is not None:
            value = f"{self._loudness_A[rows].mean():.0f} dB"
            write_line(panel, value, MARGIN_PX, self._loudness_top + LINE_PX, TEXT)

    def _x(self, tick: float) -> float:
        """Where a time lies, in ticks from the clip's start."""
        return self._left + (self._right - self._left) * tick / self._ticks

    def _span(self, start: float, end: float) -> slice:
        """The columns of a stretch in ticks, at least one."""
        first = math.floor(self._x(start))
        return slice(first, max(first + 1, math.floor(self._x(end))))

    def _draw_grounds(self) -> None:
        for top, name in ((self._mouth_top, "mouth"), (self._loudness_top, "loudness")):
            self._box(top, _CURVE_PX)[:] = dimmed(RULE)
            if self._track:
                for start, end in _runs(self._track.lost_T):
                    self.drawn[top : top + _CURVE_PX, self._span(start, end)] = SHADED
            write_line(self.drawn, name, MARGIN_PX, top, FAINT)
        if self._track:
            for tick in (np.flatnonzero(np.diff(self._track.shot_T)) + 1).tolist():
                x = round(self._x(tick))
                for top in (self._mouth_top, self._loudness_top):
                    self.drawn[top : top + _CURVE_PX, x : x + 2] = SHOT

    def _box(self, top: int, height: int) -> Picture:
        return self.drawn[top : top + height, self._left : self._right]

    def _draw_mouth(self) -> None:
        if not self._track:
            return self._note(self._mouth_top, "no landmarks")
        mouth_T = self._track.mouth_T
        top = max(_LEAST_OPENING, float(np.nanmax(mouth_T, initial=0.0)) * 1.05)
        self._curve(mouth_T, self._mouth_top, 0.0, top, MOUTH)
        self._level(self._mouth_top, f"{top:.2f}")
        return None

    def _draw_sound(self) -> None:
        write_line(self.drawn, "speech", MARGIN_PX, self._speech_top - 4, FAINT)
        if self._loudness_A is None or self._speech_A is None:
            return self._note(self._loudness_top, "no sound features")
        self._curve(self._loudness_A, self._loudness_top, *_LOUDNESS_DB, LOUDNESS)
        self._level(self._loudness_top, f"{_LOUDNESS_DB[1]:.0f} dB")
        columns = self._right - self._left
        speech = cv2.resize(
            np.nan_to_num(self._speech_A)[None], (columns, 1), interpolation=cv2.INTER_AREA
        )
        share = np.clip(speech, 0, 1)[..., None]
        shades = share * np.array(TEXT) + (1 - share) * np.array(dimmed(RULE))
        self._box(self._speech_top, _STRIP_PX)[:] = shades.astype(np.uint8)
        return None

    def _draw_usable(self, start: float, end: float, colour: Colour) -> None:
        write_line(self.drawn, "usable", MARGIN_PX, self._usable_top - 4, FAINT)
        self._box(self._usable_top, _STRIP_PX)[:] = dimmed(RULE)
        if end > start:
            rows = slice(self._usable_top, self._usable_top + _STRIP_PX)
            self.drawn[rows, self._span(start, end)] = colour

    def _draw_axis(self) -> None:
        length_s = self._ticks / FRAME_RATE_HZ
        room = max(2, (self._right - self._left) // 70)
        step_s = next((step for step in _TIME_STEPS_S if length_s / step <= room), 7200)
        for number in range(math.floor(length_s / step_s) + 1):
            x = round(self._x(number * step_s * FRAME_RATE_HZ))
            self.drawn[self._axis_top - 3 : self._axis_top + 2, x : x + 1] = FAINT
            if x < self._right - 30:
                write_line(self.drawn, f"{number * step_s:g} s", x + 3, self._axis_top - 1, FAINT)

    def _curve(
        self, values_N: NDArray[np.float32], top: int, low: float, high: float, colour: Colour
    ) -> None:
        """A line through values that are evenly spread over the clip, broken where not finite."""
        x_N = self._left + (np.arange(len(values_N)) + 0.5) * (
            (self._right - self._left) / len(values_N)
        )
        share_N = (np.clip(values_N, low, high) - low) / (high - low)
        y_N = top + (_CURVE_PX - 1) * (1 - share_N)
        for start, end in _runs(np.isfinite(values_N)):
            line = fixed_point(np.stack([x_N[start:end], y_N[start:end]], axis=1))
            cv2.polylines(self.drawn, [line], False, colour, 1, cv2.LINE_AA, shift=SHIFT)

    def _level(self, top: int, text: str) -> None:
        """Name the upper edge of a curve's scale."""
        write_line(self.drawn, text, self._right - text_width(text) - 2, top - 3, FAINT)

    def _note(self, top: int, text: str) -> None:
        write_line(self.drawn, text, self._left + 6, top + _CURVE_PX // 2 - 10, FAINT)


def _runs(mask_N: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask_N, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _usable(decision: Decision) -> tuple[float, float, Colour] | None:
    """Start and end of the usable stretch, in ticks, and its colour, where a stage chose one."""
    start = decision.scores.get("usable_start_frames", math.nan)
    frames = decision.scores.get("usable_frames", math.nan)
    if not (math.isfinite(start) and math.isfinite(frames)):
        return None
    return start, start + frames, KEPT if decision.kept else REJECTED
