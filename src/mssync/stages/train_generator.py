"""Stage 6: dataset and guides -> generator checkpoint."""

import json
import logging
from pathlib import Path

from mssync import records, tracking, versions
from mssync.data import dataset
from mssync.params import Params, digest
from mssync.stages._training import tracked
from mssync.training import checkpoint, generator
from mssync.training.device import prepare
from mssync.training.syncers import load_syncers

logger = logging.getLogger(__name__)

CHECKPOINT = "generator"
REPORT = "report.json"
# What a trained generator depends on besides data, guides and parameters.
CODE = (
    "data",
    "landmarks/ibug.py",
    "losses",
    "models",
    "pyramid.py",
    "timing.py",
    "training/checkpoint.py",
    "training/generator.py",
    "training/state.py",
)


def run(data: Path, syncers: Path, out: Path, params: Params) -> dict[str, float]:
    """Train the autoregressive landmark generator against the frozen guides and two critics.

    Args:
        data: Dataset folder.
        syncers: Folder of `train_syncers`.
        out: Folder for the checkpoint `generator/` and `report.json`; an interrupted training of
            the same data, guides and parameters goes on.
        params: The whole file: the stage's section trains, `run` and `paths` say how and where.

    Returns:
        Final loss terms and validation scores.

    Raises:
        InputError: If there is no dataset or no guide.
    """
    section = params.train_generator
    metadata = dataset.load_metadata(data)
    clips = dataset.load_clips(data)
    device = prepare(params.run)
    guides = load_syncers(syncers / "guides", device)
    taught = [checkpoint.sha256(folder) for folder in sorted(syncers.glob("guides/level*"))]
    key = records.digest(
        metadata["revision"],
        digest(section),
        taught,
        str(params.train_syncers.kernel),
        f"{params.run.seed} {params.run.threads} {device.type}",
        versions.source_digest(*CODE),
    )
    out.mkdir(parents=True, exist_ok=True)
    with tracked(
        "train_generator", params, key=key, dataset_revision=metadata["revision"]
    ) as tracker:
        report = generator.fit(
            clips["train"],
            clips["val"],
            guides,
            section,
            kernel=params.train_syncers.kernel,
            seed=params.run.seed,
            device=device,
            tracker=tracker,
            out=out,
            key=key,
        )
        sha256 = checkpoint.sha256(out / CHECKPOINT)
        tracker.tag({"generator_sha256": sha256})
        tracker.log_files(out / CHECKPOINT, CHECKPOINT)
        records.write_text(out / REPORT, json.dumps(report, indent=1, sort_keys=True) + "\n")
        tracking.remember_run(sha256, tracker.run_id)
    logger.info("train-generator: %s", out / CHECKPOINT)
    return report
