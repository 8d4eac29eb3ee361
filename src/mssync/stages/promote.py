"""Stage 8: metrics of champion and challenger -> decision; on request, the registry.

Deciding is pure: the same metrics give the same decision (`stages/_gate.py`). Only `apply` and
`roll_back` write to the registry.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mssync import records, tracking
from mssync.errors import InputError
from mssync.params import Paths, Promote
from mssync.render import gate
from mssync.stages import _gate
from mssync.stages._gate import PROMOTE
from mssync.tracking import flatten

logger = logging.getLogger(__name__)

GATE = "gate."  # begins the names of the tags that tell a decision

ARTIFACT = "generator"
PAGE = "index.html"


def run(metrics: Path, out: Path, params: Promote) -> dict[str, Any]:
    """Decide whether the challenger replaces the champion.

    Args:
        metrics: `metrics.json` of `evaluate`.
        out: File to write: decision, reason, and the numbers it rests on. The page `index.html`
            is written beside it: the same in a line, above the gallery that lies beside `metrics`.
        params: The stage's section.

    Returns:
        What is written.

    Raises:
        InputError: If the metrics are missing, lack one of `promote.metrics`, or are of other
            definitions, test sets or judges.
    """
    try:
        decision = _gate.decide(_read(metrics), params)
    except InputError as error:
        raise InputError(f"{metrics}: {error}") from error
    records.write_text(out, json.dumps(decision, indent=1, sort_keys=True) + "\n")
    gallery = metrics.resolve().parent / records.GALLERY
    shown = quote(os.path.relpath(gallery, out.resolve().parent))
    records.write_text(out.parent / PAGE, gate.page(decision, gallery=shown))
    logger.info("promote: %s: %s", decision["decision"], decision["reason"])
    return decision


def apply(
    decision_file: Path,
    metrics: Path,
    params: Promote,
    paths: Paths,
    *,
    workspace: Path = Path(),
) -> str | None:
    """Carry out a decision: register the challenger and point the alias `champion` to it.

    Decision, reason and numbers become tags of the run that made the challenger, and of the
    registered version. Doing it again changes nothing.

    The version's description, and the artifact `model_card.md` of the run that made it, is a card.

    Args:
        decision_file: As `run` writes it.
        metrics: `metrics.json` that it was taken on.
        params: The stage's section.
        paths: Names the MLflow store and the model.
        workspace: Folder that the chain ran in: what the card tells of dataset and checkpoint.

    Returns:
        The registered version; None when the decision is to refuse.

    Raises:
        InputError: If there is no decision, or one of an older version, if the run that made the
            challenger is not known, or the registry has another champion than the decision met,
            or rolled the challenger back.
        ToolError: If the registry cannot be used.
    """
    decision = _read(decision_file)
    if "metrics" not in decision:
        raise InputError(
            f"{decision_file} has no metrics: an older version decided; decide again "
            "(dvc repro -f -s promote)"
        )
    if decision["decision"] != PROMOTE:
        _tag_run(decision, paths)
        logger.info("promote: nothing to apply: %s", decision["reason"])
        return None
    sha256 = decision["challenger"]["sha256"]
    _check_reign(decision["champion"], sha256, paths)
    run_id = tracking.recall_run(sha256)
    if run_id is None:  # it may not have reached the store yet
        tracking.send_unsent()
        run_id = tracking.recall_run(sha256)
    if run_id is None:
        raise InputError(
            f"{tracking.RUNS} does not know which run made the model {sha256[:12]}: apply where "
            "it was trained, or train it here (dvc repro -f -s train-generator)"
        )
    from mssync.stages import _model_card  # torch, which deciding does not need

    version = tracking.register_champion(
        paths.tracking_uri,
        paths.model_name,
        run_id=run_id,
        artifact=ARTIFACT,
        card=_model_card.card(
            decision,
            workspace=workspace,
            metrics=metrics,
            run_id=run_id,
            artifact=ARTIFACT,
            paths=paths,
        ),
        tags={
            "sha256": sha256,
            "dataset_revision": decision["dataset_revision"],
            params.metric: str(decision["challenger"]["value"]),
            **_tags(decision),
        },
    )
    _tag_run(decision, paths)
    logger.info("promote: %s version %s is champion", paths.model_name, version)
    return version


def _check_reign(met: dict[str, Any] | None, challenger: str, paths: Paths) -> None:
    """Refuse a decision that was taken against another champion than today's.

    That the challenger reigns already is well: an `apply` that was killed is called again.
    """
    champion = tracking.champion(paths.tracking_uri, paths.model_name)
    then = met["sha256"] if met else None
    now = champion.sha256 if champion else None
    if now not in (then, challenger):
        raise InputError(
            f"the decision was taken against {_named(then)}, the registry's champion is "
            f"{_named(now)}: evaluate again "
            "(dvc repro -f -s evaluate promote)"
        )


def _named(sha256: str | None) -> str:
    return f"the model {sha256[:12]}" if sha256 else "no champion"


def _tag_run(decision: Mapping[str, Any], paths: Paths) -> None:
    """Tag the run that made the challenger, where it is known."""
    with tracking.of_model(paths.tracking_uri, decision["challenger"]["sha256"]) as tracker:
        if tracker is not None:
            tracker.tag(_tags(decision))


def _tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """What the store keeps of a decision: `gate.decision`, `gate.reason`, numbers by metric."""
    told = {name: decision[name] for name in ("decision", "reason", "scored_by", "sequences")}
    gains = {
        name: f"{row['verdict']}: {row['gain']} ({row['low']} to {row['high']})"
        for name, row in decision["metrics"].items()
    }
    return {name: str(value) for name, value in flatten(told | {"gain": gains}, GATE).items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"{path} does not exist: the stage before this one writes it")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): the stage before this one writes it"
        ) from error
    return content
