"""What both training stages share: packed splits, a tracked run that says where it comes from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mssync import tracking, versions
from mssync.data import dataset
from mssync.data.pack import Pack, open_pack
from mssync.data.splits import SPLITS
from mssync.errors import ParamsError
from mssync.params import Paths, Run, Section, digest, load
from mssync.tracking import RECIPE, NullTracker, RunTracker

# What the recipe of a run holds.
PARAMETERS, LOCK = "params.yaml", "dvc.lock"


def packs(data: Path) -> dict[str, Pack]:
    """The splits of a dataset, packed; those without a clip too.

    Raises:
        InputError: If there is no dataset.
    """
    version = dataset.load(data)
    return {split: open_pack(version, split) for split in SPLITS}


@contextmanager
def tracked(
    stage: str,
    params: Section,
    *,
    run: Run,
    paths: Paths,
    params_hash: str,
    key: str,
    dataset_revision: str,
) -> Iterator[RunTracker]:
    """Track a training stage with its parameters, its lineage, and what repeats it.

    The last is the artifact `recipe`: the workspace's `params.yaml`, where that is what is run, and
    its `dvc.lock` (`mssync reproduce`) or `data.dvc`, which names the version of the data.

    Of the processes that `torchrun` starts, the first one tracks (`$RANK` is 0): one run.

    Args:
        stage: Name of the stage and of its section.
        params: That section.
        run: The shared section of the name: seed.
        paths: The shared section of the name: where runs are tracked.
        params_hash: Of the whole file.
        key: What the stage computes: data, parameters, code and seed.
        dataset_revision: Of the dataset it is trained on.

    Raises:
        ToolError: If the tracking store cannot be used, and will not answer later either.
    """
    if os.environ.get("RANK", "0") != "0":
        yield NullTracker()
        return
    name = stage.replace("_", "-")
    with tracking.mlflow_run(
        paths.tracking_uri,
        paths.experiment,
        name=name,
        key=f"{name} {key}",
        tags=versions.lineage(
            dataset_revision=dataset_revision,
            params_hash=params_hash,
            seed=run.seed,
            workspace=Path(),
        ),
        params=params.model_dump(mode="json"),
    ) as tracker:
        for file in _recipe(Path(), params_hash):
            tracker.log_files(file, RECIPE)
        yield tracker


def _recipe(workspace: Path, params_hash: str) -> Iterator[Path]:
    parameters = workspace / PARAMETERS
    try:
        if digest(load(parameters)) == params_hash:
            yield parameters
    except ParamsError:
        pass  # another file was named, or the engine has none: the run says so by lacking it
    for version in (workspace / LOCK, workspace / versions.PUBLISHED):
        if version.exists():
            yield version
