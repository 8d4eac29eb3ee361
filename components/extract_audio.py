"""KFP step around `mssync.stages.extract_audio`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def extract_audio(
    workspace: str,
    shard: str,
    manifest: dsl.Input[dsl.Dataset],
    params: dict[str, Any],
    run: dict[str, Any],
    audio: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compute log mel energies and MFCC of a shard's clips, four rows a video frame.

    Args:
        workspace: Folder that all steps share.
        shard: Part of the list, `0-of-8`.
        manifest: Reference to the shard's clips and where their media are.
        params: The `extract_audio` section of the parameters.
        run: The `run` section.
        audio: Reference to the folder of audio-feature parts.
        metrics: Clips kept and rejected.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("extract_audio", workspace, shard=shard):
        from pathlib import Path

        from mssync.media.store import MediaStore, default_folder
        from mssync.params import ExtractAudio, Run, validate
        from mssync.stages import extract_audio as stage

        out = Path("data/audio")
        results = stage.run(
            steps.referred(manifest),
            out,
            Path("ledger/extract_audio"),
            validate(ExtractAudio, params, name="extract_audio"),
            store=MediaStore(default_folder()),
            workers=validate(Run, run, name="run").workers,
            whole=False,
        )
        steps.refer(audio, out, clips=results["clips_kept"])
        steps.log_metrics(metrics, results)
