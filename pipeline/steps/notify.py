"""Last step, whatever happened before: say how the run ended, and why."""

from typing import Any

from kfp import dsl

from components._base import step


@step
def notify(
    workspace: str,
    status: dsl.PipelineTaskFinalStatus,
    paths: dict[str, Any],
    report: dsl.Output[dsl.Markdown],
) -> None:
    """Tell people, MLflow and a webhook how the run ended, and remember it if it ended well.

    Args:
        workspace: Folder that all steps share.
        status: How the engine says that the other steps ended.
        paths: The `paths` section of the parameters.
        report: Which steps failed, for which reason, with the end of their logs.
    """
    from mssync import log

    log.set_up()
    from pathlib import Path

    from mssync import ending

    told = ending.tell(Path(workspace), status.state, status.error_message, paths)
    Path(report.path).write_text(told)
