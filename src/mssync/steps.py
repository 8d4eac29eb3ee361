"""Around a stage that an engine runs: its folder, what it leaves when it fails, references.

    <workspace>/runs/<run id>/<step>[-<i>-of-<n>]/begun           it began
                                                  done            it ended well
                                                  failure.json    it failed, and this is why

A step that was killed leaves `begun` alone. The id of the run comes from `$KFP_RUN_ID`.
"""

import errno
import json
import logging
import os
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mssync import log, records
from mssync.errors import InputError, MsSyncError
from mssync.tracking import numbers

logger = logging.getLogger(__name__)

RUN_ID = "KFP_RUN_ID"
FAILURE = "failure.json"
BEGUN, DONE = "begun", "done"
KILLED = "killed"
_STOPPED = "asked to stop before it ended"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Artifact(Protocol):
    """What is used of a Kubeflow artifact."""

    path: str
    metadata: dict[str, Any]


class Metrics(Artifact, Protocol):
    """What is used of a Kubeflow metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None:
        """Record a number."""


@dataclass(frozen=True)
class Shard:
    """A part of the list: the `index`-th of `count`, from 0; the whole list is 0 of 1.

    Written `0-of-1`, as in names of folders.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard {self.index} of {self.count}: count from 0")

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `0-of-1`."""
        index, _, count = text.partition("-of-")
        return cls(int(index), int(count))

    def folder(self, workspace: Path) -> Path:
        """The shard's own workspace."""
        return workspace / "shards" / f"of-{self.count}" / str(self.index)


@dataclass(frozen=True)
class Failure:
    """Why a step failed.

    Attributes:
        step: Name of the step.
        shard: Its shard as `0-of-8`; empty for a step of the whole list.
        reason: Short code: that of the error (`errors.py`), or `disk_full`, `permission`, `os`,
            `out_of_memory`, `terminated`, `bug`; `killed` where the step left no report.
        message: The error in words.
        log: The last lines of the log, the traceback of a bug among them.
    """

    step: str
    shard: str
    reason: str
    message: str
    log: list[str]

    def __str__(self) -> str:
        shard = f", shard {self.shard}" if self.shard else ""
        return f"{self.step}{shard}: {self.reason}: {self.message}"


@contextmanager
def step(name: str, workspace: str, *, shard: str = "") -> Iterator[None]:
    """Run a step: within, the working folder is the workspace, or the shard's part of it.

    An error ends the process with its exit code, 1 for most, after the report was written.

    Args:
        name: Name of the step.
        workspace: Folder that all steps of the pipeline share.
        shard: As `0-of-8`; empty: the whole list.

    Raises:
        SystemExit: If the step fails.
    """
    shared = Path(workspace).resolve()
    report = run_folder(shared) / (f"{name}-{shard}" if shard else name)
    folder = Shard.parse(shard).folder(shared) if shard else shared
    came_from = Path.cwd()

    def terminate(number: int, frame: object) -> None:
        # at once: what is under way may take longer to end than the engine waits
        _leave(Failure(name, shard, "terminated", _STOPPED, log.tail()), report)
        raise KeyboardInterrupt(_STOPPED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        _begin(report, folder)
        logger.info("%s begins in %s", report.name, folder)
        yield
        records.write_text(report / DONE, "")
    except BaseException as error:
        failure = _explain(error, name, shard)
        logger.error("%s", failure, exc_info=_unforeseen(error))
        _leave(failure, report)
        raise SystemExit(getattr(error, "exit_code", 1)) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        os.chdir(came_from)


def run_folder(workspace: Path) -> Path:
    """Where the steps of this run leave their reports."""
    return workspace / "runs" / os.environ.get(RUN_ID, "unnamed")


def failures(run: Path) -> list[Failure]:
    """Steps of a run that began and did not end well, by name.

    Args:
        run: As `run_folder` gives it.
    """
    found = []
    for folder in sorted(path.parent for path in run.glob(f"*/{BEGUN}")):
        if (folder / DONE).exists():
            continue
        name, _, shard = folder.name.partition("-")
        try:
            found.append(Failure(**json.loads((folder / FAILURE).read_text())))
        except (OSError, ValueError, TypeError):
            message = "no report: killed (out of memory, evicted, or out of time)"
            found.append(Failure(name, shard, KILLED, message, []))
    return found


def refer(artifact: Artifact, path: Path, **facts: str | float) -> None:
    """Make an artifact stand for what is in the workspace: its path, and what is known of it.

    Args:
        artifact: Output of a step; holds a few lines of JSON, whatever it stands for.
        path: File or folder, relative to the working folder.
        facts: Digests and counts.
    """
    reference = {"path": str(path.resolve()), **facts}
    artifact.metadata.update(reference)
    records.write_text(Path(artifact.path), json.dumps(reference, indent=1) + "\n")


def referred(artifact: Artifact) -> Path:
    """What an artifact stands for.

    Raises:
        InputError: If it is no reference, or what it refers to is gone.
    """
    path = Path(str(artifact.metadata.get("path", "")))
    if not path.is_absolute() or not path.exists():
        raise InputError(
            f"the artifact {artifact.path} refers to {str(path)!r}, which is not in the workspace: "
            "run the step before this one again, on the same workspace"
        )
    return path


def log_metrics(metrics: Metrics, values: Mapping[str, Any]) -> None:
    """Record every finite number of a nested mapping, names joined by dots."""
    for name, value in numbers(values).items():
        metrics.log_metric(name, value)


def _begin(report: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in (DONE, FAILURE):  # by the try before this one
            (report / left).unlink(missing_ok=True)
        records.write_text(report / BEGUN, "")
    except OSError as error:
        if error.errno not in {*_FORBIDDEN, errno.ENOTDIR, errno.EEXIST}:
            raise
        raise InputError(
            f"the workspace {folder} cannot be written by user {os.getuid()} ({error.strerror}): "
            "mount it writable, for this user or its group"
        ) from error
    os.chdir(folder)


def _leave(failure: Failure, report: Path) -> None:
    try:
        records.write_text(report / FAILURE, json.dumps(asdict(failure), indent=1) + "\n")
    except OSError as error:
        logger.error("the failure cannot be reported in %s: %s", report, error)


def _explain(error: BaseException, name: str, shard: str) -> Failure:
    reason, message = _reason(error), str(error) or type(error).__name__
    if reason == "terminated":
        message = _STOPPED
    lines = log.tail()
    if _unforeseen(error):
        lines += map(log.redact, traceback.format_exception(error))
        message = f"{type(error).__name__}: {message}"
    return Failure(name, shard, reason, log.redact(message), lines)


def _unforeseen(error: BaseException) -> bool:
    """Whether it is a bug here: where another process had one, that has shown its traceback."""
    return _reason(error) == "bug" and not isinstance(error, MsSyncError)


def _reason(error: BaseException) -> str:
    if isinstance(error, MsSyncError):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return "terminated"
    # torch's own class of that name is a RuntimeError, and torch is not always loaded
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory"
    if isinstance(error, OSError):
        if error.errno in _DISK_FULL:
            return "disk_full"
        return "permission" if error.errno in _FORBIDDEN else "os"
    return "bug"
