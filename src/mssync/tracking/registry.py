"""The model registry, and what was trained on which version of the dataset."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssync.errors import InputError, ToolError
from mssync.tracking import store

CHAMPION = "champion"
MODEL_CARD = "model_card.md"
MODEL_TAG = "generator_sha256"
RECIPE = "recipe"
_PREVIOUS = "previous_champion"
_ROLLED_BACK = "rolled_back"
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

    client = store.client(uri)
    with store.explained(uri):
        version = _reigning(client, model_name, alias)
        if version is None:
            return None
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
    and tags are written anew. The tag `previous_champion` of the version names the one that it
    replaces. The card is the version's description and the run's artifact `model_card.md`.

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
        InputError: If the checkpoint was champion and was rolled back.
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
        if not client.search_registered_models(f"name = '{model_name}'"):
            client.create_registered_model(model_name)
        same = [
            version
            for version in client.search_model_versions(f"name = '{model_name}'")
            if version.tags.get("sha256") == tags["sha256"]
        ]
        if same and _ROLLED_BACK in same[0].tags:
            raise InputError(
                f"version {same[0].version} of {model_name} was rolled back "
                f"({same[0].tags[_ROLLED_BACK]}): train another one, or put it back by "
                f"mssync rollback --to {same[0].version}"
            )
        client.log_text(run_id, card, MODEL_CARD)
        version = (
            same[0]
            if same
            else client.create_model_version(
                model_name, f"runs:/{run_id}/{artifact}", run_id, tags=dict(tags)
            )
        )
        client.update_model_version(model_name, version.version, description=_shortened(card))
        reigning = _reigning(client, model_name)
        replaced = reigning and str(reigning.version) != str(version.version)
        for name, value in {**tags, **({_PREVIOUS: reigning.version} if replaced else {})}.items():
            client.set_model_version_tag(model_name, version.version, name, str(value))
        client.set_registered_model_alias(model_name, CHAMPION, version.version)
    return str(version.version)


def roll_back(uri: str, model_name: str, *, to: str, reason: str) -> tuple[str, str]:
    """Point the alias `champion` to an earlier version.

    The version that is left carries the tag `rolled_back`, and is not promoted again; the one that
    reigns from now on loses it.

    Args:
        uri: Tracking store.
        model_name: Name in the registry.
        to: Version; empty: the one that the champion replaced.
        reason: Why, for the tag.

    Returns:
        The version that reigned, and the one that does now.

    Raises:
        InputError: If there is no champion, or none before it.
        ToolError: If the store cannot be used, or has no such version.
    """
    client = store.client(uri)
    with store.explained(uri):
        reigning = _reigning(client, model_name)
        if reigning is None:
            raise InputError(f"{model_name} has no champion to roll back (paths.model_name)")
        left, target = str(reigning.version), to or reigning.tags.get(_PREVIOUS, "")
        if not target:
            raise InputError(
                f"version {left} of {model_name} replaced none: name a version with --to"
            )
        client.get_model_version(model_name, target)
        client.set_registered_model_alias(model_name, CHAMPION, target)
        if target != left:
            client.set_model_version_tag(model_name, left, _ROLLED_BACK, reason)
        if _ROLLED_BACK in client.get_model_version(model_name, target).tags:
            client.delete_model_version_tag(model_name, target, _ROLLED_BACK)
    return left, target


def _reigning(
    client: Any,  # noqa: ANN401 - mlflow is untyped
    model_name: str,
    alias: str = CHAMPION,
) -> Any:  # noqa: ANN401
    """The version that an alias points to; None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def lineage_of(uri: str, run_id: str) -> dict[str, str]:
    """The tags of a run, without those of MLflow itself.

    Raises:
        ToolError: If the store cannot be used, or has no such run.
    """
    client = store.client(uri)
    with store.explained(uri):
        return store.own_tags(client.get_run(run_id).data.tags)


def has_artifact(uri: str, run_id: str, artifact: str) -> bool:
    """Whether a run has a file or a folder of that name.

    Raises:
        ToolError: If the store cannot be used, or has no such run.
    """
    folder, _, _ = artifact.rpartition("/")
    client = store.client(uri)
    with store.explained(uri):
        return artifact in {each.path for each in client.list_artifacts(run_id, folder)}


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
