"""How a run of the graph ended, told to people, to MLflow and to a webhook."""

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import tenacity

from mssync import finished, records, tracking
from mssync.errors import ParamsError, ToolError
from mssync.params import Paths, validate
from mssync.steps import BEGUN, DONE, KILLED, Failure, failures, run_folder

logger = logging.getLogger(__name__)

WEBHOOK = "MSSYNC_WEBHOOK_URL"
REPORT = "report.md"
PAYLOAD_VERSION = 1
SUCCEEDED = "SUCCEEDED"
_TIMEOUT_S = 10.0
_ATTEMPTS = 3
_TAG_CHARACTERS = 4000  # MLflow's servers take 5000 or 8000
_LINES = 20  # of a log, in a message that people read on a telephone


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        run_id: Its id.
        state: How the engine says that it ended: `SUCCEEDED`, `FAILED`, `CANCELLED`.
        message: The engine's own words.
        failures: Steps that began and did not end well.
        like: Id of the finished run that was given the same, so that nothing was done; else empty.
        decision: What `promote` decided, and why; empty where it did not come to that.
    """

    run_id: str
    state: str
    message: str
    failures: list[Failure]
    like: str
    decision: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """One line."""
        if self.failures:
            first, more = self.failures[0], len(self.failures) - 1
            rest = f" (and {more} more)" if more else ""
            return f"mssync run {self.run_id}: {self.state}: {first}{rest}"
        if self.like:
            return f"mssync run {self.run_id}: nothing has changed since {self.like}"
        decided = self.decision.get("decision", "")
        why = f": {decided}: {self.decision.get('reason', '')}" if decided else ""
        return f"mssync run {self.run_id}: {self.state}{why}"


def of_run(workspace: Path, state: str, message: str = "") -> Ending:
    """Read what the steps of this run left.

    Args:
        workspace: Folder that all steps share.
        state: How the engine says that the run ended.
        message: The engine's own words.
    """
    run = run_folder(workspace)
    failed = failures(run)
    if state != SUCCEEDED and not failed:
        begun = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{BEGUN}")))
        failed = [
            Failure(
                "a step that never began",
                "",
                KILLED,
                "no report: its image could not be pulled, no machine could take it, or it could "
                f"not write {run}; its own log says more. Begun: {begun or 'none'}",
                [],
            )
        ]
    given = finished.given_to(run)
    like = given.like if given and state == SUCCEEDED else ""
    return Ending(run.name, state, message, failed, like, _decision(workspace, run, like))


def markdown(ending: Ending) -> str:
    """The whole report, with the end of every failed step's log."""
    lines = [f"# Run {ending.run_id}: {ending.state}", ""]
    if ending.message:
        lines += [f"The engine says: {ending.message}", ""]
    for failure in ending.failures:
        lines += [f"- **{failure}**", ""]
        if failure.log:
            lines += ["```", *failure.log, "```", ""]
    if ending.like:
        lines += [
            f"Nothing was done: the list, the parameters and the image are those of the run "
            f"{ending.like}, which ended well. `repeat` makes a run work all the same.",
            "",
        ]
    elif not ending.failures:
        lines += ["All steps ended well.", ""]
    if ending.decision:
        lines += [f"Decision: {ending.decision['decision']}: {ending.decision['reason']}", ""]
    return "\n".join(lines)


def payload(ending: Ending, *, tracking_uri: str) -> dict[str, Any]:
    """What a webhook is sent (docs/pipeline.md); `text` is what chat programs show."""
    told = asdict(ending) | {"version": PAYLOAD_VERSION, "text": ending.summary}
    told["failures"] = [
        asdict(failure) | {"log": failure.log[-_LINES:]} for failure in ending.failures
    ]
    told["decision"] = dict(ending.decision) or None
    told["tracking_uri"] = tracking_uri
    return told


def tell(workspace: Path, state: str, message: str, paths: Mapping[str, Any]) -> str:
    """Report how a run ended, and remember it if it ended well.

    The log, MLflow and the webhook in `$MSSYNC_WEBHOOK_URL` are told; one that fails keeps no other
    from being told.

    Args:
        workspace: Folder that all steps share.
        state: How the engine says that the run ended.
        message: The engine's own words.
        paths: The section of that name of the parameters, which may be what was wrong.

    Returns:
        The report for people, in Markdown.
    """
    ending = of_run(workspace, state, message)
    for failure in ending.failures:
        logger.error("%s", failure)
    report = markdown(ending)
    url = os.environ.get(WEBHOOK, "").strip()
    try:
        records.write_text(run_folder(workspace) / REPORT, report)
        if state == SUCCEEDED and not ending.failures:
            finished.keep(workspace)
        section = validate(Paths, paths, name="paths")
        with contextlib.chdir(workspace):  # as in every step: a store may be a file in it
            _note(ending, section)
    except (OSError, ParamsError) as error:
        logger.warning("MLflow is not told how the run ended: %s", error)
    if url and _post(url, payload(ending, tracking_uri=str(paths.get("tracking_uri", "")))):
        logger.info("the webhook is told")
    return report


def _note(ending: Ending, paths: Paths) -> None:
    """Write how the run ended into the MLflow runs it made, or one of its own if it failed."""
    first = ending.failures[0] if ending.failures else None
    tags = {
        "pipeline.state": ending.state,
        "pipeline.failed_step": f"{first.step} {first.shard}".strip() if first else "",
        "pipeline.reason": first.reason if first else "",
        "pipeline.message": first.message[:_TAG_CHARACTERS] if first else "",
    }
    try:
        tracking.send_unsent()
        noted = tracking.note_ending(
            paths.tracking_uri,
            paths.experiment,
            kfp_run_id=ending.run_id,
            tags=tags,
            report=run_folder(Path()) / REPORT,
            failed=bool(first),
        )
    except ToolError as error:
        logger.warning("MLflow is not told how the run ended: %s", error)
        return
    logger.info("%d MLflow runs say how the run ended", noted)


def _post(url: str, told: Mapping[str, Any]) -> bool:
    """Send it, three times if need be; whether it arrived. The address is a secret: never shown."""
    if not url.startswith(("https://", "http://")):
        logger.warning("$%s is no http(s) address: nobody is told", WEBHOOK)
        return False
    try:
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=0.5, max=10),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        ):
            with attempt:
                httpx.post(url, json=dict(told), timeout=_TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        status = (
            f" {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
        )
        logger.warning("the webhook was not told: %s%s", type(error).__name__, status)
        return False
    return True


def _decision(workspace: Path, run: Path, like: str) -> dict[str, Any]:
    """What this run decided; nothing where `promote` did not end, or had nothing to do."""
    if like or not (run / "promote" / DONE).exists():
        return {}
    try:
        found = json.loads((workspace / finished.DECISION).read_text())
        return {name: found[name] for name in ("decision", "reason")}
    except (OSError, ValueError, KeyError):
        return {}


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)
