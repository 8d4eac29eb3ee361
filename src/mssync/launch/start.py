"""Starts a training: here, in several processes here, or as a job of several machines."""

import json
import logging
from pathlib import Path
from typing import Any

from mssync import steps
from mssync.errors import StageFailedError
from mssync.launch import outcome, processes
from mssync.launch.order import FILE, Order, Spread, work
from mssync.params import validate
from mssync.training.stopping import stoppable, termination

logger = logging.getLogger(__name__)

REPORT = "report.json"
# NFS looks for what other machines wrote every half minute or so.
SEEN_WITHIN_S = 60.0


def train(order: Order, launch: dict[str, Any]) -> dict[str, float]:
    """Work on an order, spread as is said.

    Args:
        order: What.
        launch: Fields of a `Spread`.

    Returns:
        What the stage reports.

    Raises:
        ParamsError: If `launch` is no `Spread`.
        TrainingStoppedError: On SIGTERM; what is finished is stored, and a step under way too.
        ProcessFailedError: If a process failed, with its reason.
        ToolError: If the processes cannot be started.
    """
    spread = validate(Spread, launch, name="launch")
    if spread.nodes * spread.processes == 1:
        return work(order)
    report = steps.run_folder(Path(order.workspace)) / order.stage
    file = report / FILE
    order.write(file)
    logger.info("%s: %d processes on each of %d nodes", order.stage, spread.processes, spread.nodes)
    with stoppable(), termination() as stop:
        if spread.nodes > 1:
            from mssync.launch import job

            job.run(order.stage, file, spread, stop=stop)
        else:
            outcome.clear(report)
            code = processes.run(file, processes=spread.processes, stop=stop)
            if code:
                outcome.raise_for(
                    outcome.failure(report),
                    stopped=stop(),
                    otherwise=f"torchrun ended with code {code}",
                )
        patience_s = SEEN_WITHIN_S if spread.nodes > 1 else 0
        outcome.check(report, processes=spread.nodes * spread.processes, patience_s=patience_s)
        return _reported(Path(order.out))


def _reported(out: Path) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads((out / REPORT).read_text())
    except (OSError, ValueError) as error:
        raise StageFailedError(
            f"all processes ended well, but there is no {out / REPORT}: does every one of them see "
            "the same workspace?"
        ) from error
    return found
