"""What a stage needs of a tracker, and the tracker that tracks nothing."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """What a training loop needs of a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of one step."""


class RunTracker(Tracker, Protocol):
    """What a training stage needs of a tracker. No method waits for a server, none raises."""

    def log_files(self, path: Path, folder: str) -> None:
        """Keep a file or a folder, as it is now, as artifacts under `folder`."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""

    def made(self, sha256: str) -> None:
        """Note that the run made the model of that digest, and that its files were logged."""


class NullTracker:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Forget the values."""

    def log_files(self, path: Path, folder: str) -> None:
        """Leave the files where they are."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Forget the tags."""

    def made(self, sha256: str) -> None:
        """Forget the model."""


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping as one, names joined by dots."""
    flat = dict[str, object]()
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def numbers(nested: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested mapping, names joined by dots."""
    return {
        name: float(value)
        for name, value in flatten(nested, prefix).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
