"""Batches made ahead by threads, the same ones whatever their number."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 2  # batches waiting for each thread


def prefetched(draw: Callable[[int], T], steps: Iterable[int], *, threads: int) -> Iterator[T]:
    """`draw(step)` of every step, in order.

    Args:
        draw: Makes the batch of a step from the number of the step alone, in any thread.
        steps: Their numbers.
        threads: How many make batches ahead; 0: each is made when it is asked for.
    """
    if not threads:
        yield from map(draw, steps)
        return
    remaining = iter(steps)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    try:
        ahead = deque(pool.submit(draw, step) for step in islice(remaining, _AHEAD * threads))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(draw, step) for step in islice(remaining, 1))
    finally:
        pool.shutdown(cancel_futures=True)
