"""How a run of the engine ended, written into the MLflow runs that it made."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mssync.tracking import store
from mssync.tracking.runs import GIVEN

_PARENT = "mlflow.parentRunId"


def note_ending(
    uri: str,
    experiment: str,
    *,
    kfp_run_id: str,
    tags: Mapping[str, str],
    report: Path,
    failed: bool,
) -> int:
    """Tag every run of the engine's run, and give it the report.

    Those are the runs with the tag `kfp_run_id`, the one in `$MLFLOW_RUN_ID`, and its parent. Where
    there is none and the run failed, one is made, so that a failure is seen where people look.

    Args:
        uri: Tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
        experiment: Where that one is made.
        kfp_run_id: Id of the engine's run.
        tags: To set.
        report: File, kept as the artifact of its name.
        failed: Whether the run failed.

    Returns:
        How many runs were written to.

    Raises:
        ToolError: If the store cannot be used.
    """
    client = store.client(uri)
    with store.explained(uri):
        runs = _given(client) | _made(client, kfp_run_id)
        if not runs and failed:
            runs = {_new(client, experiment, kfp_run_id)}
        for run_id in sorted(runs):
            for name, value in tags.items():
                client.set_tag(run_id, name, value)
            client.log_artifact(run_id, str(report))
    return len(runs)


def _given(client: Any) -> set[str]:  # noqa: ANN401 - mlflow is untyped
    given = os.environ.get(GIVEN, "").strip()
    if not given:
        return set()
    parent = client.get_run(given).data.tags.get(_PARENT)
    return {given, parent} if parent else {given}


def _made(client: Any, kfp_run_id: str) -> set[str]:  # noqa: ANN401 - mlflow is untyped
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"tags.kfp_run_id = '{kfp_run_id}'")
    return {run.info.run_id for run in found}


def _new(client: Any, experiment: str, kfp_run_id: str) -> str:  # noqa: ANN401 - mlflow is untyped
    there = client.get_experiment_by_name(experiment)
    where = there.experiment_id if there else client.create_experiment(experiment)
    run = client.create_run(where, run_name="pipeline", tags={"kfp_run_id": kfp_run_id})
    client.set_terminated(run.info.run_id, "FAILED")
    return str(run.info.run_id)
