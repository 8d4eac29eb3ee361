"""Logging, set up once: by the command line and by the first line of every component."""

import logging
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TAIL = deque[str](maxlen=100)


class _Remember(logging.Handler):
    """Keeps the last lines, for a failure report."""

    def emit(self, record: logging.LogRecord) -> None:
        _TAIL.append(self.format(record))


def set_up(level: str | None = None) -> None:
    """Send the log of this process to standard error, one plain line per record.

    Args:
        level: Name of a logging level; default is `$MSSYNC_LOG`, else `INFO`.
    """
    named = (level or os.environ.get("MSSYNC_LOG", "INFO")).upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        level=known.get(named, logging.INFO),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.StreamHandler(sys.stderr), _Remember()],
        force=True,
    )
    if named not in known:
        logger.warning("MSSYNC_LOG is %r, expected one of %s: INFO it is", named, ", ".join(known))
    for noisy in ("alembic", "mlflow", "httpx", "httpcore", "numba", "absl", "matplotlib", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # MediaPipe runs on a newer protobuf than it was built with.
    warnings.filterwarnings("ignore", message=".*GetPrototype.*")


def tail() -> list[str]:
    """The last lines that this process logged, at most 100."""
    return list(_TAIL)


def progress(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Pass items on, with a bar on a terminal and about ten plain lines elsewhere.

    Args:
        items: What to iterate over.
        total: How many there are.
        what: What they are, plural, for the reader.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(
            items, total=total, description=what, console=Console(stderr=True), transient=True
        )
        return
    every = max(1, total // 10)
    for done, item in enumerate(items, start=1):
        yield item
        if done % every == 0:
            logger.info("%s: %d of %d", what, done, total)
