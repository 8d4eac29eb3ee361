"""KFP step around `mssync.stages.build_dataset`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def build_dataset(
    workspace: str,
    manifest: dsl.Input[dsl.Dataset],
    landmarks: dsl.Input[dsl.Dataset],
    audio: dsl.Input[dsl.Dataset],
    params: dict[str, Any],
    run: dict[str, Any],
    dataset: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Decide which clips are used, cut them, and split by speaker.

    Args:
        workspace: Folder that all steps share.
        manifest: Reference to all clips and where their media are.
        landmarks: Reference to the folder of landmark parts.
        audio: Reference to the folder of audio-feature parts.
        params: The `build_dataset` section of the parameters.
        run: The `run` section of the parameters.
        dataset: Reference to the dataset folder, with its revision.
        card: The dataset's card.
        metrics: Clips per split and rejected.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("build_dataset", workspace):
        import shutil
        from pathlib import Path

        from mssync.data.dataset import load_metadata
        from mssync.params import BuildDataset, Run, validate
        from mssync.render.card import PAGE
        from mssync.stages import build_dataset as stage

        out, told = Path("data/dataset"), Path("data/card")
        results = stage.run(
            steps.referred(manifest),
            steps.referred(landmarks),
            steps.referred(audio),
            Path("ledger"),
            out,
            told,
            validate(BuildDataset, params, name="build_dataset"),
            workers=validate(Run, run, name="run").workers,
        )
        steps.refer(dataset, out, revision=load_metadata(out)["revision"])
        shutil.copyfile(told / PAGE, card.path)
        steps.log_metrics(metrics, results)
