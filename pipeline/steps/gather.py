"""Between the data stages and the dataset: one workspace of all shards."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def gather(
    workspace: str,
    shards: int,
    download_videos: dict[str, Any],
    extract_landmarks: dict[str, Any],
    extract_audio: dict[str, Any],
    manifest: dsl.Output[dsl.Dataset],
    landmarks: dsl.Output[dsl.Dataset],
    audio: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Put together what the shards made, and decide whether enough clips survive.

    Args:
        workspace: Folder that all steps share.
        shards: Number of shards that the graph was compiled for.
        download_videos: The section of that name, for its least share of usable sources.
        extract_landmarks: The same.
        extract_audio: The same.
        manifest: Reference to all clips and where their media are.
        landmarks: Reference to the folder of landmark parts.
        audio: Reference to the folder of audio-feature parts.
        metrics: Clips kept and rejected, by stage.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("gather", workspace):
        from pathlib import Path

        from mssync import shards as gathering
        from mssync.params import DownloadVideos, ExtractAudio, ExtractLandmarks, validate

        results = gathering.gather(
            Path(),
            int(shards),
            download_videos=validate(DownloadVideos, download_videos, name="download_videos"),
            extract_landmarks=validate(
                ExtractLandmarks, extract_landmarks, name="extract_landmarks"
            ),
            extract_audio=validate(ExtractAudio, extract_audio, name="extract_audio"),
        )
        steps.refer(manifest, gathering.MANIFEST)
        steps.refer(landmarks, gathering.PARTS["extract_landmarks"])
        steps.refer(audio, gathering.PARTS["extract_audio"])
        steps.log_metrics(metrics, results)
