"""What the processes of a training came to, by the reports that they left."""

import shutil
import time
from pathlib import Path
from typing import NoReturn

from mssync import steps
from mssync.errors import InputError, ProcessFailedError, ToolError, TrainingStoppedError
from mssync.steps import Failure

# Reasons that follow from that of another process, the least telling last.
_FOLLOWING = (steps.KILLED, "worker_lost", "terminated")


def clear(report: Path) -> None:
    """Remove what the processes of an earlier try left in a step's folder."""
    for folder in report.glob("rank-*"):
        shutil.rmtree(folder)


def check(report: Path, *, processes: int, patience_s: float) -> None:
    """See to it that all processes ended well.

    Args:
        report: The step's folder of reports.
        processes: How many there were.
        patience_s: How long files of other machines may take to be seen here.

    Raises:
        InputError: If they worked elsewhere.
    """
    until = time.monotonic() + patience_s
    while (ended := len(list(report.glob(f"rank-*/{steps.DONE}")))) != processes:
        if time.monotonic() > until:
            raise InputError(
                f"the processes ended well, but {ended} of {processes} say so in {report}: all "
                "must see the step's workspace under the same path (a claim that is ReadWriteMany)"
            )
        time.sleep(1)


def failure(report: Path) -> Failure | None:
    """The failure that explains the others; None where no process began, or all ended well."""
    found = steps.failures(report)
    return min(found, key=_place, default=None)


def raise_for(found: Failure | None, *, stopped: bool, otherwise: str) -> NoReturn:
    """Fail as a process did.

    Args:
        found: Its failure, as `failure` gives it.
        stopped: Whether the processes were asked to stop.
        otherwise: What to say where no process left one.

    Raises:
        TrainingStoppedError: If it was asked to stop: what is finished is stored.
        ProcessFailedError: With its reason.
        ToolError: If there is no report.
    """
    if stopped and not (found and explains(found)):
        raise TrainingStoppedError("stopped by SIGTERM; run it again to go on from there")
    if not found:
        raise ToolError(otherwise)
    message = f"process {rank(found)}: {found.message}"
    if found.reason == "terminated":
        raise TrainingStoppedError(message)
    raise ProcessFailedError(
        "worker_lost" if found.reason == steps.KILLED else found.reason, message
    )


def rank(found: Failure) -> int:
    """Number of the process that failed."""
    killed = found.reason == steps.KILLED
    return int(found.shard if killed else found.step.rpartition("-")[2])


def explains(found: Failure) -> bool:
    """Whether a failure has a reason of its own, not that of another process."""
    return found.reason not in _FOLLOWING


def _place(found: Failure) -> int:
    return 0 if explains(found) else _FOLLOWING.index(found.reason) + 1
