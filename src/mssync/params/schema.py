"""The whole of `params.yaml`."""

from mssync.params.data import BuildDataset, DownloadVideos, ExtractAudio, ExtractLandmarks
from mssync.params.evaluation import Evaluate, Promote
from mssync.params.section import Section
from mssync.params.shared import Paths, Run
from mssync.params.training import TrainGenerator, TrainSyncers


class Params(Section):
    """The whole file."""

    run: Run
    paths: Paths
    download_videos: DownloadVideos
    extract_landmarks: ExtractLandmarks
    extract_audio: ExtractAudio
    build_dataset: BuildDataset
    train_syncers: TrainSyncers
    train_generator: TrainGenerator
    evaluate: Evaluate
    promote: Promote


def stage_names() -> list[str]:
    """The stages in order: the sections of the file but the shared ones."""
    return [name for name in Params.model_fields if name not in ("run", "paths")]
