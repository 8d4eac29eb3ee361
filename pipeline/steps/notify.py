"""Last step, whatever happened before: say how the run ended, and why."""

from kfp import dsl

from components._base import step


@step
def notify(
    workspace: str,
    status: dsl.PipelineTaskFinalStatus,
    report: dsl.Output[dsl.Markdown],
) -> None:
    """Report how the run ended: which steps failed, for which reason, with the end of their logs.

    Args:
        workspace: Folder that all steps share.
        status: How the engine says that the other steps ended.
        report: The same for people.
    """
    from mssync import log, steps

    log.set_up()
    from pathlib import Path

    Path(report.path).write_text(steps.account(Path(workspace), status.state, status.error_message))
