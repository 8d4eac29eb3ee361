"""Stage 5: dataset -> guide pyramid and evaluator pyramid."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from mssync import records, versions
from mssync.data import dataset
from mssync.device import prepare
from mssync.errors import StageFailedError
from mssync.params import Paths, Run, TrainSyncers, digest
from mssync.render import plots
from mssync.stages._training import packs, tracked
from mssync.training import syncers
from mssync.training.group import joined
from mssync.training.stopping import stoppable

logger = logging.getLogger(__name__)

REPORT = "report.json"
ACCURACY = "accuracy.svg"
# What a trained network depends on besides data and parameters.
CODE = (
    "data",
    "landmarks/ibug.py",
    "losses",
    "metrics/retrieval.py",
    "models",
    "points.py",
    "pyramid.py",
    "timing.py",
    "trained/checkpoint.py",
    "training/loop.py",
    "training/state.py",
    "training/syncers.py",
)


@stoppable()
def run(
    data: Path, out: Path, params: TrainSyncers, *, run: Run, paths: Paths, params_hash: str
) -> dict[str, float]:
    """Train one guide per level, and the evaluators that grade what the guides taught.

    Args:
        data: Dataset folder.
        out: Folder of checkpoints, `guides/level<l>/` and `evaluators/<points>/level<l>/`, and
            `report.json`; finished checkpoints of the same data and parameters are kept.
        params: The stage's section.
        run: Seed, device, threads.
        paths: Where the run is tracked.
        params_hash: Of the whole parameter file, for the run's lineage.

    Returns:
        Accuracies with intervals, as in `report.json`.

    Raises:
        InputError: If there is no dataset.
        StageFailedError: If no level has a group of windows to train on.
        TrainingStoppedError: On SIGTERM; what is finished is stored, and a step under way too.
    """
    metadata = dataset.load_metadata(data)
    device = prepare(run)
    key = records.digest(
        metadata["revision"],
        digest(params),
        f"{run.seed} {run.threads} {device.type}",
        versions.source_digest(*CODE),
    )
    out.mkdir(parents=True, exist_ok=True)
    with (
        joined() as group,
        tracked(
            "train_syncers",
            params,
            run=run,
            paths=paths,
            params_hash=params_hash,
            key=key,
            dataset_revision=metadata["revision"],
        ) as tracker,
    ):
        packed = group.after_leader(lambda: packs(data))
        report = dict[str, float]()
        for train in (syncers.train_guides, syncers.train_evaluators):
            report |= train(
                packed,
                params,
                seed=run.seed,
                device=device,
                threads=run.workers,
                tracker=tracker,
                out=out,
                key=key,
                group=group,
            )
        if not any(out.glob("guides/level*")):
            raise StageFailedError(
                "no level has a group of windows to train on: the training clips are too few or "
                "too short (at least 4 windows that do not overlap are needed)"
            )
        if group.leads:
            tracker.log(report, step=0)
            records.write_text(out / REPORT, json.dumps(report, indent=1, sort_keys=True) + "\n")
            tracker.log_files(out / REPORT, "syncers")
            if _draw_accuracy(report, out / ACCURACY):
                tracker.log_files(out / ACCURACY, "syncers")
    logger.info("train-syncers: %s", out)
    return report


def _draw_accuracy(report: Mapping[str, float], out: Path) -> bool:
    """Draw how often each guide finds the sound of a motion, on held-out speakers.

    Levels without a test window have no bar; without any there is no picture, and the answer is
    False.
    """
    bars, chance = dict[str, tuple[float, float, float]](), dict[str, float]()
    for name in report:
        if not (name.startswith("guide.") and name.endswith(".test.cross_clip.accuracy")):
            continue
        prefix = name.removesuffix("accuracy")
        values = [
            report[name],
            *(report.get(prefix + end, report[name]) for end in ("low", "high")),
        ]
        level = name.split(".")[1].replace("level", "level ")
        bars[level] = (values[0], values[1], values[2])
        chance[level] = report[f"{prefix}chance"]
    out.unlink(missing_ok=True)
    if bars:
        title = "Guides on held-out speakers: accuracy among clips, 95 % interval, chance (dashed)"
        records.write_text(out, plots.image(plots.bars(bars, chance), title))
    return bool(bars)
