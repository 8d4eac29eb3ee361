"""KFP step around `mssync.stages.train_syncers`, in one process or many."""

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
    launch: dict[str, Any],
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
        launch: Nodes, processes on each, and what a node is (`mssync.launch.order.Spread`).
        syncers: Reference to the folder of guides and evaluators.
        metrics: Accuracies with intervals.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("train_syncers", workspace):
        from pathlib import Path

        from mssync.launch.order import Order
        from mssync.launch.start import train

        out = Path("models/syncers")
        order = Order.of(
            "train_syncers",
            data=steps.referred(dataset),
            out=out,
            params=params,
            run=run,
            paths=paths,
            params_hash=params_hash,
        )
        results = train(order, launch)
        steps.refer(syncers, out)
        steps.log_metrics(metrics, results)
