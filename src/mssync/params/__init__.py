"""Schema of `params.yaml`: types, bounds, units. No default values: DVC sees only the file.

One section per stage, of the stage's name; `run` and `paths` are shared.
Lengths end in their unit: `_s`, `_hz`, `_frames`, `_px`; ratios lie in [0, 1].
"""

from mssync.params.data import (
    BuildDataset,
    DownloadVideos,
    ExtractAudio,
    ExtractLandmarks,
    HostLimits,
)
from mssync.params.evaluation import Evaluate, Guarded, Promote, Rendered, Retrieval
from mssync.params.file import digest, load, load_as, override, text, validate
from mssync.params.schema import Params, stage_names
from mssync.params.section import Section
from mssync.params.shared import Paths, Run
from mssync.params.training import Loop, SyncerInputs, TrainGenerator, TrainSyncers

__all__ = [
    "BuildDataset",
    "DownloadVideos",
    "Evaluate",
    "ExtractAudio",
    "ExtractLandmarks",
    "Guarded",
    "HostLimits",
    "Loop",
    "Params",
    "Paths",
    "Promote",
    "Rendered",
    "Retrieval",
    "Run",
    "Section",
    "SyncerInputs",
    "TrainGenerator",
    "TrainSyncers",
    "digest",
    "load",
    "load_as",
    "override",
    "stage_names",
    "text",
    "validate",
]
