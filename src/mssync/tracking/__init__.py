"""Where runs are tracked: a protocol, nothing, or MLflow. Nothing else imports mlflow."""

from mssync.tracking.endings import note_ending
from mssync.tracking.finding import TrackedRun, fetch_files, find_run, metric_history
from mssync.tracking.models import RUNS, recall_run, remember_run
from mssync.tracking.registry import (
    CHAMPION,
    MODEL_CARD,
    MODEL_TAG,
    RECIPE,
    Champion,
    Trained,
    champion,
    check,
    download,
    has_artifact,
    lineage_of,
    register_champion,
    roll_back,
    trained_on,
)
from mssync.tracking.runs import GIVEN, UNSENT, MlflowTracker, mlflow_run, of_model, send_unsent
from mssync.tracking.tracker import NullTracker, RunTracker, Tracker, flatten, numbers

__all__ = [
    "CHAMPION",
    "GIVEN",
    "MODEL_CARD",
    "MODEL_TAG",
    "RECIPE",
    "RUNS",
    "UNSENT",
    "Champion",
    "MlflowTracker",
    "NullTracker",
    "RunTracker",
    "TrackedRun",
    "Tracker",
    "Trained",
    "champion",
    "check",
    "download",
    "fetch_files",
    "find_run",
    "flatten",
    "has_artifact",
    "lineage_of",
    "metric_history",
    "mlflow_run",
    "note_ending",
    "numbers",
    "of_model",
    "recall_run",
    "register_champion",
    "remember_run",
    "roll_back",
    "send_unsent",
    "trained_on",
]
