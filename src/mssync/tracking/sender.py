"""From a spool to an MLflow store: in order, as often as it takes, each value once.

Sending an entry twice is the same as sending it once: a run is found by its key, a value of the
same name, step and time is one value, files replace files. So an entry counts as arrived only after
the store has said so.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mssync.errors import ToolError
from mssync.tracking import models, store
from mssync.tracking.spool import Entry, Spool, Stored
from mssync.tracking.store import EntryRefusedError

logger = logging.getLogger(__name__)

RUN, REOPENED, METRICS, TAGS = "run", "reopened", "metrics", "tags"
FILES, MODEL, END = "files", "model", "end"
KEY = "mssync.key"
# MLflow's own bounds
_METRICS_PER_REQUEST, _PARAMS_PER_REQUEST = 1000, 100
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Sender:
    """Sends one spool; for one thread at a time.

    Args:
        spool: Where the entries are, the first of which names the run.
        uri: Configured tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
    """

    def __init__(self, spool: Spool, uri: str) -> None:
        self.spool = spool
        self.uri = uri
        self._client: Any = None

    def identify(self, run: Entry) -> None:
        """Find or make the run that an entry names, and note its id in the spool.

        Raises:
            StoreUnreachableError: If the store may answer later.
            ToolError: If the store cannot be used, or has no run of the id that was given.
        """
        client = self._connected()
        with store.explained(self.uri):
            run_id = run["run_id"] or _of_key(client, run)
            stage = client.get_run(run_id).info.lifecycle_stage
        if stage != "active":
            raise ToolError(f"the MLflow run {run_id} is {stage}: restore it, or name another one")
        self.spool.learn(run_id=run_id)

    def send(self) -> None:
        """Send all that waits.

        Raises:
            StoreUnreachableError: If the store may answer later.
            ToolError: If the store cannot be used.
        """
        while waiting := self.spool.waiting():
            for group in _groups(waiting):
                self._deliver([stored.entry for stored in group])
                self.spool.learn(last=group[-1].entry["kind"])
                self.spool.arrived(group[-1].end)
                for stored in group:
                    if stored.entry["kind"] == FILES:
                        self.spool.discard(stored.entry["kept"])

    def close(self) -> None:
        """Give the spool back; it is deleted where all has arrived and the run has ended."""
        self.spool.close(remove=self.spool.empty or self.spool.state.get("last") == END)

    def _connected(self) -> Any:  # noqa: ANN401 - mlflow is untyped
        if self._client is None:
            self._client = store.client(self.uri)
        return self._client

    def _deliver(self, entries: Sequence[Entry]) -> None:
        try:
            with store.explained(self.uri):
                self._send(entries)
        except EntryRefusedError as error:
            if len(entries) > 1:
                for entry in entries:
                    self._deliver([entry])
                return
            logger.warning("not tracked, and put aside beside %s: %s", self.spool.folder, error)
            self.spool.refuse(entries[0], str(error))

    def _send(self, entries: Sequence[Entry]) -> None:
        kind, entry = entries[0]["kind"], entries[0]
        client = self._connected()
        if kind in (RUN, REOPENED) and "run_id" not in self.spool.state:
            self.identify(entry)
        run_id = self.spool.state.get("run_id")
        if run_id is None or kind == "unreadable":
            raise EntryRefusedError(f"a line of {self.spool.folder} cannot be read")
        if kind == RUN:
            self._begin(entry, run_id)
        elif kind == METRICS:
            metrics = _metrics(entries)
            for start in range(0, len(metrics), _METRICS_PER_REQUEST):
                client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])
        elif kind == TAGS:
            client.log_batch(run_id, tags=_tags(entry["tags"]))
        elif kind == FILES:
            kept = self.spool.folder / entry["kept"]
            log = client.log_artifacts if kept.is_dir() else client.log_artifact
            log(run_id, str(kept), entry["folder"])
        elif kind == MODEL:
            models.remember_run(entry["sha256"], run_id, path=Path(entry["runs"]))
        elif kind == END and entry["status"]:
            client.set_terminated(run_id, entry["status"], entry["at_ms"])

    def _begin(self, run: Entry, run_id: str) -> None:
        """Bring a run into the state of one that has begun."""
        client = self._connected()
        if run["run_id"]:
            client.log_batch(run_id, tags=_tags(run["tags"]))
        else:
            client.update_run(run_id, status="RUNNING")
        params = _params(run["params"])
        for start in range(0, len(params), _PARAMS_PER_REQUEST):
            some = params[start : start + _PARAMS_PER_REQUEST]
            _whole_or_singly(lambda given: client.log_batch(run_id, params=given), some)


class Background(threading.Thread):
    """Sends a spool while the process does something else.

    Args:
        sender: Used by this thread alone until `finish` returns.
        failed: Whether the store did not answer just now, which has been said.
        then: Called once all of it has arrived for the first time.
    """

    def __init__(self, sender: Sender, *, failed: bool, then: Callable[[], None]) -> None:
        super().__init__(name="tracking", daemon=True)
        self._sender = sender
        self._then: Callable[[], None] | None = then
        self._appended = threading.Event()
        self._finishing = threading.Event()
        self._failed = failed

    def notify(self) -> None:
        """Say that there is something to send."""
        self._appended.set()

    def finish(self, *, at_most_s: float | None) -> bool:
        """Try once more to send what waits, and stop.

        Args:
            at_most_s: How long to wait for it; None: until it has arrived or failed.

        Returns:
            Whether the thread has stopped.
        """
        self._finishing.set()
        self._appended.set()
        self.join(at_most_s)
        return not self.is_alive()

    def run(self) -> None:
        """Send whenever there is something, and again after a growing pause when that fails."""
        pause_s = _FIRST_PAUSE_S
        while not self._finishing.is_set():
            if self._failed:
                self._finishing.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._appended.wait()
                pause_s = _FIRST_PAUSE_S
            self._appended.clear()
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self._sender.send()
            if self._then is not None:
                then, self._then = self._then, None
                then()
        except ToolError as error:
            if not self._failed:
                logger.warning("%s; the stage goes on, values wait in %s", error, self._folder)
            self._failed = True
        except Exception:
            logger.exception(
                "a bug in tracking; the stage goes on, values wait in %s", self._folder
            )
            self._failed = True
        else:
            if self._failed:
                logger.info("the MLflow store answers again: what waited has arrived")
            self._failed = False

    @property
    def _folder(self) -> Path:
        return self._sender.spool.folder


def _of_key(client: Any, run: Entry) -> str:  # noqa: ANN401 - mlflow is untyped
    """The run of an entry's key; made where there is none."""
    found = client.get_experiment_by_name(run["experiment"])
    experiment = found.experiment_id if found else client.create_experiment(run["experiment"])
    quoted = run["key"].replace("'", "")
    known = client.search_runs([experiment], f"tags.`{KEY}` = '{quoted}'", max_results=1)
    if known:
        return str(known[0].info.run_id)
    tags = {**run["tags"], KEY: run["key"], "mlflow.runName": run["name"]}
    made = client.create_run(experiment, start_time=run["at_ms"], run_name=run["name"], tags=tags)
    return str(made.info.run_id)


def _groups(waiting: Sequence[Stored]) -> Iterator[list[Stored]]:
    """Entries that one request may take: metrics that follow each other, all else by itself."""
    group = list[Stored]()
    for stored in waiting:
        metrics = stored.entry["kind"] == METRICS
        values = sum(len(each.entry["values"]) for each in group)
        if group and (not metrics or values >= _METRICS_PER_REQUEST):
            yield group
            group = []
        if metrics:
            group.append(stored)
        else:
            yield [stored]
    if group:
        yield group


def _whole_or_singly(log: Callable[[Sequence[Any]], None], items: Sequence[Any]) -> None:
    """Log a batch; where it is refused, all of it that is not refused by itself."""
    from mlflow.exceptions import MlflowException

    try:
        log(items)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        if len(items) == 1:
            logger.warning("not tracked: %s", error)
            return
        for item in items:
            _whole_or_singly(log, [item])


def _metrics(entries: Sequence[Entry]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, float(value), entry["at_ms"], entry["step"])
        for entry in entries
        for name, value in entry["values"].items()
    ]


def _params(params: dict[str, object]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in params.items()]


def _tags(tags: dict[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]
