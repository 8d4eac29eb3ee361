"""Where runs are tracked: a protocol, nothing, or MLflow. The only file that imports mlflow."""

import json
import logging
import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mssync.errors import ToolError

logger = logging.getLogger(__name__)

RUNS = Path("run.json")
CHAMPION = "champion"
_KEY = "mssync.key"


class Tracker(Protocol):
    """What a training loop needs of a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of one step."""


class NullTracker:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Forget the values."""


class MlflowTracker:
    """One MLflow run."""

    def __init__(self, client: Any, run_id: str) -> None:  # noqa: ANN401 - mlflow is untyped
        self._client = client
        self.run_id = run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of one step."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        try:
            for start in range(0, len(metrics), 1000):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        except _store_errors() as error:
            logger.warning("step %d is not tracked: %s", step, error)

    def log_files(self, path: Path, folder: str) -> None:
        """Keep a file or a folder as artifacts under `folder`."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)


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

    Args:
        uri: Tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
        experiment: Name of the experiment; made where it is missing.
        name: Name of the run.
        key: What the run computes: data, parameters, code and seed.
        tags: Lineage.
        params: Parameters of the stage, nested as in the file.

    Raises:
        ToolError: If the store cannot be used.
    """
    client = _client(uri)
    with _explained(uri):
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        quoted = key.replace("'", "")
        known = client.search_runs([experiment_id], f"tags.`{_KEY}` = '{quoted}'", max_results=1)
        run = (
            known[0]
            if known
            else client.create_run(
                experiment_id, run_name=name, tags={**tags, _KEY: key, "mlflow.runName": name}
            )
        )
        tracker = MlflowTracker(client, run.info.run_id)
        client.update_run(tracker.run_id, status="RUNNING")
        if not known:
            for field, value in flatten(params).items():
                client.log_param(tracker.run_id, field, value)
    try:
        yield tracker
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        client.set_terminated(tracker.run_id, status)
        raise
    client.set_terminated(tracker.run_id, "FINISHED")


@contextmanager
def reopened(uri: str, run_id: str) -> Iterator[MlflowTracker]:
    """Write into a run that has ended.

    Raises:
        ToolError: If the store cannot be used or has no such run.
    """
    client = _client(uri)
    with _explained(uri):
        client.get_run(run_id)
        yield MlflowTracker(client, run_id)


def download(uri: str, run_id: str, artifact: str, folder: Path) -> Path:
    """Fetch a folder of a run's artifacts.

    Args:
        uri: Tracking store; `$MLFLOW_TRACKING_URI` wins where it is set.
        run_id: The run.
        artifact: Name of the folder among its artifacts.
        folder: To put it into.

    Returns:
        Where it is.

    Raises:
        ToolError: If the store cannot be used, has no such run, or the run no such artifact.
    """
    import mlflow

    client = _client(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with _explained(uri):
        client.get_run(run_id)
        found = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=artifact, dst_path=str(folder), tracking_uri=_uri(uri)
        )
    return Path(found)


def check(uri: str) -> None:
    """Ask a tracking store for an experiment.

    Raises:
        ToolError: If it cannot be used.
    """
    client = _client(uri)
    with _explained(uri):
        client.search_experiments(max_results=1)


def remember_run(sha256: str, run_id: str, *, path: Path = RUNS) -> None:
    """Note in a git-ignored file which run made a model.

    Args:
        sha256: The model's digest.
        run_id: The run.
        path: JSON file, by default in the working folder.
    """
    known = _runs(path) | {sha256: run_id}
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def recall_run(sha256: str, *, path: Path = RUNS) -> str | None:
    """The run that made a model; None where it is not known."""
    return _runs(path).get(sha256)


def _runs(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


@dataclass(frozen=True)
class Champion:
    """The model in the registry that the alias `champion` points to.

    Attributes:
        version: Its version.
        sha256: Digest of its weights.
        dataset_revision: What it was trained on.
        folder: Its checkpoint, downloaded.
    """

    version: str
    sha256: str
    dataset_revision: str
    folder: Path


def champion(uri: str, model_name: str) -> Champion | None:
    """The current champion; None where there is none.

    Raises:
        ToolError: If the store cannot be used.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = _client(uri)
    try:
        version = client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise ToolError(f"the model registry at {uri} cannot be used: {error}") from error
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with _explained(uri):
        folder = Path(mlflow.artifacts.download_artifacts(version.source, tracking_uri=_uri(uri)))
    return Champion(
        str(version.version), version.tags["sha256"], version.tags["dataset_revision"], folder
    )


@dataclass(frozen=True)
class Trained:
    """A run or a registered model that a version of the dataset went into.

    Attributes:
        name: Name of the run, or of the model with its version.
        run_id: The run.
        dataset_revision: The version.
    """

    name: str
    run_id: str
    dataset_revision: str


def trained_on(uri: str, revisions: Collection[str]) -> list[Trained]:
    """Runs and registered models of some versions of the dataset, models last.

    Raises:
        ToolError: If the store cannot be used.
    """
    file = _uri(uri).removeprefix("sqlite:///")
    if not revisions or (file != _uri(uri) and not Path(file).exists()):
        return []
    client = _client(uri)
    found = []
    with _explained(uri):
        experiments = [each.experiment_id for each in client.search_experiments()]
        models = [each.name for each in client.search_registered_models()]
        for revision in sorted(revisions):
            wanted = f"tags.dataset_revision = '{revision}'"
            for run in client.search_runs(experiments, wanted):
                found.append(Trained(run.info.run_name, run.info.run_id, revision))
        for model in models:
            for version in client.search_model_versions(f"name = '{model}'"):
                revision = version.tags.get("dataset_revision", "")
                if revision in revisions:
                    found.append(Trained(f"{model} {version.version}", version.run_id, revision))
    return found


def register_champion(
    uri: str, model_name: str, *, run_id: str, artifact: str, tags: Mapping[str, str]
) -> str:
    """Register a run's checkpoint and point the alias `champion` to it.

    A checkpoint of the same `sha256` that is registered already is not registered twice.

    Args:
        uri: Tracking store.
        model_name: Name in the registry; made where it is missing.
        run_id: Run that holds the checkpoint.
        artifact: Its folder among the run's artifacts.
        tags: Tags of the version, `sha256` among them.

    Returns:
        The version.

    Raises:
        ToolError: If the store cannot be used.
    """
    client = _client(uri)
    with _explained(uri):
        if not client.search_registered_models(f"name = '{model_name}'"):
            client.create_registered_model(model_name)
        same = [
            version
            for version in client.search_model_versions(f"name = '{model_name}'")
            if version.tags.get("sha256") == tags["sha256"]
        ]
        version = (
            same[0]
            if same
            else client.create_model_version(
                model_name, f"runs:/{run_id}/{artifact}", run_id, tags=dict(tags)
            )
        )
        client.set_registered_model_alias(model_name, CHAMPION, version.version)
    return str(version.version)


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping as one, names joined by dots."""
    flat = dict[str, object]()
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def numbers(nested: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested mapping, names joined by dots."""
    return {
        name: float(value)
        for name, value in flatten(nested, prefix).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _client(uri: str) -> Any:  # noqa: ANN401 - mlflow is untyped
    import mlflow

    # not mlflow.set_tracking_uri: that is for the whole process, and for what it starts
    with _explained(uri):
        return mlflow.MlflowClient(_uri(uri))


def _uri(configured: str) -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured
    file = uri.removeprefix("sqlite:///")
    # MLflow keeps what it opened by name, and a relative name means another file elsewhere
    return f"sqlite:///{Path(file).resolve()}" if file != uri else uri


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except _store_errors() as error:
        raise ToolError(
            f"the MLflow store {_uri(uri)} (paths.tracking_uri) cannot be used: {error}"
        ) from error


def _store_errors() -> tuple[type[Exception], ...]:
    """What a store that is missing, locked, unreachable or without its driver raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, ImportError, OSError
