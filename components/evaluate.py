"""KFP step around `mssync.stages.evaluate`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def evaluate(
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    syncers: dsl.Input[dsl.Model],
    generator: dsl.Input[dsl.Model],
    params: dict[str, Any],
    run: dict[str, Any],
    paths: dict[str, Any],
    scores: dsl.Output[dsl.Artifact],
    gallery: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Score the generator on held-out speakers, and make the gallery.

    Args:
        workspace: Folder that all steps share.
        dataset: Reference to the dataset folder.
        syncers: Reference to the folder of guides and evaluators.
        generator: Reference to the folder of the generator's checkpoint.
        params: The `evaluate` section of the parameters.
        run: The `run` section.
        paths: The `paths` section.
        scores: Reference to `metrics.json`: challenger, champion, ceiling and floors.
        gallery: One page with moving faces and sound.
        metrics: Scores of the generator.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("evaluate", workspace):
        import shutil
        from pathlib import Path

        from mssync.media.store import MediaStore, default_folder
        from mssync.params import Evaluate, Paths, Run, validate
        from mssync.records import GALLERY
        from mssync.stages import evaluate as stage

        out = Path("evaluation")
        results = stage.run(
            steps.referred(dataset),
            steps.referred(syncers),
            steps.referred(generator),
            out,
            validate(Evaluate, params, name="evaluate"),
            run=validate(Run, run, name="run"),
            paths=validate(Paths, paths, name="paths"),
            store=MediaStore(default_folder()),
        )
        steps.refer(scores, out / stage.METRICS, dataset_revision=results["dataset_revision"])
        shutil.copyfile(out / GALLERY, gallery.path)
        steps.log_metrics(metrics, results["challenger"]["metrics"])
