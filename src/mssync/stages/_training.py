"""What both training stages share: a tracked run that says where it comes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mssync import tracking, versions
from mssync.params import Params, digest
from mssync.tracking import MlflowTracker


@contextmanager
def tracked(
    stage: str, params: Params, *, key: str, dataset_revision: str
) -> Iterator[MlflowTracker]:
    """Track a training stage with its parameters and its lineage.

    Args:
        stage: Name of the stage and of its section.
        params: The whole file.
        key: What the stage computes: data, parameters, code and seed.
        dataset_revision: Of the dataset it is trained on.

    Raises:
        ToolError: If the tracking store cannot be used.
    """
    name = stage.replace("_", "-")
    with tracking.mlflow_run(
        params.paths.tracking_uri,
        params.paths.experiment,
        name=name,
        key=f"{name} {key}",
        tags=versions.lineage(
            dataset_revision=dataset_revision,
            params_hash=digest(params),
            seed=params.run.seed,
            workspace=Path(),
        ),
        params=getattr(params, stage).model_dump(mode="json"),
    ) as tracker:
        yield tracker
