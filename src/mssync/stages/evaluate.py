"""Stage 7: generator, champion and held-out speakers -> metrics and the gallery."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mssync import records, tracking
from mssync.data import dataset
from mssync.device import prepare
from mssync.errors import StageFailedError, ToolError
from mssync.media.store import MediaStore
from mssync.metrics.baselines import RETRIEVAL
from mssync.metrics.sync import CEILING, OTHER_AUDIO
from mssync.metrics.version import METRIC_VERSION
from mssync.params import Evaluate, Paths, Run
from mssync.render.gallery import write_gallery
from mssync.stages import _gallery, _scores
from mssync.stages.train_generator import CHECKPOINT
from mssync.training import checkpoint
from mssync.training.generator import load_generator
from mssync.training.syncers import POINT_SETS, load_kernel, load_syncers

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
SCORES = "scores.json"
GALLERY = Path("gallery") / "index.html"
_COUPLING = ("head_speed_loudness", "mouth_opening_loudness")
CHALLENGER = "generated"
CHAMPION = "champion"
_ROLES = {
    "challenger": CHALLENGER,
    "champion": CHAMPION,
    "ceiling": CEILING,
    "floor": OTHER_AUDIO,
}


def run(
    data: Path,
    syncers: Path,
    generator: Path,
    out: Path,
    params: Evaluate,
    *,
    run: Run,
    paths: Paths,
    store: MediaStore,
) -> dict[str, Any]:
    """Score the generator on held-out speakers, beside ceiling, floors and baselines; show it.

    The champion of the model registry, where there is one, is scored on the same sequences; its
    version and digest are written into the metrics. Metrics and gallery also go to the run that
    trained the generator.

    Args:
        data: Dataset folder; its test split is scored.
        syncers: Folder of `train_syncers`; its evaluators judge.
        generator: Folder of `train_generator`.
        out: Folder for `metrics.json`, `scores.json` and `gallery/index.html`.
        params: The stage's section.
        run: Seed, device, threads.
        paths: The MLflow store, and the name of the champion in it.
        store: Where the sound of the gallery's clips is.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: If an input is missing.
        StageFailedError: If the test split has fewer than two sequences, or no training clip is as
            long as a piece of the retrieval.
    """
    device = prepare(run)
    version = dataset.load(data)
    pieces = _scores.excerpts(
        _scores.clips_of(version, "test"), frames=params.frames, at_most=params.max_sequences
    )
    if len(pieces) < 2:
        raise StageFailedError(
            f"the test split has {len(pieces)} sequences of {params.frames} frames, at least 2 "
            "are needed: add longer clips of held-out speakers, or lower evaluate.frames"
        )
    champion = tracking.champion(paths.tracking_uri, paths.model_name)
    models = {CHALLENGER: generator / CHECKPOINT} | (
        {CHAMPION: champion.folder} if champion else {}
    )
    generated = {
        name: _scores.generate(load_generator(folder, device), pieces, device)
        for name, folder in models.items()
    }
    evaluators = {
        points: load_syncers(syncers / "evaluators" / points, device) for points in POINT_SETS
    }
    training = _scores.clips_of(version, "train", at_most=params.training_clips)
    baselines = _scores.baselines_of(pieces, training, params.retrieval)
    scores = _scores.score(
        generated | baselines,
        pieces,
        training,
        evaluators,
        params,
        kernel=load_kernel(syncers / "evaluators" / "all"),
        seed=run.seed,
        device=device,
    )

    scored_by = {
        "metric_version": METRIC_VERSION,
        "test_set": _scores.test_set(pieces),
        "judges": _judges(syncers),
    }

    def scored(system: str) -> dict[str, Any]:
        return {
            "sha256": checkpoint.sha256(models[system]),
            "metrics": scores.metrics(system),
            "scored_by": scored_by,
        }

    report: dict[str, Any] = {
        "dataset_revision": version.revision,
        "frames": params.frames,
        "sequences": len(pieces),
        "speakers": len({piece.speaker_id for piece in pieces}),
        "baselines": {name: {"metrics": scores.metrics(name)} for name in baselines},
        "challenger": scored(CHALLENGER),
        "champion": scored(CHAMPION)
        | {"version": champion.version, "dataset_revision": champion.dataset_revision}
        if champion
        else None,
        "paired": _paired(scores, pieces),
    }
    write_gallery(
        out / GALLERY,
        _gallery.entries(
            pieces,
            generated | {RETRIEVAL: baselines[RETRIEVAL]},
            scores.sync,
            version.sources(),
            store,
            at_most=params.gallery_clips,
        ),
        title="Ground truth beside generated",
        summary=_summary(report),
        tables=_gallery.tables(scores, list(generated)),
        facts={
            "Dataset revision": version.revision[:12],
            "Generator": report["challenger"]["sha256"][:12],
            "Champion": f"version {champion.version}" if champion else "none yet",
            "Sequences": f"{len(pieces)} of {params.frames} frames, {report['speakers']} speakers",
        },
        sync_plots=_gallery.sync_plots(scores.sync, list(generated)),
    )
    for name, content in ((METRICS, report), (SCORES, _headlines(report))):
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        records.write_text(out / name, text + "\n")
    _track(report, out, paths.tracking_uri)
    logger.info("evaluate: %s", out / GALLERY)
    return report


def _judges(syncers: Path) -> str:
    """SHA-256 of the weights of all evaluators."""
    folders = sorted((syncers / "evaluators").glob("*/level*"))
    return records.digest(
        *(f"{folder.parent.name}/{folder.name} {checkpoint.sha256(folder)}" for folder in folders)
    )


def _paired(scores: _scores.Scores, pieces: Sequence[_scores.Excerpt]) -> dict[str, Any]:
    """What the gate resamples: the value of each sequence, and whose it is."""
    return {
        "clip_id": [piece.clip_id for piece in pieces],
        "speaker_id": [piece.speaker_id for piece in pieces],
        "start": [piece.start for piece in pieces],
        "values": {
            metric: {
                role: [value if math.isfinite(value) else None for value in found[system]]
                for role, system in _ROLES.items()
                if system in found
            }
            for metric, found in scores.sequences.items()
        },
    }


def _headlines(report: Mapping[str, Any]) -> dict[str, Any]:
    """The few scores that tell experiments apart: system -> score, as DVC shows them."""

    def of(metrics: Mapping[str, Any]) -> dict[str, Any]:
        lips = metrics["lse_d"]["all"]
        return {
            "place": {level: entry["normalised"] for level, entry in lips.items()},
            "lse_d": {level: entry["value"] for level, entry in lips.items()},
            "fd_motion": metrics["frechet"]["fd_motion"]["distance"],
            "rigidity": metrics["rigidity"]["value"],
            **{name: metrics[name]["value"] for name in _COUPLING},
        }

    scored = {CHALLENGER: report["challenger"]} | report["baselines"]
    return {system: of(found["metrics"]) for system, found in scored.items()}


def _summary(report: Mapping[str, Any]) -> str:
    lips = report["challenger"]["metrics"]["lse_d"]["all"]["level0"]
    place = lips["normalised"]
    told = "cannot be told" if place is None else f"is {place:.0%}"
    return (
        f"{report['sequences']} sequences of {report['speakers']} people the generator never saw. "
        f"On the way from another clip's audio (0 %) to the ground truth (100 %), the place of the "
        f"generated lips {told}."
    )


def _track(report: Mapping[str, Any], out: Path, uri: str) -> None:
    """Write metrics and gallery into the run that trained the generator."""
    sha256 = report["challenger"]["sha256"]
    try:
        with tracking.of_model(uri, sha256) as tracker:
            if tracker is None:
                logger.warning("no run is known of the generator %s: not tracked", sha256[:12])
                return
            tracker.log(tracking.numbers(report["challenger"]["metrics"], "eval."), step=0)
            tracker.log_files(out / METRICS, "evaluation")
            tracker.log_files(out / GALLERY, "evaluation")
    except ToolError as error:
        logger.warning("metrics and gallery are not tracked: %s", error)
