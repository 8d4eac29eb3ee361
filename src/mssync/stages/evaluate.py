"""Stage 7: generator, champion and held-out speakers -> metrics and the gallery."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mssync import records, tracking
from mssync.data import dataset
from mssync.device import prepare
from mssync.errors import StageFailedError, ToolError
from mssync.media.store import MediaStore
from mssync.metrics.sync import CEILING, OTHER_AUDIO, STATIC
from mssync.metrics.version import METRIC_VERSION
from mssync.params import Evaluate, Paths, Run
from mssync.points import ALL
from mssync.render.gallery import write_gallery, write_images
from mssync.stages import (
    _comparison,
    _failures,
    _gallery,
    _rendered,
    _rollouts,
    _scores,
    _systems,
    _traces,
)
from mssync.stages._imported import Extraction
from mssync.trained import checkpoint
from mssync.trained.networks import (
    GENERATOR,
    load_evaluators,
    load_generator,
    load_kernel,
)

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
SCORES = "scores.json"
SEQUENCES = "sequences.json"
PLOTS = "plots"
_RESULTS = {"value", "normalised", "distance", "distance_in_axes", "share"}
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
    extraction: Extraction | None = None,
) -> dict[str, Any]:
    """Score the generator on held-out speakers, beside ceiling, floors and baselines; show it.

    So are the other systems of `evaluate.systems`. A sequence that an imported one lacks is left
    out for all.

    The champion of the model registry, where there is one, is scored on the same sequences; its
    version and digest are written into the metrics. Metrics and gallery also go to the run that
    trained the generator.

    Args:
        data: Dataset folder; its test split is scored.
        syncers: Folder of `train_syncers`; its evaluators judge.
        generator: Folder of `train_generator`.
        out: Folder for `metrics.json`, `scores.json`, `sequences.json`, `gallery/index.html` and
            `plots/`.
        params: The stage's section.
        run: Seed, device, threads.
        paths: The MLflow store, and the name of the champion in it.
        store: Where the sound of the gallery's clips is.
        extraction: How landmarks of imported videos are found; None: videos are refused.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: If an input is missing, or weights that are named are others than they should.
        StageFailedError: If the test split has fewer than two sequences, or no training clip is as
            long as a piece of the retrieval.
    """
    device = prepare(run)
    networks = _rendered.load(params.rendered, device)
    version = dataset.load(data)
    held_out = _scores.clips_of(version, "test")
    champion = tracking.champion(paths.tracking_uri, paths.model_name)
    with TemporaryDirectory(prefix="mssync-") as scratch:
        others = _systems.resolve(
            params.systems,
            _scores.excerpts(held_out, frames=params.frames, at_most=params.max_sequences),
            taken=(CHALLENGER, CHAMPION),
            paths=paths,
            lengths={clip.clip_id: clip.frames for clip in held_out},
            smoothing_frames=version.metadata["params"]["smoothing_frames"],
            extraction=extraction,
            scratch=Path(scratch),
        )
        models = (
            {CHALLENGER: generator / GENERATOR}
            | ({CHAMPION: champion.folder} if champion else {})
            | dict(others.models)
        )
        digests = {name: checkpoint.sha256(folder) for name, folder in models.items()}
        generators = {name: load_generator(folder, device) for name, folder in models.items()}
    pieces = others.pieces
    _check(pieces, others, params)
    generated = {
        name: _scores.generate(model, pieces, device) for name, model in generators.items()
    }
    evaluators = load_evaluators(syncers / "evaluators", device)
    training = _scores.clips_of(version, "train", at_most=params.training_clips)
    baselines = _scores.baselines_of(pieces, training, params.retrieval)
    motions = generated | dict(others.imported) | baselines
    kernel = load_kernel(syncers / "evaluators" / ALL)
    scores = _scores.score(
        motions,
        pieces,
        training,
        evaluators,
        params,
        kernel=kernel,
        seed=run.seed,
        device=device,
    )
    detectors, judged = _failures.judge(
        motions, pieces, training, evaluators[ALL][0], params, kernel=kernel, device=device
    )
    drawn = _rendered.score(networks, motions, pieces)
    rollouts = _rollouts.roll_out(
        generators, held_out, evaluators[ALL], params, kernel=kernel, device=device
    )

    def metrics(system: str) -> dict[str, Any]:
        found = scores.metrics(system) | {"failures": _failures.summary(judged, system)}
        return found | ({"rendered": drawn[system]} if drawn[system] else {})

    scored_by = {
        "metric_version": METRIC_VERSION,
        "test_set": _scores.test_set(pieces),
        "judges": _judges(syncers),
    }

    def scored(system: str) -> dict[str, Any]:
        return {"sha256": digests[system], "metrics": metrics(system), "scored_by": scored_by}

    report: dict[str, Any] = {
        "dataset_revision": version.revision,
        "frames": params.frames,
        "sequences": len(pieces),
        "speakers": len({piece.speaker_id for piece in pieces}),
        "baselines": {name: {"metrics": metrics(name)} for name in baselines},
        "systems": {
            name: scored(name) | {"kind": "model", "where": params.systems[name]}
            for name in others.models
        }
        | {
            name: {"metrics": metrics(name), "kind": "imported", "where": params.systems[name]}
            for name in others.imported
        },
        "rendered": networks.told,
        "left_out": {piece: dict(why) for piece, why in others.left_out.items()},
        "failure_limits": _failures.limits(detectors),
        "verdicts": _failures.verdicts(judged),
        "rollouts": _rollouts.metrics(rollouts, seed=run.seed, resamples=params.bootstrap),
        "challenger": scored(CHALLENGER),
        "champion": scored(CHAMPION)
        | {"version": champion.version, "dataset_revision": champion.dataset_revision}
        if champion
        else None,
        "paired": _paired(scores, pieces),
    }
    reigning = [name for name in (CHALLENGER, CHAMPION) if name in generated]
    shown = {name: made for name, made in motions.items() if name != STATIC}
    clips = _gallery.entries(
        pieces,
        shown,
        scores.sync,
        version.sources(),
        store,
        at_most=params.gallery_clips,
        judges=evaluators[ALL],
        kernel=kernel,
        device=str(device),
        failures=_failures.shown(judged, list(shown)),
    )
    page = _gallery.page(
        report,
        scores,
        clips,
        reigning,
        summary=_summary(report),
        extra=[*_comparison.tables(report, judged), *_rendered.tables(drawn)],
        facts={
            "Dataset revision": version.revision[:12],
            "Generator": report["challenger"]["sha256"][:12],
            "Champion": f"version {champion.version}" if champion else "none yet",
            "Sequences": f"{len(pieces)} of {params.frames} frames, {report['speakers']} speakers",
        },
    )
    write_gallery(out / records.GALLERY, page)
    write_images(out / PLOTS, page.plots)
    sequences = _traces.of_sequences(scores.sequences, pieces)
    for name, content in (
        (METRICS, report),
        (SCORES, _headlines(report)),
        (SEQUENCES, sequences),
    ):
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        records.write_text(out / name, text + "\n")
    _track(report, out, paths.tracking_uri)
    logger.info("evaluate: %s", out / records.GALLERY)
    return report


def _check(pieces: Sequence[_scores.Excerpt], others: _systems.Others, params: Evaluate) -> None:
    """Say what is left out; refuse too few sequences."""
    for piece, why in others.left_out.items():
        told = "; ".join(f"{system}: {reason}" for system, reason in why.items())
        logger.warning("evaluate: %s is left out for all systems (%s)", piece, told)
    if len(pieces) < 2:
        lacking = (
            f" that all imported systems have, {len(others.left_out)} more are left out: see the "
            "warnings above for what is lacking"
            if others.left_out
            else ""
        )
        raise StageFailedError(
            f"the test split has {len(pieces)} sequences of {params.frames} frames{lacking}, at "
            "least 2 are needed: add longer clips of held-out speakers, or lower evaluate.frames"
        )


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
        lips = metrics["lse_d"][ALL]
        return {
            "place": {level: entry["normalised"] for level, entry in lips.items()},
            "lse_d": {level: entry["value"] for level, entry in lips.items()},
            "fd_motion": metrics["frechet"]["fd_motion"]["distance"],
            "rigidity": metrics["rigidity"]["value"],
            **{name: metrics[name]["value"] for name in _COUPLING},
            "failed": {kind: found["share"] for kind, found in metrics["failures"].items()},
        }

    scored = {CHALLENGER: report["challenger"]} | report["systems"] | report["baselines"]
    return {system: of(found["metrics"]) for system, found in scored.items()}


def _summary(report: Mapping[str, Any]) -> str:
    lips = report["challenger"]["metrics"]["lse_d"][ALL]["level0"]
    place = lips["normalised"]
    told = "cannot be told" if place is None else f"is {place:.0%}"
    if place is not None and place > 1:
        told += ": the judge likes them better than real ones, so it says little. Look at them"
    return (
        f"{report['sequences']} sequences of {report['speakers']} people the generator never saw. "
        f"On the way from another clip's audio (0 %) to the ground truth (100 %), the place of the "
        f"generated lips {told}."
    )


def tracked(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What a run's page has of a system's metrics: the results by name.

    Intervals, sample sizes and references, ten times as many, are in `metrics.json`, which is an
    artifact of the run.
    """
    return {
        name: value
        for name, value in tracking.numbers(metrics, "eval.").items()
        if name.rpartition(".")[2] in _RESULTS
    }


def _track(report: Mapping[str, Any], out: Path, uri: str) -> None:
    """Write metrics and gallery into the run that trained the generator."""
    sha256 = report["challenger"]["sha256"]
    try:
        with tracking.of_model(uri, sha256) as tracker:
            if tracker is None:
                logger.warning("no run is known of the generator %s: not tracked", sha256[:12])
                return
            tracker.log(tracked(report["challenger"]["metrics"]), step=0)
            for name in (METRICS, SEQUENCES, records.GALLERY):
                tracker.log_files(out / name, "evaluation")
            tracker.log_files(out / PLOTS, f"evaluation/{PLOTS}")
    except ToolError as error:
        logger.warning("metrics and gallery are not tracked: %s", error)
