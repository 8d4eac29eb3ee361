"""Logging, set up once: by the command line and by the first line of every component."""

import logging
import os
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TAIL = deque[str](maxlen=100)
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_NOISY = ("alembic", "mlflow", "httpx", "httpcore", "numba", "absl", "matplotlib", "git")
# When they debug, they log the requests' signatures and tokens, which come from elsewhere.
_WITH_CREDENTIALS = ("botocore", "aiobotocore", "boto3", "s3fs", "fsspec", "gcsfs", "adlfs")
_redact: Callable[[str], str] = str


class _Formatter(logging.Formatter):
    """Writes a record, its traceback included, without what must not be seen."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            line = super().format(record)
        except Exception as error:
            # logging itself would write the arguments to standard error, secrets and all
            line = f"{record.pathname}:{record.lineno}: a line that cannot be logged: {error!r}"
        return redact(line)


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
    handlers = [logging.StreamHandler(sys.stderr), _Remember()]
    for handler in handlers:
        handler.setFormatter(_Formatter(_FORMAT, datefmt="%H:%M:%S"))
    logging.basicConfig(level=known.get(named, logging.INFO), handlers=handlers, force=True)
    if named not in known:
        logger.warning("MSSYNC_LOG is %r, expected one of %s: INFO it is", named, ", ".join(known))
    for noisy in (*_NOISY, *_WITH_CREDENTIALS):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # MediaPipe runs on a newer protobuf than it was built with.
    warnings.filterwarnings("ignore", message=".*GetPrototype.*")


def redact_with(function: Callable[[str], str]) -> None:
    """From now on, let this process log only what a function makes of each line.

    Args:
        function: Takes a line and returns it without what must not be seen. It replaces the one
            before it; `str` lets everything through.
    """
    global _redact
    _redact = function
    sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python does with an error that nobody handles, but redacted."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def redact(text: str) -> str:
    """A text as it may be logged, for reports that do not go through the log."""
    return _redact(text)


def pass_on(line: str) -> None:
    """Show and remember a line that another process of ours logged, as it is.

    Args:
        line: Without its end.
    """
    shown = redact(line)
    sys.stderr.write(f"{shown}\n")
    _TAIL.append(shown)


def tail() -> list[str]:
    """The last lines that this process logged, at most 100."""
    # what was logged before the secrets were known is in them, too
    return [redact(line) for line in _TAIL]


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
