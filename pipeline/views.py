"""What people see of runs on a cluster: a table, one run with its steps, where MLflow has it."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from mssync.errors import InputError
from mssync.tracking.store import address
from pipeline.client import Server
from pipeline.jobs import find_experiment
from pipeline.runs import ENDED, clock, lasted, moment, recent, steps

_MLFLOW_WAIT_S = 5.0


def table(server: Server, *, experiment: str, count: int) -> str:
    """The newest runs, for people, a line each.

    Args:
        server: Where.
        experiment: Name of the only one that counts; empty: all.
        count: Runs at most.

    Raises:
        InputError: If there is no such experiment.
    """
    experiment_id = find_experiment(server, experiment) if experiment else ""
    if experiment and not experiment_id:
        raise InputError(f"{server.host} has no experiment {experiment}: `submit` makes it")
    rows = [("STATE", "BEGUN (UTC)", "TOOK", "NAME", "SCHEDULE", "ID")]
    schedules = dict[str, str]()
    for run in recent(server, experiment_id=experiment_id, count=count):
        begun = moment(run.created_at)
        rows.append(
            (
                run.state or "",
                f"{begun:%Y-%m-%d %H:%M}" if begun else "",
                lasted(run),
                run.display_name or "",
                _schedule(server, run.recurring_run_id or "", schedules),
                run.run_id,
            )
        )
    return _aligned(rows) if len(rows) > 1 else f"{server.host} has no runs yet"


def details(run: Any, names: Mapping[str, str]) -> str:  # noqa: ANN401
    """One run with its steps, for people."""
    begun = moment(run.created_at)
    lines = [
        f"{run.display_name}: {run.state}",
        f"began {begun:%Y-%m-%d %H:%M:%S} UTC" if begun else "",
    ]
    rows = [("STATE", "BEGAN", "TOOK", "STEP", "")]
    rows += [
        (step.state, clock(step.began) if step.began else "", step.took, step.name, step.reason)
        for step in steps(run, names)
    ]
    lines[1] += f", {'took' if run.state in ENDED else 'for'} {lasted(run)}"
    if run.error and run.error.message:
        lines.append(f"the server says: {run.error.message}")
    return "\n".join([*lines, _aligned(rows) if len(rows) > 1 else "no step has begun"])


def mlflow_page(run: Any, spec: Mapping[str, Any]) -> str:  # noqa: ANN401
    """Where MLflow shows what the steps of a run logged; empty: the run has no such parameters."""
    inputs = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    given = (run.runtime_config and run.runtime_config.parameters) or {}
    paths = given.get("paths") or inputs.get("paths", {}).get("defaultValue") or {}
    if not {"tracking_uri", "experiment"} <= paths.keys():
        return ""
    uri, experiment = address(paths["tracking_uri"]).rstrip("/"), paths["experiment"]
    if not uri.startswith("http"):
        uri = paths["tracking_uri"]  # a file, which is not of this machine
    tag = f"tags.kfp_run_id = '{run.run_id}'"
    try:
        answer = httpx.get(
            f"{uri}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": experiment},
            timeout=_MLFLOW_WAIT_S,
        )
        number = answer.raise_for_status().json()["experiment"]["experiment_id"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return f"{uri}, experiment {experiment}, runs with {tag}"
    return f"{uri}/#/experiments/{number}?searchFilter={quote(tag)}"


def _schedule(server: Server, recurring_run_id: str, known: dict[str, str]) -> str:
    if recurring_run_id and recurring_run_id not in known:
        try:
            known[recurring_run_id] = server.ask(
                server.client.recurring_runs.recurring_run_service_get_recurring_run,
                what=f"schedule {recurring_run_id}",
                recurring_run_id=recurring_run_id,
            ).display_name
        except InputError:
            known[recurring_run_id] = "(deleted)"
    return known.get(recurring_run_id, "")


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
