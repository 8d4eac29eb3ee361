"""The last run of a workspace that ended well, and whether another one would be the same.

    <workspace>/runs/<run id>/inputs.json    what a run was given
    <workspace>/finished.json                the same of the last one that ended well

A run that is given what the last finished one was given would make the same again, so it may end
at once. Only a workspace that still holds the decision of that run counts.
"""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from mssync import records, steps, versions

logger = logging.getLogger(__name__)

INPUTS, FINISHED = "inputs.json", "finished.json"
DECISION = Path("promotion/decision.json")


@dataclass(frozen=True)
class Inputs:
    """What a run is given, each as a digest or a word that changes when it does.

    Attributes:
        list: SHA-256 of the list of sources.
        takedown: SHA-256 of the list of what must not come back.
        source_base: What relative sources start from.
        params: Digest of all parameters.
        image: Digest of the image (`$MSSYNC_IMAGE_DIGEST`); SHA-256 of the library's own source
            where the image was not named by one.
        settings: All else that the run was told.
        like: Id of the finished run that was given the same; empty where none was.
    """

    list: str
    takedown: str
    source_base: str
    params: str
    image: str
    settings: str
    like: str = ""


def inputs(
    workspace: Path, *, sources: Path, takedown: Path, source_base: str, params: str, settings: str
) -> Inputs:
    """What this run is given, as of now.

    Args:
        workspace: Folder that all steps share.
        sources: The list, in the workspace.
        takedown: What must not come back; may be missing.
        source_base: What relative sources start from.
        params: Digest of all parameters.
        settings: All else.
    """
    return Inputs(
        list=records.digest((workspace / sources).read_bytes()),
        takedown=records.digest(_content(workspace / takedown)),
        source_base=source_base,
        params=params,
        image=os.environ.get("MSSYNC_IMAGE_DIGEST") or versions.source_digest(""),
        settings=settings,
    )


def begin(workspace: Path, given: Inputs, *, repeat: bool) -> str:
    """Note what a run is given, and say whether the last finished run was given the same.

    Args:
        workspace: Folder that all steps share.
        given: As `inputs` tells.
        repeat: Work also if it was.

    Returns:
        Id of that run; empty if there is work to do.
    """
    before = _last(workspace)
    like = ""
    if before is None:
        logger.info("no finished run in this workspace yet")
    elif changed := _changed(given, before[1]):
        logger.info("since the run %s, changed: %s", before[0], ", ".join(changed))
    elif repeat:
        logger.info("nothing has changed since the run %s; it is repeated, as asked", before[0])
    else:
        like = before[0]
        logger.info("nothing has changed since the run %s: nothing to do", like)
    run = steps.run_folder(workspace)
    records.write_text(run / INPUTS, json.dumps(asdict(given) | {"like": like}, indent=1) + "\n")
    return like


def given_to(run: Path) -> Inputs | None:
    """What a run was given; None where it ended before that was known.

    Args:
        run: As `steps.run_folder` gives it.
    """
    try:
        return Inputs(**json.loads((run / INPUTS).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def keep(workspace: Path) -> None:
    """Remember this run, which ended well, as the last finished one."""
    run = steps.run_folder(workspace)
    given = given_to(run)
    if given is None or given.like:
        return
    kept = {"run": run.name, "decision": records.digest(_content(workspace / DECISION))}
    records.write_text(
        workspace / FINISHED, json.dumps(kept | {"inputs": asdict(given)}, indent=1) + "\n"
    )


def _last(workspace: Path) -> tuple[str, Inputs] | None:
    try:
        kept = json.loads((workspace / FINISHED).read_text())
        run, before = str(kept["run"]), Inputs(**kept["inputs"])
        decided = kept["decision"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    there = workspace / DECISION
    return (run, before) if there.exists() and records.digest(_content(there)) == decided else None


def _changed(given: Inputs, before: Inputs) -> list[str]:
    return [name for name, value in asdict(given).items() if value != getattr(before, name)]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
