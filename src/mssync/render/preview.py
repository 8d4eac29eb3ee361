"""What did the stages find in this clip? Its video with the landmarks drawn, and curves under it.

Axes: T ticks (25 Hz), A = 4 T audio rows, P = 68 points, D = 2, H, W pixels, C = 3 (RGB).
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError, InputError
from mssync.ledger import Decision
from mssync.media import decode, ffmpeg
from mssync.media.sound import read_sound
from mssync.records import Row
from mssync.render.curves import FAINT, GAP_PX, KEPT, MARGIN_PX, REJECTED, Curves
from mssync.render.draw import BACKGROUND, TEXT, Colour
from mssync.render.overlay import Picture, Track, draw_points
from mssync.render.text import LINE_PX, text_width, wrapped, write_line
from mssync.timing import FRAME_RATE_HZ, frame_time_s

logger = logging.getLogger(__name__)

_LEAST_HEIGHT_PX, _MOST_HEIGHT_PX = 480, 720  # of the picture within the preview
_LEAST_WIDTH_PX, _MOST_WIDTH_PX = 640, 1280
_COLUMN_GAP_PX = 16
_DECODER_THREADS = 2  # each holds pictures of its own


@dataclass(frozen=True)
class Findings:
    """What is known of a clip.

    Attributes:
        clip_id: Its name.
        landmarks: Columns of `records.LANDMARKS`; None where there are none.
        audio: Columns of `records.AUDIO`; None where there are none.
        decisions: Stage -> its verdict, in the order shown; None: it has not decided. The scores
            `usable_start_frames` and `usable_frames` are marked under the curves.
    """

    clip_id: str
    landmarks: Row | None
    audio: Row | None
    decisions: Mapping[str, Decision | None]


def write_preview(out: Path, media: Path, found: Findings, *, max_pixels: int) -> None:
    """Write the preview as an MP4 (H.264, AAC) that browsers play; never seen half written.

    Args:
        out: File to write; its folder is created.
        media: The clip.
        found: What is drawn.
        max_pixels: Larger pictures are not decoded.

    Raises:
        ClipRejectedError: If the media cannot be decoded.
        InputError: If landmarks or audio are of another length than the media.
        ToolError: If ffmpeg fails.
    """
    clock = decode.read_clock(media)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.absolute().with_name(f".{out.name}.writing")
    try:
        ffmpeg.encode(
            compose(media, found, clock, max_pixels=max_pixels),
            temporary,
            fps_hz=FRAME_RATE_HZ,
            waveform=_sound(media, clock),
            crf=21,
        )
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _sound(media: Path, clock: decode.Clock) -> NDArray[np.float32] | None:
    try:
        return read_sound(media, clock).waveform_N
    except ClipRejectedError as error:
        logger.warning("the preview is silent: %s", error)
        return None


def compose(
    media: Path, found: Findings, clock: decode.Clock, *, max_pixels: int
) -> Iterator[Picture]:
    """The pictures of the preview, one a tick.

    Args:
        media: The clip.
        found: What is drawn.
        clock: Its clock.
        max_pixels: Larger pictures are not decoded.

    Yields:
        RGB, uint8 (H, W, 3), all of one even size.

    Raises:
        ClipRejectedError: If the media cannot be decoded.
        InputError: If landmarks or audio are of another length than the media.
    """
    _check_lengths(found, clock.frames)
    shown = at_ticks(
        decode.frames(
            media,
            clock,
            max_fps_hz=FRAME_RATE_HZ,
            max_side_px=_MOST_WIDTH_PX,
            max_pixels=max_pixels,
            threads=_DECODER_THREADS,
        ),
        clock.frames,
    )
    page: _Page | None = None
    for tick, frame in enumerate(shown):
        page = page or _Page(found, clock.frames, frame.picture_HWC)
        yield page.draw(tick, frame)


def _check_lengths(found: Findings, ticks: int) -> None:
    for row, stage in ((found.landmarks, "landmarks"), (found.audio, "audio")):
        if row and int(row["frames"]) != ticks:
            raise InputError(
                f"{found.clip_id}: its media have {ticks} ticks of 25 Hz, its {stage} "
                f"{int(row['frames'])}: run extract-{stage} again"
            )


def at_ticks(frames: Iterator[decode.Frame], ticks: int) -> Iterator[decode.Frame]:
    """The frame to show at each 25 Hz tick: the one presented then, or a nearer one just after.

    A frame is never shown more than half a tick early, so that a still that is followed by a cut
    stays as long as it should. Where the video breaks off, its last frame stays.

    Args:
        frames: In order of time.
        ticks: Number of ticks.

    Raises:
        ClipRejectedError: If there is no first frame.
    """
    shown = next(frames)
    coming = _next(frames)
    for tick in range(ticks):
        time_s = frame_time_s(tick)
        while coming is not None and _is_due(coming.time_s, shown.time_s, time_s):
            shown, coming = coming, _next(frames)
        yield shown


def _next(frames: Iterator[decode.Frame]) -> decode.Frame | None:
    try:
        return next(frames, None)
    except ClipRejectedError as error:
        logger.warning("the preview's picture stands still from where it breaks off: %s", error)
        return None


def _is_due(coming_s: float, shown_s: float, tick_s: float) -> bool:
    return coming_s - tick_s <= max(1e-6, min(tick_s - shown_s, 0.5 / FRAME_RATE_HZ))


class _Page:
    """All that stays the same is drawn once; each tick adds the rest."""

    def __init__(self, found: Findings, ticks: int, first: Picture) -> None:
        self._ticks = ticks
        self._track = Track.of(found.landmarks, ticks) if found.landmarks else None
        height, width = first.shape[:2]
        self._height, self._width = _shown_size(height, width)
        page_width = max(_LEAST_WIDTH_PX, self._width + self._width % 2)
        head = wrapped(found.clip_id, page_width - 2 * MARGIN_PX, most=2)
        verdicts = _verdicts(found.decisions, page_width - 2 * MARGIN_PX)
        self._curves = Curves(
            self._track,
            found.audio,
            filter(None, found.decisions.values()),
            ticks=ticks,
            width_px=page_width,
        )
        self._top = len(head) * LINE_PX + GAP_PX
        self._status_top = self._top + self._height + GAP_PX
        curves_top = self._status_top + (1 + len(verdicts)) * LINE_PX + GAP_PX
        page_height = curves_top + self._curves.height_px
        self._page = np.full((page_height + page_height % 2, page_width, 3), BACKGROUND, np.uint8)
        for number, line in enumerate(head):
            write_line(self._page, line, MARGIN_PX, number * LINE_PX + 2, TEXT)
        for number, (line, colour) in enumerate(verdicts, start=1):
            write_line(self._page, line, MARGIN_PX, self._status_top + number * LINE_PX, colour)
        self._page[curves_top : curves_top + self._curves.height_px] = self._curves.drawn
        self._curves_top = curves_top

    def draw(self, tick: int, frame: decode.Frame) -> Picture:
        """The page at a tick."""
        page = self._page.copy()
        view = page[self._top : self._top + self._height]
        scale, left, top = _place(view, frame.picture_HWC, self._height, self._width)
        if self._track:
            placed_PD = self._track.points_TPD[tick] * np.float32(scale / frame.scale)
            draw_points(
                view,
                placed_PD + np.array([left, top], np.float32),
                self._track.colour(tick),
                hollow=bool(self._track.lost_T[tick]),
            )
        self._write_status(page, tick)
        self._curves.mark(page[self._curves_top :], tick)
        return page

    def _write_status(self, page: Picture, tick: int) -> None:
        longest = f"tick {self._ticks} / {self._ticks}"
        parts = [
            (f"tick {tick} / {self._ticks}", TEXT, longest),
            (f"{frame_time_s(tick):.2f} s", TEXT, f"{frame_time_s(self._ticks):.2f} s"),
            *(self._track.status(tick) if self._track else [("no landmarks", REJECTED, "")]),
        ]
        left = MARGIN_PX
        for text, colour, widest in parts:
            write_line(page, text, left, self._status_top, colour)
            left += text_width(widest) + _COLUMN_GAP_PX


def _shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a picture is shown; the height is even."""
    scale = min(max(height, _LEAST_HEIGHT_PX), _MOST_HEIGHT_PX) / height
    scale = min(scale, _MOST_WIDTH_PX / width)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale))


def _place(view: Picture, picture: Picture, height: int, width: int) -> tuple[float, int, int]:
    """Put a picture, as large as fits in height and width, into the middle of a view.

    Returns:
        Scale, left and top.
    """
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted = cv2.resize(picture, size, interpolation=smooth) if scale != 1 else picture
    left, top = (view.shape[1] - size[0]) // 2, (view.shape[0] - size[1]) // 2
    view[top : top + size[1], left : left + size[0]] = fitted
    return scale, left, top


def _verdicts(decisions: Mapping[str, Decision | None], width_px: int) -> list[tuple[str, Colour]]:
    """Lines of text with their colours."""
    lines = list[tuple[str, Colour]]()
    for stage, decision in decisions.items():
        if decision is None:
            lines.append((f"{stage}: no verdict yet", FAINT))
        elif decision.kept:
            lines.append((f"{stage}: kept", KEPT))
        else:
            text = f"{stage}: rejected, {decision.reason}: {decision.detail}"
            lines += [(line, REJECTED) for line in wrapped(text, width_px, most=3)]
    return lines
