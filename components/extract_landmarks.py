"""KFP step around `mssync.stages.extract_landmarks`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def extract_landmarks(
    workspace: str,
    shard: str,
    manifest: dsl.Input[dsl.Dataset],
    params: dict[str, Any],
    run: dict[str, Any],
    landmarks: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Follow the face through every clip of a shard and write its 68 landmarks.

    Args:
        workspace: Folder that all steps share.
        shard: Part of the list, `0-of-8`.
        manifest: Reference to the shard's clips and where their media are.
        params: The `extract_landmarks` section of the parameters.
        run: The `run` section.
        landmarks: Reference to the folder of landmark parts.
        metrics: Clips kept and rejected.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("extract_landmarks", workspace, shard=shard):
        from pathlib import Path

        from mssync.media.store import MediaStore, default_folder
        from mssync.params import ExtractLandmarks, Run, validate
        from mssync.stages import extract_landmarks as stage

        out = Path("data/landmarks")
        shared = validate(Run, run, name="run")
        results = stage.run(
            steps.referred(manifest),
            out,
            Path("ledger/extract_landmarks"),
            validate(ExtractLandmarks, params, name="extract_landmarks"),
            store=MediaStore(default_folder()),
            workers=shared.workers,
            device=shared.device,
            whole=False,
        )
        steps.refer(landmarks, out, clips=results["clips_kept"])
        steps.log_metrics(metrics, results)
