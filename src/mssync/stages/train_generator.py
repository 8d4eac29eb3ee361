"""Stage 6: dataset and guides -> generator checkpoint."""

import json
import logging
from pathlib import Path

from mssync import records, tracking, versions
from mssync.data import dataset
from mssync.device import prepare
from mssync.params import Paths, Run, TrainGenerator, digest
from mssync.stages._training import packs, tracked
from mssync.trained import checkpoint
from mssync.trained.networks import GENERATOR, load_kernel, load_syncers
from mssync.training import generator
from mssync.training.group import joined
from mssync.training.stopping import stoppable, termination

logger = logging.getLogger(__name__)

REPORT = "report.json"
# What a trained generator depends on besides data, guides and parameters.
CODE = (
    "data",
    "landmarks/ibug.py",
    "losses",
    "models",
    "pyramid.py",
    "timing.py",
    "trained",
    "training/generator.py",
    "training/loop.py",
    "training/state.py",
)


@stoppable()
def run(
    data: Path,
    syncers: Path,
    out: Path,
    params: TrainGenerator,
    *,
    run: Run,
    paths: Paths,
    params_hash: str,
) -> dict[str, float]:
    """Train the autoregressive landmark generator against the frozen guides and two critics.

    Args:
        data: Dataset folder.
        syncers: Folder of `train_syncers`.
        out: Folder for the checkpoint `generator/` and `report.json`; an interrupted training of
            the same data, guides and parameters goes on.
        params: The stage's section.
        run: Seed, device, threads.
        paths: Where the run is tracked.
        params_hash: Of the whole parameter file, for the run's lineage.

    Returns:
        Final loss terms and validation scores.

    Raises:
        InputError: If there is no dataset or no guide.
        TrainingStoppedError: On SIGTERM; what is finished is stored, and a step under way too.
    """
    metadata = dataset.load_metadata(data)
    device = prepare(run)
    guides = load_syncers(syncers / "guides", device)
    kernel = load_kernel(syncers / "guides")
    taught = [checkpoint.sha256(folder) for folder in sorted(syncers.glob("guides/level*"))]
    key = records.digest(
        metadata["revision"],
        digest(params),
        taught,
        str(kernel),
        f"{run.seed} {run.threads} {device.type}",
        versions.source_digest(*CODE),
    )
    out.mkdir(parents=True, exist_ok=True)
    with (
        joined() as group,
        tracked(
            "train_generator",
            params,
            run=run,
            paths=paths,
            params_hash=params_hash,
            key=key,
            dataset_revision=metadata["revision"],
        ) as tracker,
    ):
        packed = group.after_leader(lambda: packs(data))
        with termination():  # it stops between two steps, or after it is written
            report = generator.fit(
                packed["train"],
                packed["val"],
                guides,
                params,
                kernel=kernel,
                seed=run.seed,
                device=device,
                threads=run.workers,
                tracker=tracker,
                out=out,
                key=key,
                group=group,
            )
        if group.leads:
            sha256 = checkpoint.sha256(out / GENERATOR)
            tracker.tag({tracking.MODEL_TAG: sha256})
            tracker.log_files(out / GENERATOR, GENERATOR)
            records.write_text(out / REPORT, json.dumps(report, indent=1, sort_keys=True) + "\n")
            tracker.made(sha256)
    logger.info("train-generator: %s", out / GENERATOR)
    return report
