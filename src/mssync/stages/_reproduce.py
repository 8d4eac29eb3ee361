"""A run again: its code, its data, its parameters and its seed, and are the metrics the same?

Code is checked out beside the present one (a git worktree), data come out of DVC's cache or remote
by the `dvc.lock` that the run kept, parameters are the file that it kept. Training and evaluation
are then the commands of that revision's own `dvc.yaml`. The repetition is tracked in a store of its
own, and never in the run that it repeats.
"""

import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssync import records, tracking, versions
from mssync.data import dataset, history
from mssync.errors import InputError, ToolError
from mssync.params import Paths, digest, load
from mssync.stages._training import LOCK, PARAMETERS

logger = logging.getLogger(__name__)

REPORT = "reproduction.json"

_DATA = ("data/dataset", "data/landmarks", "data/audio")
_SYNCERS, _GENERATOR = ("train-syncers",), ("train-syncers", "train-generator", "evaluate")
# of the engine or the run that this process may be in
_OTHERS = ("MLFLOW_RUN_ID", "KFP_RUN_ID", "MSSYNC_IMAGE_DIGEST", "RANK", "LOCAL_RANK")


@dataclass(frozen=True)
class _Origin:
    """Where a run comes from.

    Attributes:
        run: What the store has of it.
        recipe: Its `params.yaml` and `dvc.lock`, as far as it kept them.
        incomplete: What is missing, a sentence each.
    """

    run: tracking.TrackedRun
    recipe: Mapping[str, Path]
    incomplete: list[str]

    @property
    def revision(self) -> str:
        """Of its dataset."""
        return self.run.tags["dataset_revision"]

    @property
    def weights(self) -> str | None:
        """Digest of the generator that it made; None where it made none."""
        return self.run.tags.get(tracking.MODEL_TAG)


def run(
    run_id: str,
    out: Path,
    *,
    paths: Paths,
    workspace: Path,
    mark_incomplete: bool,
    tolerance: float,
) -> dict[str, Any]:
    """Repeat a training run and compare what it measured.

    A run of `train-generator` is repeated with its syncers, and evaluated; one of `train-syncers`
    alone.

    Args:
        run_id: The run, as `tracking.find_run` takes it.
        out: Folder to make. Receives code, data, models, and `reproduction.json`.
        paths: Names the MLflow store.
        workspace: Folder that the chain ran in.
        mark_incomplete: Repeat a run without full lineage as well as it goes, and say what it
            lacks; else refuse it.
        tolerance: Greatest difference of a metric that counts as none.

    Returns:
        What `reproduction.json` holds (docs/data.md).

    Raises:
        InputError: If the run has no full lineage, its data cannot be had any more, or `out`
            exists.
        ToolError: If the store, git or DVC cannot be used, or a stage fails.
    """
    if out.exists():
        raise InputError(
            f"{out} exists: it may hold an earlier repetition. Name another folder with --out, or "
            f"remove it: git worktree remove --force {out}"
        )
    with tempfile.TemporaryDirectory() as kept:
        origin = _origin(run_id, paths, workspace, Path(kept))
        _check_not_purged(origin.revision, workspace)
        if origin.incomplete and not mark_incomplete:
            raise InputError(
                f"the run {run_id} cannot be repeated for sure: {'; '.join(origin.incomplete)}. "
                "--incomplete mark repeats it as well as it goes"
            )
        if origin.weights is None and origin.run.name != "train-syncers":
            raise InputError(
                f"the run {run_id} ({origin.run.name}) is none of train-generator or "
                "train-syncers: it made no model that could be made again"
            )
        versions.add_worktree(out, origin.run.tags["git_sha"])
        for name, file in origin.recipe.items():
            (out / name).write_bytes(file.read_bytes())
    _restore_data(out, origin, workspace)
    _run_stages(out, _GENERATOR if origin.weights else _SYNCERS)
    found = _compare(out, origin, tolerance) | {
        "run_id": origin.run.run_id,
        "lineage": origin.run.tags,
        "incomplete": origin.incomplete,
        "folder": str(out),
    }
    records.write_text(out / REPORT, json.dumps(found, indent=1, sort_keys=True) + "\n")
    return found


def _origin(run_id: str, paths: Paths, workspace: Path, kept: Path) -> _Origin:
    """Read where a run comes from, and fetch what it kept into a folder.

    Raises:
        InputError: If it lacks what no repetition can do without.
    """
    uri = paths.tracking_uri
    found = tracking.find_run(uri, run_id, model_name=paths.model_name)
    for tag in ("git_sha", "dataset_revision", "params_hash"):
        if found.tags.get(tag, "unknown") == "unknown":
            raise InputError(
                f"the run {run_id} ({found.name}) has no tag {tag}, and cannot be repeated at all: "
                "train in a git clone, or in an image that was built from one"
            )
    incomplete = list[str]()
    if found.tags.get("git_dirty") != "false":
        incomplete.append(
            f"its code was changed since the commit {found.tags['git_sha'][:12]} (git_dirty)"
        )
    recipe = {
        name: tracking.download(uri, found.run_id, f"{tracking.RECIPE}/{name}", kept)
        for name in (PARAMETERS, LOCK)
        if tracking.has_artifact(uri, found.run_id, f"{tracking.RECIPE}/{name}")
    }
    if PARAMETERS not in recipe:
        recipe[PARAMETERS] = workspace / PARAMETERS
        if digest(load(recipe[PARAMETERS])) != found.tags["params_hash"]:
            raise InputError(
                f"the run {run_id} kept no {PARAMETERS}, and the one here is another "
                f"(params_hash {found.tags['params_hash'][:12]}): put the file that it ran with "
                f"at {recipe[PARAMETERS]}"
            )
    if LOCK not in recipe:
        incomplete.append(f"it kept no {LOCK}: its data are taken as they are here")
    return _Origin(found, recipe, incomplete)


def _check_not_purged(revision: str, workspace: Path) -> None:
    versions_folder = history.folder_of(workspace / _DATA[0])
    if revision in history.lost(versions_folder):
        raise InputError(
            f"the dataset {revision[:12]} of this run had clips that were purged for a takedown "
            f"({versions_folder}/purged.json): it cannot be had any more, and the run cannot be "
            "repeated"
        )


def _restore_data(out: Path, origin: _Origin, workspace: Path) -> None:
    """Put the run's dataset and its parts into a folder.

    Raises:
        InputError: If what is found there is another version.
    """
    if LOCK in origin.recipe:
        versions.share_objects(out, workspace)
        versions.restore(out, _DATA)
    else:
        for name in _DATA:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).symlink_to((workspace / name).resolve())
    found = str(dataset.load_metadata(out / _DATA[0])["revision"])
    if found != origin.revision:
        raise InputError(
            f"the run was trained on the dataset {origin.revision[:12]}, found {found[:12]}: "
            "restore that version in this folder (dvc pull with the dvc.lock of that time)"
        )


def _run_stages(out: Path, stages: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _OTHERS} | {
        "PYTHONPATH": str((out / "src").resolve()),
        "MLFLOW_TRACKING_URI": f"sqlite:///{(out / 'mlflow.db').resolve()}",
    }
    commands = versions.commands(out)
    for stage in stages:
        logger.info("reproduce: %s", commands[stage])
        program, *arguments = shlex.split(commands[stage])
        assert program == "mssync", program
        result = subprocess.run(
            [sys.executable, "-m", "mssync", *arguments], cwd=out, env=environment, check=False
        )
        if result.returncode:
            raise ToolError(
                f"{stage} failed in {out}; its own message stands above. What was done is kept"
            )


def _compare(out: Path, origin: _Origin, tolerance: float) -> dict[str, Any]:
    """Metrics that the run has and the repetition too; weights, of a generator."""
    if origin.weights:
        report = json.loads((out / "evaluation" / "metrics.json").read_text())["challenger"]
        now = tracking.numbers(report["metrics"], "eval.")
        same: bool | None = report["sha256"] == origin.weights
    else:
        now = tracking.numbers(json.loads((out / "models" / "syncers" / "report.json").read_text()))
        same = None
    then = {name: value for name, value in origin.run.metrics.items() if name in now}
    differences = {
        name: {"then": value, "now": now[name]}
        for name, value in sorted(then.items())
        if abs(now[name] - value) > tolerance
    }
    return {
        "equal": not differences and (bool(then) or bool(same)),
        "weights_equal": same,
        "compared": len(then),
        "tolerance": tolerance,
        "differences": differences,
    }
