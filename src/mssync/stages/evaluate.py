"""Stage 7: generator, champion and held-out speakers -> metrics and the gallery."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mssync import records, tracking
from mssync.data import dataset
from mssync.device import prepare
from mssync.errors import StageFailedError, ToolError
from mssync.media.store import MediaStore
from mssync.metrics import sync
from mssync.params import Evaluate, Paths, Run
from mssync.render.gallery import write_gallery
from mssync.stages import _gallery, _scores
from mssync.stages.train_generator import CHECKPOINT
from mssync.training import checkpoint
from mssync.training.generator import load_generator
from mssync.training.syncers import POINT_SETS, load_kernel, load_syncers

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
GALLERY = Path("gallery") / "index.html"
CHALLENGER = "generated"
CHAMPION = "champion"


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
    """Score the generator on held-out speakers, beside ceiling and floors, and show it.

    The champion of the model registry, where there is one, is scored on the same sequences; its
    version and digest are written into the metrics. Metrics and gallery also go to the run that
    trained the generator.

    Args:
        data: Dataset folder; its test split is scored.
        syncers: Folder of `train_syncers`; its evaluators judge.
        generator: Folder of `train_generator`.
        out: Folder for `metrics.json` and `gallery/index.html`.
        params: The stage's section.
        run: Seed, device, threads.
        paths: The MLflow store, and the name of the champion in it.
        store: Where the sound of the gallery's clips is.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: If an input is missing.
        StageFailedError: If the test split has fewer than two sequences.
    """
    device = prepare(run)
    clips = dataset.load_clips(data)
    pieces = _scores.excerpts(clips["test"], frames=params.frames, at_most=params.max_sequences)
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
    scores = _scores.score_sync(
        generated,
        pieces,
        evaluators,
        params,
        kernel=load_kernel(syncers / "evaluators" / "all"),
        seed=run.seed,
        device=device,
    )
    coupling = _scores.score_coupling(generated, pieces, params, run.seed)
    static = [np.repeat(piece.motion_TPD[:1], params.frames, axis=0) for piece in pieces]
    distances = {
        name: _scores.score_frechet(
            motions,
            pieces,
            [clip.motion_TPD for clip in clips["train"]],
            evaluators["all"][0],
            axes=params.frechet_axes,
            device=device,
        )
        for name, motions in (generated | {sync.STATIC: static}).items()
    }

    def metrics(system: str) -> dict[str, Any]:
        return {
            "sha256": checkpoint.sha256(models[system]),
            "metrics": _scores.sync_metrics(scores, system)
            | {"frechet": distances[system]}
            | {"rigidity": _scores.score_rigidity(generated[system], pieces)}
            | {
                measure: {
                    "value": found[system].value,
                    "low": found[system].low,
                    "high": found[system].high,
                    sync.CEILING: found[sync.CEILING].value,
                    sync.OTHER_AUDIO: found[sync.OTHER_AUDIO].value,
                }
                for measure, found in coupling.items()
            },
        }

    revision = dataset.load_metadata(data)["revision"]
    report = {
        "dataset_revision": revision,
        "frames": params.frames,
        "sequences": len(pieces),
        "speakers": len({piece.speaker_id for piece in pieces}),
        "challenger": metrics(CHALLENGER),
        "champion": metrics(CHAMPION)
        | {"version": champion.version, "dataset_revision": champion.dataset_revision}
        if champion
        else None,
    }
    write_gallery(
        out / GALLERY,
        _gallery.entries(
            pieces,
            generated,
            scores,
            dataset.load(data).sources(),
            store,
            at_most=params.gallery_clips,
        ),
        title="Ground truth beside generated",
        summary=_summary(report),
        tables=[
            *_gallery.sync_tables(scores, list(generated)),
            _gallery.coupling_table(coupling, list(generated)),
            _gallery.frechet_table(distances, list(generated)),
        ],
        facts={
            "Dataset revision": revision[:12],
            "Generator": report["challenger"]["sha256"][:12],
            "Champion": f"version {champion.version}" if champion else "none yet",
            "Sequences": f"{len(pieces)} of {params.frames} frames, {report['speakers']} speakers",
        },
        sync_plots=_gallery.sync_plots(scores, list(generated)),
    )
    text = json.dumps(report, indent=1, sort_keys=True, allow_nan=False)
    records.write_text(out / METRICS, text + "\n")
    _track(report, out, paths.tracking_uri)
    logger.info("evaluate: %s", out / GALLERY)
    return report


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
