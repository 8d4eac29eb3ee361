"""KFP step around `mssync.stages.download_videos`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def download_videos(
    workspace: str,
    shard: str,
    source_base: str,
    params: dict[str, Any],
    run: dict[str, Any],
    manifest: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Fetch the listed videos of a shard into the media store and cut them.

    Args:
        workspace: Folder that all steps share.
        shard: Part of the list, `0-of-8`.
        source_base: Folder or URL that relative sources start from.
        params: The `download_videos` section of the parameters.
        run: The `run` section.
        manifest: Reference to the shard's clips and where their media are.
        metrics: Clips kept and rejected.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("download_videos", workspace, shard=shard):
        from pathlib import Path

        from mssync.download import access
        from mssync.media.store import MediaStore, default_folder
        from mssync.params import DownloadVideos, Run, validate
        from mssync.stages import download_videos as stage

        out = Path("data/manifest.parquet")
        results = stage.run(
            Path("data/sources.csv"),
            out,
            Path("ledger/download_videos"),
            validate(DownloadVideos, params, name="download_videos"),
            store=MediaStore(default_folder()),
            workers=validate(Run, run, name="run").workers,
            base=source_base,
            whole=False,
            takedown=Path("data/takedown.csv"),
            access=access.from_environment(),
        )
        steps.refer(manifest, out, clips=results["clips_kept"])
        steps.log_metrics(metrics, results)
