"""How do frames that a sandbox's child decodes come to this process?

By windows: while one is looked at, the child decodes the next. Pixels go through memory that both
map: five times as fast as the pipe at 1280 x 720.
"""

import mmap
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError
from mssync.media import decode
from mssync.media.decode import Clock, Frame
from mssync.media.sandbox import Sandbox

# A window ends where it reaches this, whatever the number of frames: three of them exist at a
# time, and large pictures are many bytes.
_WINDOW_BYTES = 48_000_000


@dataclass(frozen=True)
class _Options:
    max_fps_hz: float
    max_side_px: int
    max_pixels: int
    window: int
    window_bytes: int


@dataclass(frozen=True)
class _Shown:
    """A frame but its pixels."""

    time_s: float
    shape: tuple[int, ...]
    scale: float
    interlaced: bool

    @property
    def size(self) -> int:
        """Bytes of its pixels."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class _Window:
    """Frames of which the child holds the pixels, one after the other, in one file in memory."""

    shown: list[_Shown]
    process: int
    descriptor: int


def remote_frames(
    sandbox: Sandbox,
    path: Path,
    clock: Clock,
    *,
    max_fps_hz: float,
    max_side_px: int,
    max_pixels: int,
    wall_s: float,
    window: int = 32,
) -> Generator[Frame]:
    """Decode a video in a sandbox's child, one window ahead.

    Until all frames are taken, or the iterator is closed, nobody else may use the sandbox.

    Args:
        sandbox: Whose child decodes, with one thread.
        path: The media.
        clock: Its clock.
        max_fps_hz: See `decode.frames`.
        max_side_px: See `decode.frames`.
        max_pixels: See `decode.frames`.
        wall_s: Longest time that decoding all frames may take, and most CPU time; the time in which
            nobody asks for frames does not count.
        window: Frames that come at a time; fewer where they are large.

    Raises:
        ClipRejectedError: As `decode.frames`, or as `Sandbox.call` if the child died or hit a
            limit.
    """
    options = _Options(max_fps_hz, max_side_px, max_pixels, window, _WINDOW_BYTES)
    remote = _Remote(sandbox, wall_s)
    # The thread first ends the call under way, then the child lets the file go.
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as ahead:
        coming: Future[list[Frame]] = ahead.submit(remote.begin, path, clock, options)
        try:
            while frames := coming.result():
                coming = ahead.submit(remote.next)
                yield from frames
        finally:
            coming.cancel()
            ahead.submit(remote.end)


class _Remote:
    """The parent's end of one reading; one thread at a time."""

    def __init__(self, sandbox: Sandbox, wall_s: float) -> None:
        self._sandbox = sandbox
        self._wall_s = wall_s
        self._left_s = wall_s
        self._name = token_hex(8)
        self._over = False

    def begin(self, path: Path, clock: Clock, options: _Options) -> list[Frame]:
        return self._received(_begin, self._name, path, clock, options)

    def next(self) -> list[Frame]:
        return [] if self._over else self._received(_next, self._name)

    def end(self) -> None:
        """Let the child close the file, if it still has it open."""
        if not self._over:
            with suppress(Exception):  # whatever there was to say has been said
                self._sandbox.call(_end, wall_s=5.0)

    def _received(self, function: Callable[..., _Window], *args: object) -> list[Frame]:
        started_s = time.monotonic()
        try:
            window = self._sandbox.call(function, *args, wall_s=self._left_s)
        except BaseException as error:
            self._over = True
            if isinstance(error, ClipRejectedError) and self._spend(started_s) <= 0:
                raise ClipRejectedError(
                    "too_costly", f"reading it takes more than {self._wall_s:g} s"
                ) from error
            raise
        self._spend(started_s)
        self._over = not window.shown
        return _mapped(window)

    def _spend(self, started_s: float) -> float:
        self._left_s = max(0.0, self._left_s - (time.monotonic() - started_s))
        return self._left_s


def _mapped(window: _Window) -> list[Frame]:
    """The frames; their pixels stay mapped as long as one of them is in use."""
    if not window.shown:
        return []
    try:
        descriptor = os.open(f"/proc/{window.process}/fd/{window.descriptor}", os.O_RDWR)
    except OSError as error:
        raise ClipRejectedError(
            "too_costly", "the process that read it was killed, most likely for want of memory"
        ) from error
    try:
        pixels: NDArray[np.uint8] = np.frombuffer(
            mmap.mmap(descriptor, sum(shown.size for shown in window.shown)), np.uint8
        )
    finally:
        os.close(descriptor)
    frames, start = [], 0
    for shown in window.shown:
        picture = pixels[start : start + shown.size].reshape(shown.shape)
        frames.append(Frame(shown.time_s, picture, shown.scale, shown.interlaced))
        start += shown.size
    return frames


@dataclass
class _Reading:
    """What the child reads.

    Attributes:
        descriptor: Of the file in memory that holds the last window.
    """

    name: str
    frames: Iterator[Frame]
    options: _Options
    descriptor: int = -1

    def let_go(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


_reading: _Reading | None = None  # in the child, which reads one file at a time


def _begin(name: str, path: Path, clock: Clock, options: _Options) -> _Window:
    global _reading
    _end()
    frames = decode.frames(
        path,
        clock,
        max_fps_hz=options.max_fps_hz,
        max_side_px=options.max_side_px,
        max_pixels=options.max_pixels,
        threads=1,
    )
    _reading = _Reading(name, frames, options)
    return _next(name)


def _next(name: str) -> _Window:
    reading = _reading
    if reading is None or reading.name != name:
        # The child that read it was killed between two calls, and this is a new one.
        raise ClipRejectedError(
            "too_costly", "the process that read it was killed, most likely for want of memory"
        )
    reading.let_go()
    most, most_bytes = reading.options.window, reading.options.window_bytes
    shown = list[_Shown]()
    try:
        reading.descriptor = os.memfd_create("frames")
        with os.fdopen(reading.descriptor, "wb", closefd=False) as file:
            for frame in reading.frames:
                picture = frame.picture_HWC
                file.write(picture.data)
                shown.append(_Shown(frame.time_s, picture.shape, frame.scale, frame.interlaced))
                if len(shown) == most or len(shown) * picture.size >= most_bytes:
                    break
    except BaseException:
        _end()
        raise
    if not shown:
        _end()
    return _Window(shown, os.getpid(), reading.descriptor)


def _end() -> None:
    global _reading
    if _reading:
        _reading.let_go()
        _reading = None
