"""Logging, set up once: by the command line and by the first line of every component."""

import logging
import os
import sys
import warnings


def set_up(level: str | None = None) -> None:
    """Send the log of this process to standard error, one plain line per record.

    Args:
        level: Name of a logging level; default is `$MSSYNC_LOG`, else `INFO`.
    """
    logging.basicConfig(
        level=(level or os.environ.get("MSSYNC_LOG", "INFO")).upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    for noisy in ("alembic", "mlflow", "httpx", "httpcore", "numba", "absl", "matplotlib", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # TensorFlow Lite and glog, inside MediaPipe, write to standard error by themselves.
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", message=".*GetPrototype.*")
