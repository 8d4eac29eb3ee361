"""The model registry, and what was trained on which version of the dataset."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mssync.errors import ToolError
from mssync.tracking import store

CHAMPION = "champion"
MODEL_CARD = "model_card.md"
MODEL_TAG = "generator_sha256"
# what a database may bound a description to
_DESCRIPTION_CHARACTERS = 5000


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


def champion(uri: str, model_name: str, *, alias: str = CHAMPION) -> Champion | None:
    """The current champion, or what another alias points to; None where there is none.

    Raises:
        ToolError: If the store cannot be used.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = store.client(uri)
    try:
        version = client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise ToolError(f"the model registry at {uri} cannot be used: {error}") from error
    with store.explained(uri):
        downloaded = mlflow.artifacts.download_artifacts(
            version.source, tracking_uri=store.address(uri)
        )
    return Champion(
        str(version.version),
        version.tags["sha256"],
        version.tags["dataset_revision"],
        Path(downloaded),
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
    address = store.address(uri)
    file = address.removeprefix("sqlite:///")
    if not revisions or (file != address and not Path(file).exists()):
        return []
    client = store.client(uri)
    found = []
    with store.explained(uri):
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
    uri: str, model_name: str, *, run_id: str, artifact: str, tags: Mapping[str, str], card: str
) -> str:
    """Register a run's checkpoint with its card and point the alias `champion` to it.

    A checkpoint of the same `sha256` that is registered already is not registered twice; its card
    is written anew. The card is the version's description and the run's artifact `model_card.md`.

    Args:
        uri: Tracking store.
        model_name: Name in the registry; made where it is missing.
        run_id: Run that holds the checkpoint.
        artifact: Its folder among the run's artifacts.
        tags: Tags of the version, `sha256` among them.
        card: Markdown.

    Returns:
        The version.

    Raises:
        ToolError: If the store cannot be used, or the run holds another checkpoint by now.
    """
    client = store.client(uri)
    with store.explained(uri):
        holds = client.get_run(run_id).data.tags.get(MODEL_TAG)
        if holds != tags["sha256"]:
            raise ToolError(
                f"the MLflow run {run_id} holds the model {holds}, not {tags['sha256']}: another "
                "training logged into it since; give each training a run of its own and train again"
            )
        client.log_text(run_id, card, MODEL_CARD)
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
        client.update_model_version(model_name, version.version, description=_shortened(card))
        client.set_registered_model_alias(model_name, CHAMPION, version.version)
    return str(version.version)


def lineage_of(uri: str, run_id: str) -> dict[str, str]:
    """The tags of a run, without those of MLflow itself.

    Raises:
        ToolError: If the store cannot be used, or has no such run.
    """
    client = store.client(uri)
    with store.explained(uri):
        tags = client.get_run(run_id).data.tags
    return {name: value for name, value in tags.items() if not name.startswith("mlflow.")}


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

    client = store.client(uri)
    with store.explained(uri):
        client.get_run(run_id)
        found = mlflow.artifacts.download_artifacts(
            run_id=run_id,
            artifact_path=artifact,
            dst_path=str(folder),
            tracking_uri=store.address(uri),
        )
    return Path(found)


def check(uri: str) -> None:
    """Ask a tracking store for an experiment.

    Raises:
        ToolError: If it cannot be used.
    """
    client = store.client(uri)
    with store.explained(uri):
        client.search_experiments(max_results=1)


def _shortened(card: str) -> str:
    """As many of a card's sections as a description holds."""
    if len(card) <= _DESCRIPTION_CHARACTERS:
        return card
    rest = f"\n\n*The rest is in the run's artifact `{MODEL_CARD}`.*\n"
    return card[: card.rindex("\n## ", 0, _DESCRIPTION_CHARACTERS - len(rest))].rstrip() + rest
