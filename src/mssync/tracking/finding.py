"""Runs that somebody names, with all that the store knows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.tracking import store

_FEWEST_DIGITS = 6
_HEX = set("0123456789abcdef")
_LISTED = 8


@dataclass(frozen=True)
class TrackedRun:
    """A run of the store.

    Attributes:
        run_id: Its id.
        name: Its name.
        started: When it began, UTC.
        params: Parameters, as text.
        tags: Tags, without those of MLflow itself.
        metrics: Last value of each metric.
    """

    run_id: str
    name: str
    started: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def find_run(uri: str, named: str, *, model_name: str) -> TrackedRun:
    """The run that somebody means.

    Args:
        uri: Tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
        named: A run's id or its first digits, six or more; a run's name, if no other has it; or
            `@ALIAS` or `vNUMBER` of the model in the registry.
        model_name: Name of the model in the registry.

    Raises:
        InputError: If none, or more than one, is meant.
        ToolError: If the store cannot be used.
    """
    client = store.client(uri)
    with store.explained(uri):
        if named.startswith("@") or (named.startswith("v") and named[1:].isdigit()):
            return _told(client.get_run(_of_model(client, model_name, named)))
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=10_000)
    meant = [run for run in runs if run.info.run_name == named]
    if not meant and len(named) >= _FEWEST_DIGITS and set(named) <= _HEX:
        meant = [run for run in runs if run.info.run_id.startswith(named)]
    if len(meant) == 1:
        return _told(meant[0])
    listed = meant or runs
    there = "; ".join(map(_line, listed[:_LISTED])) or "no run"
    more = f"; and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    what = f"{len(meant)} runs have the name" if meant else "no run has the name or id"
    raise InputError(
        f"{what} {named}: give an id ({_FEWEST_DIGITS} digits or more), a name that one run has, "
        f"@champion, or v1. {store.address(uri)} has {there}{more}"
    )


def _of_model(client: Any, model_name: str, named: str) -> str:  # noqa: ANN401 - mlflow is untyped
    """The run of a version in the registry."""
    from mlflow.exceptions import MlflowException

    try:
        if named.startswith("@"):
            version = client.get_model_version_by_alias(model_name, named[1:])
        else:
            version = client.get_model_version(model_name, named[1:])
    except MlflowException as error:
        raise InputError(
            f"the registry has no {named} of the model {model_name}: {error}. mssync promote "
            "--apply makes a version and the alias champion"
        ) from error
    return str(version.run_id)


def metric_history(
    uri: str, run_id: str, names: Sequence[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of a run's metrics, in order; metrics that it has not are left out.

    Raises:
        ToolError: If the store cannot be used.
    """
    client = store.client(uri)
    found = dict[str, tuple[list[float], list[float]]]()
    with store.explained(uri):
        for name in names:
            logged = {each.step: each.value for each in client.get_metric_history(run_id, name)}
            if logged:
                steps = sorted(logged)
                found[name] = ([float(step) for step in steps], [logged[step] for step in steps])
    return found


def fetch_files(uri: str, run_id: str, folder: str, names: Sequence[str], to: Path) -> list[Path]:
    """Fetch some files of a folder of a run's artifacts; those that it has not are left out.

    Raises:
        ToolError: If the store cannot be used.
    """
    import mlflow

    client = store.client(uri)
    with store.explained(uri):
        there = {each.path for each in client.list_artifacts(run_id, folder)}
        fetched = []
        for name in names:
            path = f"{folder}/{name}"
            if path in there:
                fetched.append(
                    Path(
                        mlflow.artifacts.download_artifacts(
                            run_id=run_id,
                            artifact_path=path,
                            dst_path=str(to),
                            tracking_uri=store.address(uri),
                        )
                    )
                )
    return fetched


def _told(run: Any) -> TrackedRun:  # noqa: ANN401 - mlflow is untyped
    return TrackedRun(
        run.info.run_id,
        run.info.run_name,
        _when(run.info.start_time),
        dict(run.data.params),
        store.own_tags(run.data.tags),
        dict(run.data.metrics),
    )


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _line(run: Any) -> str:  # noqa: ANN401 - mlflow is untyped
    return f"{run.info.run_id[:8]} {run.info.run_name} of {_when(run.info.start_time)}"
