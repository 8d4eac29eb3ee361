"""A schedule as it shall be: compared with the server's, and made so.

Kubeflow cannot change a recurring run, only make, delete, switch on and off. A changed one is made
beside the old, switched off; then the old is deleted, then the new switched on. Killed anywhere,
there is one that says what shall be, never are two switched on, and the next call goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from mssync.errors import InputError
from mssync.tracking import flatten
from pipeline import cron, jobs
from pipeline.client import Server, equals
from pipeline.jobs import Job, Order

ENABLED = "enabled"
# One run works in a workspace at a time; and a run of what is there now makes up for all before it.
_CONCURRENCY, _NO_CATCHUP = 1, True


class Schedule(Order):
    """What is to run, and when.

    Attributes:
        name: Of the recurring run, within its experiment.
        cron: As `cron.parse` takes it; Kubeflow's clock is UTC where its owner has not set another.
        enabled: Switched on.
    """

    name: str = Field(min_length=1)
    cron: str
    enabled: bool = True


@dataclass(frozen=True)
class Plan:
    """What is there, and what shall be.

    Attributes:
        before: Fields of the schedule on the server; None: there is none of that name.
        after: Fields as they shall be; None: it shall be gone.
        left_over: Others of that name: what a killed call left, or a person made.
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    left_over: int = 0

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return self.before != self.after or bool(self.left_over)

    def lines(self) -> list[str]:
        """The difference, field by field."""
        if not self.changes:
            return ["as it shall be: nothing to do"]
        before, after = self.before or {}, self.after or {}
        names = list(after) + [name for name in before if name not in after]
        found = list[str]()
        if not before or not after:
            # all of one side, so the sections of the parameters are but counted
            inner = [name for name in names if "." in name]
            names = [name for name in names if "." not in name]
            found += (
                [f"  {'+' if after else '-'} {len(inner)} parameters in sections"] if inner else []
            )
        for name in names:
            if name not in before:
                found.append(f"  + {name}: {_shown(after[name])}")
            elif name not in after:
                found.append(f"  - {name}: {_shown(before[name])}")
            elif before[name] != after[name]:
                found.append(f"  {name}: {_shown(before[name])} -> {_shown(after[name])}")
        if self.left_over:
            found.append(f"  {self.left_over} more of this name: to be deleted")
        if self.before is None:
            return ["not there yet:", *found]
        return ["there, and to be deleted" if self.after is None else "there, but other:", *found]


def read(path: Path | None, options: Mapping[str, Any]) -> Schedule:
    """A schedule from a YAML file, options, or both; options win.

    Args:
        path: The file; None: options only.
        options: Fields; None is left out.

    Raises:
        InputError: If a field is missing, unknown or wrong; the message names all of them.
    """
    content: Any = {}
    if path:
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read as YAML: {error}") from error
        if not isinstance(content, dict):
            raise InputError(
                f"{path} must hold fields (name, cron, sources, ...): docs/pipeline.md"
            )
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Schedule.model_validate(content | given)
    except ValidationError as error:
        wrong = "\n".join(
            f"  {'.'.join(map(str, each['loc']))}: {each['msg']}, found {each['input']!r:.80}"
            if each["type"] != "missing"
            else f"  {each['loc'][0]}: missing (--{each['loc'][0]})"
            for each in error.errors()
        )
        raise InputError(f"{path or 'the options'}: no schedule:\n{wrong}") from error


def plan(server: Server, schedule: Schedule, job: Job) -> Plan:
    """Compare the server's schedule with the one that shall be; changes nothing."""
    found = _find(server, schedule.name, jobs.find_experiment(server, job.experiment))
    after = _wanted(schedule, job)
    if not found:
        return Plan(None, after)
    kept, others = _keep(server, found, after)
    shown = kept or next((each for each in found if _is_on(each)), found[0])
    return Plan(_fields(server, shown), after, len(others) if kept else len(found) - 1)


def apply(server: Server, schedule: Schedule, job: Job) -> str:
    """Make the server's schedule what it shall be.

    Returns:
        Id of the recurring run.
    """
    experiment_id = jobs.experiment_of(server, job.experiment)
    found = _find(server, schedule.name, experiment_id)
    kept, others = _keep(server, found, _wanted(schedule, job))
    if kept is None:
        kept = _create(server, schedule, job, experiment_id)
    for other in others:
        _delete(server, other)
    if _is_on(kept) != schedule.enabled:
        calls = server.client.recurring_runs
        switch = (
            calls.recurring_run_service_enable_recurring_run
            if schedule.enabled
            else calls.recurring_run_service_disable_recurring_run
        )
        server.ask(switch, what=f"schedule {schedule.name}", recurring_run_id=kept.recurring_run_id)
    return str(kept.recurring_run_id)


def plan_removal(server: Server, name: str, experiment: str) -> Plan:
    """What `remove` would delete; changes nothing."""
    found = _find(server, name, jobs.find_experiment(server, experiment))
    if not found:
        return Plan(None, None)
    return Plan(_fields(server, found[0]), None, len(found) - 1)


def remove(server: Server, name: str, experiment: str) -> None:
    """Delete every schedule of a name; its runs stay."""
    for each in _find(server, name, jobs.find_experiment(server, experiment)):
        _delete(server, each)


def _find(server: Server, name: str, experiment_id: str) -> list[Any]:
    if not experiment_id:
        return []
    return list(
        server.pages(
            server.client.recurring_runs.recurring_run_service_list_recurring_runs,
            "recurring_runs",
            what=f"schedule {name}",
            experiment_id=experiment_id,
            filter=equals(display_name=name),
        )
    )


def _keep(
    server: Server, found: list[Any], wanted: Mapping[str, Any]
) -> tuple[Any | None, list[Any]]:
    """The one that is as it shall be but for its switch, if any; and the others."""
    same = [
        each
        for each in found
        if {**_fields(server, each), ENABLED: None} == {**wanted, ENABLED: None}
    ]
    kept = next((each for each in same if _is_on(each)), same[0] if same else None)
    return kept, [each for each in found if each is not kept]


def _wanted(schedule: Schedule, job: Job) -> dict[str, Any]:
    return {
        "cron": cron.parse(schedule.cron).text,
        ENABLED: schedule.enabled,
        "max concurrency": _CONCURRENCY,
        "catch-up": not _NO_CATCHUP,
        "service account": job.service_account,
        "pipeline": f"{job.package.name} {job.package.version}",
        **flatten(job.arguments),
    }


def _fields(server: Server, found: Any) -> dict[str, Any]:  # noqa: ANN401
    trigger = found.trigger and found.trigger.cron_schedule
    parameters = (found.runtime_config and found.runtime_config.parameters) or {}
    return {
        "cron": (trigger and trigger.cron) or "none: another kind of trigger",
        ENABLED: _is_on(found),
        "max concurrency": int(found.max_concurrency or 0),
        "catch-up": not found.no_catchup,
        "service account": found.service_account or "",
        "pipeline": _pipeline(server, found.pipeline_version_reference),
        **flatten(parameters),
    }


def _pipeline(server: Server, reference: Any) -> str:  # noqa: ANN401
    if not reference:
        return "of its own"
    calls = server.client.pipelines
    try:
        pipeline = server.ask(
            calls.pipeline_service_get_pipeline,
            what=f"pipeline {reference.pipeline_id}",
            pipeline_id=reference.pipeline_id,
        )
        version = server.ask(
            calls.pipeline_service_get_pipeline_version,
            what=f"version {reference.pipeline_version_id}",
            pipeline_id=reference.pipeline_id,
            pipeline_version_id=reference.pipeline_version_id,
        )
    except InputError:
        return f"{reference.pipeline_version_id}, which is gone"
    return f"{pipeline.display_name} {version.display_name}"


def _create(server: Server, schedule: Schedule, job: Job, experiment_id: str) -> Any:  # noqa: ANN401
    models = server.client.api_models
    uploaded = jobs.upload(server, job.package)
    body = models.V2beta1RecurringRun(
        experiment_id=experiment_id,
        display_name=schedule.name,
        mode=models.RecurringRunMode.DISABLE,
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=dict(job.arguments)),
        service_account=job.service_account,
        trigger=models.V2beta1Trigger(
            cron_schedule=models.V2beta1CronSchedule(cron=cron.parse(schedule.cron).text)
        ),
        max_concurrency=str(_CONCURRENCY),
        no_catchup=_NO_CATCHUP,
    )
    return server.ask(
        server.client.recurring_runs.recurring_run_service_create_recurring_run,
        what=f"schedule {schedule.name}",
        recurring_run=body,
    )


def _delete(server: Server, found: Any) -> None:  # noqa: ANN401
    server.ask(
        server.client.recurring_runs.recurring_run_service_delete_recurring_run,
        what=f"schedule {found.display_name}",
        recurring_run_id=found.recurring_run_id,
    )


def _is_on(found: Any) -> bool:  # noqa: ANN401
    return bool(found.status == "ENABLED")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
