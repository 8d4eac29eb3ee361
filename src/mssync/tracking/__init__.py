"""Where runs are tracked: a protocol, nothing, or MLflow. Nothing else imports mlflow."""

from mssync.tracking.models import RUNS, recall_run, remember_run
from mssync.tracking.registry import (
    CHAMPION,
    MODEL_CARD,
    MODEL_TAG,
    Champion,
    Trained,
    champion,
    check,
    download,
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
    "RUNS",
    "UNSENT",
    "Champion",
    "MlflowTracker",
    "NullTracker",
    "RunTracker",
    "Tracker",
    "Trained",
    "champion",
    "check",
    "download",
    "flatten",
    "lineage_of",
    "mlflow_run",
    "numbers",
    "of_model",
    "recall_run",
    "register_champion",
    "remember_run",
    "roll_back",
    "send_unsent",
    "trained_on",
]
