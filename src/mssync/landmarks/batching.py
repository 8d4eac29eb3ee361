"""How do many threads share one network that works best on many items at a time?"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Request(Generic[Item, Result]):
    """What one thread waits for."""

    items: Sequence[Item]
    results: list[Result | None]
    left: int
    thread: int = field(default_factory=threading.get_ident)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Batch(Generic[Item, Result]):
    slots: list[tuple[_Request[Item, Result], int]]
    finish: Callable[[], Sequence[Result]]


class Batcher(Generic[Item, Result]):
    """One thread that serves many: what they ask for at a time goes through in one batch.

    While a batch runs, whatever is asked for gathers for the next one. A full batch is begun while
    the one before it still runs, so that a device need not wait.

    Which items share a batch depends on chance. `begin` must not let that change a result, beyond
    the last bits of a sum whose order follows the batch's size.

    Args:
        begin: Begins the work on at most `max_items` items; what it returns waits for the end and
            gives one result per item, in order. Both run in the serving thread.
        max_items: Largest batch.
        patience_s: How long a batch that is not full, with nothing running, waits for threads that
            were served within the last `recent_s` and may soon ask again. 0: not at all.
        recent_s: See there.
    """

    def __init__(
        self,
        begin: Callable[[list[Item]], Callable[[], Sequence[Result]]],
        *,
        max_items: int,
        patience_s: float = 0.0,
        recent_s: float = 1.0,
    ) -> None:
        self._begin = begin
        self._max_items = max_items
        self._patience_s = patience_s
        self._recent_s = recent_s
        self._queue = deque[tuple[_Request[Item, Result], int]]()
        self._changed = threading.Condition()
        self._served_s = dict[int, float]()  # threads that do not wait now, and since when
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, items: Sequence[Item]) -> list[Result]:
        """Wait for the results of some items, as many as you like.

        Returns:
            One result per item, in order.

        Raises:
            RuntimeError: If the batcher is closed, or is closed meanwhile.
            Exception: What a batch that held one of the items raised.
        """
        if not items:
            return []
        request = _Request[Item, Result](items, [None] * len(items), len(items))
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._served_s.pop(request.thread, None)
            self._queue.extend((request, index) for index in range(len(items)))
            self._changed.notify_all()
        request.done.wait()
        if request.error:
            raise request.error
        return cast(list[Result], request.results)

    def close(self) -> None:
        """End the serving thread; who still waits for a batch not begun gets an error."""
        with self._changed:
            self._closed = True
            waiting = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        self._fail(waiting, RuntimeError("the batcher was closed"))
        self._thread.join()

    def _serve(self) -> None:
        running = deque[_Batch[Item, Result]]()
        while True:
            slots = self._take_full() if running else self._take_any()
            if slots:
                self._start(slots, running)
            elif not running:
                return
            if running and (not slots or len(running) > 1):
                self._end(running.popleft())

    def _start(
        self, slots: list[tuple[_Request[Item, Result], int]], running: deque[_Batch[Item, Result]]
    ) -> None:
        try:
            finish = self._begin([request.items[index] for request, index in slots])
        except BaseException as error:  # it is for those who wait
            self._fail(slots, error)
        else:
            running.append(_Batch(slots, finish))

    def _end(self, batch: _Batch[Item, Result]) -> None:
        try:
            results = batch.finish()
            if len(results) != len(batch.slots):
                raise ValueError(f"{len(results)} results for {len(batch.slots)} items")
        except BaseException as error:
            self._fail(batch.slots, error)
            return
        with self._changed:
            now_s = time.monotonic()
            for (request, index), result in zip(batch.slots, results, strict=True):
                request.results[index] = result
                request.left -= 1
                if not request.left:
                    self._served_s[request.thread] = now_s
                    request.done.set()

    def _fail(self, slots: list[tuple[_Request[Item, Result], int]], error: BaseException) -> None:
        requests = {request for request, _ in slots}
        with self._changed:
            for request in requests:
                request.error = request.error or error
                request.done.set()
            left = [slot for slot in self._queue if slot[0] not in requests]
            self._queue.clear()
            self._queue.extend(left)

    def _take_full(self) -> list[tuple[_Request[Item, Result], int]]:
        """A full batch; empty if there is none yet."""
        with self._changed:
            return self._take() if len(self._queue) >= self._max_items else []

    def _take_any(self) -> list[tuple[_Request[Item, Result], int]]:
        """Wait for a batch; empty if closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            deadline_s = time.monotonic() + self._patience_s
            while (
                len(self._queue) < self._max_items
                and not self._closed
                and (left_s := deadline_s - time.monotonic()) > 0
                and self._more_may_come()
            ):
                self._changed.wait(left_s)
            return self._take()

    def _take(self) -> list[tuple[_Request[Item, Result], int]]:
        return [self._queue.popleft() for _ in range(min(self._max_items, len(self._queue)))]

    def _more_may_come(self) -> bool:
        since_s = time.monotonic() - self._recent_s
        self._served_s = {
            thread: served_s for thread, served_s in self._served_s.items() if served_s > since_s
        }
        return bool(self._served_s)
