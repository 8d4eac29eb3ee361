"""KFP step around `mssync.stages.train_generator`, in one process or many."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def train_generator(
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    syncers: dsl.Input[dsl.Model],
    params: dict[str, Any],
    run: dict[str, Any],
    paths: dict[str, Any],
    params_hash: str,
    launch: dict[str, Any],
    generator: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train the landmark generator against guides and critics.

    Args:
        workspace: Folder that all steps share.
        dataset: Reference to the dataset folder.
        syncers: Reference to the folder of guides and evaluators.
        params: The `train_generator` section of the parameters.
        run: The `run` section.
        paths: The `paths` section.
        params_hash: Digest of all parameters, for the tracked run.
        launch: Nodes, processes on each, and what a node is (`mssync.launch.order.Spread`).
        generator: Reference to the folder of the checkpoint, with its digest.
        metrics: Final loss terms and validation scores.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("train_generator", workspace):
        from pathlib import Path

        from mssync.launch.order import Order
        from mssync.launch.start import train
        from mssync.trained.checkpoint import sha256
        from mssync.trained.networks import GENERATOR

        out = Path("models/generator")
        order = Order.of(
            "train_generator",
            data=steps.referred(dataset),
            syncers=steps.referred(syncers),
            out=out,
            params=params,
            run=run,
            paths=paths,
            params_hash=params_hash,
        )
        results = train(order, launch)
        steps.refer(generator, out, sha256=sha256(out / GENERATOR))
        steps.log_metrics(metrics, results)
