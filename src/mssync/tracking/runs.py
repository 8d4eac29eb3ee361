"""Runs of stages. What they log waits in a spool until the store has it (`tracking.spool`).

So a store that does not answer stops no stage. What still waits when a stage has ended is sent by
the next one in the same folder, by `promote --apply`, and by `mssync send-runs`.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mssync.errors import ToolError, TrainingStoppedError
from mssync.tracking import spool as spools
from mssync.tracking.models import RUNS, recall_run
from mssync.tracking.sender import (
    END,
    FILES,
    METRICS,
    MODEL,
    REOPENED,
    RUN,
    TAGS,
    Background,
    Sender,
)
from mssync.tracking.spool import Entry, Spool
from mssync.tracking.store import StoreUnreachableError, address
from mssync.tracking.tracker import flatten

logger = logging.getLogger(__name__)

UNSENT = Path("mlflow.unsent")
GIVEN = "MLFLOW_RUN_ID"


class MlflowTracker:
    """One MLflow run. Nothing here waits for the store, or raises."""

    def __init__(self, spool: Spool, background: Background) -> None:
        self._spool = spool
        self._background = background
        self._lost = 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of one step."""
        found = {name: float(value) for name, value in values.items()}
        self.append({"kind": METRICS, "values": found, "step": step, "at_ms": _now_ms()})

    def log_files(self, path: Path, folder: str) -> None:
        """Keep a file or a folder, as it is now, as artifacts under `folder`."""
        try:
            kept = self._spool.keep(path)
        except OSError as error:
            logger.warning("%s is not tracked: %s", path, error)
            return
        self.append({"kind": FILES, "kept": kept, "folder": folder})

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self.append({"kind": TAGS, "tags": dict(tags)})

    def made(self, sha256: str) -> None:
        """Note that the run made the model of that digest, and that its files were logged.

        `run.json` names the run of a model once the store has both.
        """
        self.append({"kind": MODEL, "sha256": sha256, "runs": str(RUNS.resolve())})

    def append(self, entry: Entry) -> None:
        """Add an entry to the spool, and let it be sent."""
        try:
            self._spool.append(entry)
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                logger.warning("%s cannot be written: not tracked: %s", self._spool.folder, error)
        self._background.notify()

    def end(self, entry: Entry, *, at_most_s: float | None) -> None:
        """Add the last entry, and try once more to send what waits.

        Args:
            entry: How the stage ended.
            at_most_s: How long to wait for it; None: until it has arrived or failed.
        """
        self.append(entry | {"at_ms": _now_ms()})
        stopped = self._background.finish(at_most_s=at_most_s)
        if self._lost:
            logger.warning("%d entries are not tracked: the disk did not take them", self._lost)
        if not stopped or not self._spool.drained:
            logger.warning(
                "the run is not whole in the MLflow store yet: the rest waits in %s; the next "
                "stage in this folder sends it, or `mssync send-runs`",
                self._spool.folder,
            )


@contextmanager
def mlflow_run(
    uri: str,
    experiment: str,
    *,
    name: str,
    key: str,
    tags: Mapping[str, str],
    params: Mapping[str, object],
) -> Iterator[MlflowTracker]:
    """Track a stage in a run of its own; a run of the same key is taken up again.

    Where `$MLFLOW_RUN_ID` is set, the stage logs into that run, whose status stays with whoever
    made it. Names of parameters then begin with the stage's, and how the stage ended is the tag
    `mssync.<name>.status`, so that several stages can share a run.

    Args:
        uri: Tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
        experiment: Name of the experiment; made where it is missing.
        name: Name of the run.
        key: What the run computes: data, parameters, code and seed.
        tags: Lineage.
        params: Parameters of the stage, nested as in the file.

    Raises:
        ToolError: If the store cannot be used, and will not answer later either.
    """
    given = os.environ.get(GIVEN, "").strip()
    prefix = f"{name}." if given else ""
    run = _run(uri, run_id=given) | {
        "experiment": experiment,
        "name": name,
        "key": key,
        "tags": dict(tags) | ({f"mssync.{name}.key": key} if given else {}),
        "params": flatten(params, prefix),
    }

    with _sending(_name(f"{given} {key}"), run) as tracker:
        try:
            yield tracker
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, TrainingStoppedError)
            # whoever kills a process does not wait long
            _finish(tracker, run, "FAILED" if failed else "KILLED", None if failed else 5.0)
            raise
        _finish(tracker, run, "FINISHED", None)


@contextmanager
def of_model(uri: str, sha256: str) -> Iterator[MlflowTracker | None]:
    """Write into the run that made a model, though it has ended; None where that is not known.

    Raises:
        ToolError: If the store cannot be used, and will not answer later either.
    """
    run_id = recall_run(sha256)
    run = _run(uri, run_id=run_id) if run_id else _waiting_with(sha256)
    if run is None:
        yield None
        return
    with _sending(_name(run_id or sha256), run | {"kind": REOPENED}) as tracker:
        try:
            yield tracker
        finally:
            tracker.end({"kind": END, "status": ""}, at_most_s=None)


def send_unsent(workspace: Path = Path()) -> None:
    """Send what the store had not got when a stage ended.

    Args:
        workspace: Folder that the stage ran in.

    Raises:
        ToolError: If some of it still cannot be sent; the rest is.
    """
    failed = dict[str, ToolError]()
    for left in spools.left(workspace / UNSENT):
        uri = str(left.first().get("uri", ""))
        if address(uri) in failed:
            left.close()
            continue
        sender = Sender(left, uri)
        try:
            sender.send()
        except ToolError as error:
            failed[address(uri)] = error
        finally:
            sender.close()
    _tidy(workspace / UNSENT)
    for reason in failed.values():
        raise ToolError(f"{reason}; it waits in {workspace / UNSENT}") from reason


@contextmanager
def _sending(name: str, run: Entry) -> Iterator[MlflowTracker]:
    """A tracker whose spool is sent in the background."""
    root = UNSENT.resolve()
    try:
        sender = Sender(spools.opened(root, name), run["uri"])
    except OSError as error:
        raise ToolError(
            f"{root} cannot be written ({error}): what MLflow gets is kept there until it has it"
        ) from error
    background = None
    try:
        reached = _reached(sender, run)
        background = Background(sender, failed=not reached, then=lambda: _send_others(root.parent))
        tracker = MlflowTracker(sender.spool, background)
        tracker.append(run)
        background.start()
        yield tracker
    finally:
        if background is None or not background.is_alive():
            sender.close()
            _tidy(root)


def _reached(sender: Sender, run: Entry) -> bool:
    """Whether the store answers, and knows the run now."""
    try:
        sender.identify(run)
    except StoreUnreachableError as error:
        logger.warning("%s; the stage goes on, values wait in %s", error, sender.spool.folder)
        return False
    except ToolError as error:
        if run["run_id"]:
            raise ToolError(f"{error} (the run {run['run_id']} is that of ${GIVEN})") from error
        raise
    return True


def _finish(tracker: MlflowTracker, run: Entry, status: str, at_most_s: float | None) -> None:
    """Note how a stage ended: as the status of its own run, as a tag of one that was given."""
    if run["run_id"]:
        tracker.tag({f"mssync.{run['name']}.status": status})
        status = ""
    tracker.end({"kind": END, "status": status}, at_most_s=at_most_s)


def _send_others(workspace: Path) -> None:
    try:
        send_unsent(workspace)
    except ToolError as error:
        logger.warning("of an earlier stage: %s", error)


def _waiting_with(sha256: str) -> Entry | None:
    """The run of a model that the store has not got yet."""
    for path in UNSENT.glob("*"):
        if spools.mentions(path, MODEL, sha256=sha256):
            return spools.first(path)
    return None


def _run(uri: str, *, run_id: str) -> Entry:
    return {"kind": RUN, "uri": address(uri), "run_id": run_id, "at_ms": _now_ms()}


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _tidy(root: Path) -> None:
    """Remove the folder of spools if there is none."""
    with suppress(OSError):
        root.rmdir()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
