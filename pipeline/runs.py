"""Runs on a cluster: begun, followed step by step, ended."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from mssync.errors import InputError, StageFailedError, ToolError
from pipeline.client import Server, UnreachableError
from pipeline.jobs import Job, Uploaded

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "SKIPPED")
_UNFINISHED = ("PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED")
# What the engine adds to the graph's own steps.
_INNER = re.compile(r"root|executor|.*-driver|(?:exit-handler|condition)-\d+")
_TRY = re.compile(r"\(\d+\)$")
_PATIENCE_S = 600.0


class StillRunningError(ToolError):
    """A run is not over yet."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: ask again later


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
        name: As in the graph's picture.
        state: Kubeflow's word.
        began: When; None: not yet.
        ended: When; None: not yet.
        reason: Why it failed, as far as the server tells; else empty.
    """

    name: str
    state: str
    began: datetime | None
    ended: datetime | None
    reason: str

    @property
    def took(self) -> str:
        """How long it took, or has taken so far."""
        if not self.began:
            return ""
        return duration(((self.ended or datetime.now(UTC)) - self.began).total_seconds())


def start(server: Server, job: Job, uploaded: Uploaded, *, experiment_id: str, name: str) -> str:
    """Begin a run.

    Returns:
        Its id.
    """
    models = server.client.api_models
    body = models.V2beta1Run(
        experiment_id=experiment_id,
        display_name=name,
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=dict(job.arguments)),
        service_account=job.service_account,
    )
    made = server.ask(server.client.runs.run_service_create_run, what=f"run {name}", run=body)
    return str(made.run_id)


def get(server: Server, run_id: str) -> Any:  # noqa: ANN401 - kfp is untyped
    """A run as the server has it.

    Raises:
        InputError: If there is none.
    """
    if not re.fullmatch(r"[\w-]+", run_id):
        raise InputError(f"expected the id of a run, found {run_id!r}: `python -m pipeline status`")
    return server.ask(server.client.runs.run_service_get_run, what=f"run {run_id}", run_id=run_id)


def recent(server: Server, *, experiment_id: str, count: int) -> list[Any]:
    """The newest runs, newest first.

    Args:
        server: Where.
        experiment_id: Of this experiment only; empty: of all.
        count: At most.
    """
    where = {"experiment_id": experiment_id} if experiment_id else {"namespace": server.namespace}
    runs = server.pages(
        server.client.runs.run_service_list_runs,
        "runs",
        what="list of runs",
        sort_by="created_at desc",
        **where,
    )
    return list(islice(runs, count))


def spec_of(server: Server, run: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The graph that a run is of; empty where its version is gone."""
    spec = run.pipeline_spec
    reference = run.pipeline_version_reference
    if not spec and reference:
        try:
            spec = server.ask(
                server.client.pipelines.pipeline_service_get_pipeline_version,
                what=f"version {reference.pipeline_version_id}",
                pipeline_id=reference.pipeline_id,
                pipeline_version_id=reference.pipeline_version_id,
            ).pipeline_spec
        except InputError:
            spec = None
    found: Mapping[str, Any] = spec or {}
    inner: Mapping[str, Any] = found.get("pipeline_spec", found)
    return inner


def labels(spec: Mapping[str, Any]) -> dict[str, str]:
    """Names of the steps for people, by the engine's names."""
    components = [spec.get("root", {}), *spec.get("components", {}).values()]
    return {
        key: task.get("taskInfo", {}).get("name", key)
        for component in components
        for key, task in component.get("dag", {}).get("tasks", {}).items()
        if not _INNER.fullmatch(key)
    }


def steps(run: Any, names: Mapping[str, str]) -> list[Step]:  # noqa: ANN401
    """The steps that a run has come to, in the order of their beginning.

    Args:
        run: As the server has it.
        names: As `labels` gives them.
    """
    tasks = (run.run_details and run.run_details.task_details) or []
    by_id = {key: task for task in tasks for key in (task.task_id, task.pod_name) if key}
    found = []
    for task in tasks:
        name = _bare(task)
        if _INNER.fullmatch(name):
            continue
        ended = moment(task.end_time) if task.state in ENDED else None
        reason = _reason(task, by_id) if task.state == "FAILED" else ""
        began = moment(task.start_time)
        found.append(Step(names.get(name, name), task.state or "", began, ended, reason))
    return sorted(found, key=lambda step: step.began or datetime.max.replace(tzinfo=UTC))


def follow(
    server: Server,
    run_id: str,
    tell: Callable[[str], None],
    *,
    timeout_s: float = 0.0,
    every_s: float = 5.0,
) -> Any:  # noqa: ANN401
    """Wait for a run's end, and tell what becomes of its steps.

    A server that does not answer is asked again for ten minutes.

    Args:
        server: Where it runs.
        run_id: The run.
        tell: Takes a line.
        timeout_s: Longest wait; 0: for ever.
        every_s: How often the server is asked.

    Returns:
        The run as it ended.

    Raises:
        StillRunningError: If it did not end in time.
        UnreachableError: If the server stayed away.
    """
    began = answered = time.monotonic()
    known = dict[str, str]()
    names: dict[str, str] | None = None
    while True:
        try:
            run = get(server, run_id)
            names = labels(spec_of(server, run)) if names is None else names
            answered = time.monotonic()
        except UnreachableError as error:
            if time.monotonic() - answered > _PATIENCE_S:
                raise
            tell(f"{clock(datetime.now(UTC))} waiting: {error}")
        else:
            for line in _news(steps(run, names), known, len(names)):
                tell(line)
            if run.state in ENDED:
                return run
        if timeout_s and time.monotonic() - began > timeout_s:
            raise StillRunningError(f"run {run_id} is not over after {duration(timeout_s)}")
        time.sleep(every_s)


def check(run: Any, found: Iterable[Step]) -> None:  # noqa: ANN401
    """Refuse a run that did not end well.

    Raises:
        StageFailedError: Naming the steps that failed, and why.
    """
    if run.state == SUCCEEDED:
        return
    failed = [f"  {step.name}: {step.reason}" for step in found if step.state == "FAILED"]
    failed += [f"  {step.name}: cancelled" for step in found if step.state == "CANCELED"]
    told = (run.error and run.error.message) or "the server names no step"
    raise StageFailedError(
        "\n".join([f"run {run.run_id} {run.state}:", *(failed or [f"  {told}"])])
    )


def lasted(run: Any) -> str:  # noqa: ANN401
    """How long a run took, or has taken so far."""
    ended = moment(run.finished_at) if run.state in ENDED else None
    began = moment(run.created_at)
    return duration(((ended or datetime.now(UTC)) - began).total_seconds()) if began else ""


def cancel(server: Server, run_id: str) -> str:
    """Ask a run to end.

    Returns:
        What was found, in words.
    """
    run = get(server, run_id)
    if run.state in ENDED:
        return f"run {run_id} was over already: {run.state}"
    names = labels(spec_of(server, run))
    server.ask(server.client.runs.run_service_terminate_run, what=f"run {run_id}", run_id=run_id)
    running = [f"{step.name} ({step.took})" for step in steps(run, names) if not step.ended]
    return f"run {run_id} is asked to end; running were: {', '.join(running) or 'no steps yet'}"


def duration(seconds: float) -> str:
    """A time for people: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _news(found: Iterable[Step], known: dict[str, str], total: int) -> Iterator[str]:
    for step in found:
        before, now = known.get(step.name), step.state
        if now == before or not step.began:
            continue
        known[step.name] = now
        if now in _UNFINISHED:
            if before is None:
                yield f"{clock(step.began)} {step.name}: began"
            continue
        over = sum(state in ENDED for state in known.values())
        of = f" ({over} of {total} steps)" if total else ""
        ended = clock(step.ended or datetime.now(UTC))
        if now == SUCCEEDED:
            yield f"{ended} {step.name}: ended after {step.took}{of}"
        else:
            why = f": {step.reason}" if step.reason else ""
            yield f"{ended} {step.name}: {now} after {step.took}{of}{why}"


def _bare(task: Any) -> str:  # noqa: ANN401
    """A task's name, without the number of the try."""
    return _TRY.sub("", task.display_name or "")


def _reason(task: Any, by_id: Mapping[str, Any]) -> str:  # noqa: ANN401
    """What the server says of a task or of what runs within it, the innermost first."""
    for child in task.child_tasks or []:
        inner = by_id.get(child.task_id or "") or by_id.get(child.pod_name or "")
        if inner is not None and _INNER.fullmatch(_bare(inner)):
            told = _reason(inner, by_id)
            if told:
                return told
    if task.error and task.error.message:
        return " ".join(str(task.error.message).split())
    return "" if _INNER.fullmatch(_bare(task)) else "the server tells no reason"


def moment(value: datetime | None) -> datetime | None:
    """A time; the server writes the beginning of 1970 where there is none yet."""
    return value if value and value.year > 1970 else None


def clock(value: datetime) -> str:
    """A time of the day, in UTC."""
    return f"{value.astimezone(UTC):%H:%M:%S}"
