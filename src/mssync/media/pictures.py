"""What makes a decoded frame a picture: deinterlaced, upright, of square pixels, not too large."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

_WIDEST_PIXEL = 10.0  # of real formats, anamorphic 2.35:1 DVD comes to 1.8; beyond this: a mistake


class Shown(NamedTuple):
    """A decoded frame.

    Attributes:
        time_s: When it is shown.
        frame: As the decoder hands it out.
        pixel_aspect: Width of its pixels over their height.
        interlaced: Whether it came in two fields.
    """

    time_s: float
    frame: av.VideoFrame
    pixel_aspect: float
    interlaced: bool


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width over height of a stream's pixels; what cannot be is taken for square."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL else 1.0


def progressive(shown: Iterator[Shown]) -> Iterator[Shown]:
    """Deinterlaced, from the first interlaced frame on."""
    deinterlacer: _Deinterlacer | None = None
    for each in shown:
        if deinterlacer and not deinterlacer.fits(each.frame):
            yield from deinterlacer.through(None)
            deinterlacer = None
        if deinterlacer is None and each.interlaced:
            deinterlacer = _Deinterlacer(each.frame)
        if deinterlacer:
            yield from deinterlacer.through(each)
        else:
            yield each
    if deinterlacer:
        yield from deinterlacer.through(None)


class _Deinterlacer:
    """libavfilter's bwdif, one frame out for each one in; those not interlaced pass unchanged."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._kind = _kind(frame)
        self._waiting = deque[Shown]()
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        """Whether the frame is of the size and format that it was made for."""
        return _kind(frame) == self._kind

    def through(self, shown: Shown | None) -> Iterator[Shown]:
        """Hand in a frame, or the end; hand out what is ready."""
        if shown:
            self._waiting.append(shown)
        self._graph.vpush(shown.frame if shown else None)
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield self._waiting.popleft()._replace(frame=frame)


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


class Turn(NamedTuple):
    """How a stored picture is displayed: transposed first, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Turn":
        """That of the display matrix, to the nearest quarter turn.

        The matrix takes rows (x, y, 1) of the stored picture to the displayed one, x to the right
        and y down (libavutil/display.h).
        """
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        (xx, xy, _), (yx, yy, _) = (
            np.frombuffer(bytes(matrix), "=i4").astype(float).reshape(3, 3)[:2]
        )
        if abs(xx) + abs(yy) >= abs(xy) + abs(yx):
            return cls(False, xx < 0, yy < 0)
        return cls(True, yx < 0, xy < 0)

    def applied(self, picture_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as displayed, contiguous."""
        if not any(self):
            return picture_HWC
        turned = picture_HWC.transpose(1, 0, 2) if self.transposed else picture_HWC
        rows = slice(None, None, -1 if self.mirrored_y else 1)
        columns = slice(None, None, -1 if self.mirrored_x else 1)
        return np.ascontiguousarray(turned[rows, columns])


class Converter:
    """Makes pictures of decoded frames; one for all frames of a video keeps its tables."""

    def __init__(self, *, max_side_px: int, threads: int) -> None:
        self._max_side_px = max_side_px
        self._threads = threads
        self._reformatter = VideoReformatter()
        self._full_px: tuple[float, float] | None = None  # of the first frame
        self._turn = Turn()
        self._turned: tuple[int, int, int] | None = None

    def rgb(self, shown: Shown) -> tuple[NDArray[np.uint8], float]:
        """Convert a frame to what is displayed; a later one in the size of the first.

        Returns:
            RGB, contiguous (H, W, 3), and the pixels at full size for one of these.

        Raises:
            av.FFmpegError: If the frame is damaged.
            ValueError: The same.
        """
        if self._full_px is None:
            self._full_px = shown.frame.width * shown.pixel_aspect, shown.frame.height
        full_px = self._full_px
        shrink = min(1.0, self._max_side_px / max(full_px))
        width, height = (max(1, round(side_px * shrink)) for side_px in full_px)
        converted = self._reformatter.reformat(
            shown.frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA,  # no aliases; where nothing is scaled, it is not used
            threads=self._threads,
        )
        picture = np.ascontiguousarray(
            converted.to_ndarray(), np.uint8
        )  # a view, where rows are padded
        return self._turn_of(shown.frame).applied(picture), max(full_px) / max(width, height)

    def _turn_of(self, frame: av.VideoFrame) -> Turn:
        """The frame's turn, read only where it may have changed.

        A frame whose side data were read is freed by the garbage collector alone, which comes
        late: by then gigabytes of large frames have gathered.
        """
        turned = frame.width, frame.height, frame.rotation
        if turned != self._turned:
            self._turned, self._turn = turned, Turn.of(frame)
        return self._turn
