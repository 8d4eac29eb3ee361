"""KFP step around `mssync.stages.train_syncers`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def train_syncers(
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    params: dict[str, Any],
    run: dict[str, Any],
    paths: dict[str, Any],
    params_hash: str,
    syncers: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train the guide pyramid and the evaluator pyramid.

    Args:
        workspace: Folder that all steps share.
        dataset: Reference to the dataset folder.
        params: The `train_syncers` section of the parameters.
        run: The `run` section.
        paths: The `paths` section.
        params_hash: Digest of all parameters, for the tracked run.
        syncers: Reference to the folder of guides and evaluators.
        metrics: Accuracies with intervals.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("train_syncers", workspace):
        from pathlib import Path

        from mssync.params import Paths, Run, TrainSyncers, validate
        from mssync.stages import train_syncers as stage

        out = Path("models/syncers")
        results = stage.run(
            steps.referred(dataset),
            out,
            validate(TrainSyncers, params, name="train_syncers"),
            run=validate(Run, run, name="run"),
            paths=validate(Paths, paths, name="paths"),
            params_hash=params_hash,
        )
        steps.refer(syncers, out)
        steps.log_metrics(metrics, results)
