"""Processes that share work: one thread of linear algebra each, and none outlives this process."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from mssync.errors import WorkerLostError

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2  # tasks a worker has waiting
_PR_SET_PDEATHSIG = 1


@contextmanager
def pool(
    workers: int, *, prepare: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Processes for work that shares the cores; rounding would depend on threads.

    Args:
        workers: How many.
        prepare: A module's function that each calls as it starts.

    Raises:
        WorkerLostError: If one of them dies.
    """
    processes = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(os.getpid(), prepare),
    )
    try:
        with processes:
            yield processes
    except BrokenProcessPool as error:
        raise WorkerLostError(
            f"expected {workers} worker processes to finish their work, found one dead: killed, "
            "most often because memory ran out, or crashed. Lower run.workers or give the machine "
            "more memory, and run it again"
        ) from error


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int
) -> Iterator[Result]:
    """What a function makes of each task, in the order of the tasks, with few of them ahead.

    Args:
        function: Something that pickles; it runs on one thread.
        tasks: What it is called with.
        workers: Processes; 1: this one.

    Raises:
        WorkerLostError: If a process dies.
    """
    if workers == 1:
        for task in tasks:
            with threadpool_limits(1):
                result = function(task)
            yield result
        return
    waiting = deque[Future[Result]]()
    with pool(workers) as processes:
        try:
            for task in tasks:
                waiting.append(processes.submit(function, task))
                if len(waiting) == _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def die_with(parent: int) -> None:
    """Have this process killed when the one that started it ends, however it does; on Linux only.

    To Linux that is when the thread ends which started it.

    Args:
        parent: Number of the process that started it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os.kill(os.getpid(), signal.SIGKILL)


def _start(parent: int, prepare: Callable[[], None] | None) -> None:
    import numpy as np  # noqa: F401 - threads are limited of what is loaded

    die_with(parent)
    threadpool_limits(1)
    if prepare:
        prepare()
