"""Where runs are tracked: a protocol, nothing, or MLflow. The only file that imports mlflow."""

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """What a training loop needs of a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of one step."""


class NullTracker:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Forget the values."""
