"""Stage 8: metrics of champion and challenger -> decision; on request, the registry.

Deciding is pure: the same metrics give the same decision. Only `apply` writes to the registry.
"""

import json
import logging
from pathlib import Path
from typing import Any

from mssync import records, tracking
from mssync.errors import InputError
from mssync.params import Paths, Promote

logger = logging.getLogger(__name__)

PROMOTE = "promote"
REFUSE = "refuse"
ARTIFACT = "generator"


def run(metrics: Path, out: Path, params: Promote) -> dict[str, Any]:
    """Decide whether the challenger replaces the champion.

    Args:
        metrics: `metrics.json` of `evaluate`.
        out: File to write: decision, reason, and the numbers it rests on.
        params: The stage's section.

    Returns:
        What is written.

    Raises:
        InputError: If the metrics are missing or lack `promote.metric`.
    """
    scored = _read(metrics)
    challenger, champion = scored["challenger"], scored.get("champion")
    value = _value(challenger["metrics"], params.metric, metrics)
    reigning = _value(champion["metrics"], params.metric, metrics) if champion else None
    verdict, reason = _decide(value, reigning, champion is not None, scored["sequences"], params)
    if champion and champion["dataset_revision"] != scored["dataset_revision"]:
        reason += (
            f"; the champion was trained on another dataset, {champion['dataset_revision'][:12]}, "
            "and may know these speakers"
        )
    decision = {
        "decision": verdict,
        "reason": reason,
        "metric": params.metric,
        "sequences": scored["sequences"],
        "dataset_revision": scored["dataset_revision"],
        "challenger": {"sha256": challenger["sha256"], "value": value},
        "champion": champion
        and {
            "version": champion["version"],
            "sha256": champion["sha256"],
            "value": reigning,
        },
    }
    records.write_text(out, json.dumps(decision, indent=1, sort_keys=True) + "\n")
    logger.info("promote: %s: %s", verdict, reason)
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
        InputError: If there is no decision, or the run that made the challenger is not known.
        ToolError: If the registry cannot be used.
    """
    decision = _read(decision_file)
    if decision["decision"] != PROMOTE:
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
            "reason": decision["reason"],
        },
    )
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


def _decide(
    value: float | None,
    reigning: float | None,
    has_champion: bool,
    sequences: int,
    params: Promote,
) -> tuple[str, str]:
    if sequences < params.min_sequences:
        return REFUSE, (
            f"{sequences} sequences decide nothing, at least {params.min_sequences} must "
            "(promote.min_sequences)"
        )
    if value is None:
        return REFUSE, f"{params.metric} is n/a for the challenger"
    if not has_champion:
        return PROMOTE, f"there is no champion; {params.metric} is {value:.4g}"
    if reigning is None:
        return PROMOTE, f"{params.metric} is n/a for the champion, {value:.4g} for the challenger"
    gain = value - reigning if params.higher_is_better else reigning - value
    compared = f"{params.metric} is {value:.4g}, the champion's {reigning:.4g}"
    if gain > params.min_improvement:
        return PROMOTE, compared
    return REFUSE, (
        f"{compared}: a gain of more than {params.min_improvement:g} is asked for "
        "(promote.min_improvement)"
    )


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


def _value(metrics: Any, name: str, path: Path) -> float | None:  # noqa: ANN401 - JSON
    found = metrics
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise InputError(f"{path} has no metric {name} (promote.metric): {part} is missing")
        found = found[part]
    return None if found is None else float(found)
