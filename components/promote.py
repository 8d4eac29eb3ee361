"""KFP step around `mssync.stages.promote`."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def promote(
    workspace: str,
    scores: dsl.Input[dsl.Artifact],
    params: dict[str, Any],
    paths: dict[str, Any],
    apply: bool,
    decision: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Decide whether the new model replaces the champion, and why.

    Args:
        workspace: Folder that all steps share.
        scores: Reference to `metrics.json` of `evaluate`.
        params: The `promote` section of the parameters.
        paths: The `paths` section.
        apply: Carry the decision out in the model registry.
        decision: Reference to `decision.json`.
        metrics: The values that were compared.

    Returns:
        `promote` or `refuse`.
    """
    from mssync import log, steps

    log.set_up()
    with steps.step("promote", workspace):
        from pathlib import Path

        from mssync.params import Paths, Promote, validate
        from mssync.stages import promote as stage

        out = Path("promotion/decision.json")
        section = validate(Promote, params, name="promote")
        scored = steps.referred(scores)
        results = stage.run(scored, out, section)
        if apply:
            stage.apply(out, scored, section, validate(Paths, paths, name="paths"))
        verdict = str(results["decision"])
        steps.refer(decision, out, decision=verdict, reason=results["reason"])
        steps.log_metrics(metrics, results)
    return verdict
