"""What a check found."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mssync.errors import MsSyncError

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One point that was checked.

    Attributes:
        name: What was looked at.
        status: `problem`: something will fail; `warning`: something may, or is missing that is not
            always needed.
        found: What was found.
        advice: What to do; empty where there is nothing to do.
        took_s: How long the check took.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    took_s: float = 0.0


def ok(name: str, found: str) -> Finding:
    """Nothing is wrong."""
    return Finding(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Finding:
    """Something may go wrong."""
    return Finding(name, "warning", found, advice)


def problem(name: str, found: str, advice: str) -> Finding:
    """Something will go wrong."""
    return Finding(name, "problem", found, advice)


def checked(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds, and how long it took; what it dies of is a problem too.

    Args:
        name: Of the check, should it fail itself.
        check: The check.
    """
    started_s = time.monotonic()
    found = list[Finding]()
    try:
        found.extend(check())
    except (MsSyncError, OSError, ImportError) as error:
        found.append(problem(name, str(error), "do what it says, then ask again"))
    except Exception as error:  # a broken machine breaks in ways that nobody foresaw
        told = f"{type(error).__name__}: {error}"
        found.append(problem(name, told, "install anew: make setup, then ask again"))
    took_s = round(time.monotonic() - started_s, 2)
    yield from (replace(each, took_s=took_s) for each in found)
