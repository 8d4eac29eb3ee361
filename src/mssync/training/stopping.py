"""SIGTERM as a request: what is under way is finished or stored before the process ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mssync.errors import TrainingStoppedError


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM raises `TrainingStoppedError`: at once, or as soon as `termination` ends.

    For a whole stage: what it has finished is stored, and it goes on from there. Signals reach the
    main thread only; in another one nothing changes.

    Raises:
        TrainingStoppedError: On SIGTERM.
    """
    with _request(waits=0):
        yield


@contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Within, SIGTERM only sets what the yielded function answers.

    For a training, which stops after a step, and for writing what it came to. One inside another
    answers alike. Signals reach the main thread only; in another one nothing changes.

    Raises:
        TrainingStoppedError: In the end, within `stoppable`, if a request came that nobody has
            acted on.
    """
    with _request(waits=1) as request:
        request.waits += 1
        try:
            yield lambda: request.came
        finally:
            request.waits -= 1
        request.answer()


class _Request:
    """What SIGTERM asks for.

    Attributes:
        came: Whether it did.
        waits: How many of those that it has to wait for are under way.
    """

    def __init__(self, waits: int) -> None:
        self.came = False
        self.waits = waits

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal; a second one must not disturb how the first one ends."""
        if not self.came:
            self.came = True
            self.answer()

    def answer(self) -> None:
        """Stop, if that was asked for and nothing has to be waited for.

        Raises:
            TrainingStoppedError: Then.
        """
        if self.came and not self.waits:
            raise TrainingStoppedError(
                "stopped by SIGTERM while no step was under way; run it again to go on from there"
            )


@contextmanager
def _request(waits: int) -> Iterator[_Request]:
    """The request of the stage; outside of one, or in another thread, one of its own."""
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield _Request(waits)
    elif isinstance(previous, _Request):
        yield previous
    else:
        request = _Request(waits)
        signal.signal(signal.SIGTERM, request)
        try:
            yield request
        finally:
            signal.signal(signal.SIGTERM, previous)
