"""Which run made which model: a git-ignored file in the folder that a chain runs in."""

import json
from pathlib import Path

from mssync import records

RUNS = Path("run.json")


def remember_run(sha256: str, run_id: str, *, path: Path = RUNS) -> None:
    """Note which run made a model.

    Args:
        sha256: The model's digest.
        run_id: The run.
        path: JSON file, by default in the working folder.
    """
    known = _runs(path) | {sha256: run_id}
    records.write_text(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def recall_run(sha256: str, *, path: Path = RUNS) -> str | None:
    """The run that made a model; None where it is not known."""
    return _runs(path).get(sha256)


def _runs(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known
