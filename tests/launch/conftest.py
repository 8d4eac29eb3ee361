"""A workspace with a small dataset, and what a training step is given in it."""

import shutil
import threading
import time

import pytest

from mssync import steps
from mssync.launch.order import Order
from tests.handmade import build, write_inputs

SMALL = {
    "guide_steps": [4, 0, 0, 0],
    "evaluator_steps": [2, 0, 0, 0],
    "evaluator_points": ["all"],
}
ENDLESS = {"guide_steps": [1_000_000, 0, 0, 0]}


@pytest.fixture(scope="session")
def prepared(tiny, tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("launch") / "workspace"
    write_inputs(folder, {f"p{number}/a": {} for number in range(8)})
    build(folder, tiny.build_dataset)
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def workspace(prepared, tmp_path, monkeypatch):
    """A copy of it, where the process works."""
    folder = tmp_path / "workspace"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(steps.RUN_ID, "run-1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(scope="session")
def given(tiny):
    """The sections of a step of `train_syncers`, small, with changes."""

    def given(**changes):
        return {
            "params": tiny.train_syncers.model_dump(mode="json") | SMALL | changes,
            "run": tiny.run.model_dump(mode="json"),
            "paths": tiny.paths.model_dump(mode="json"),
            "params_hash": "h",
        }

    return given


@pytest.fixture
def order(workspace, given):
    def order(**changes):
        return Order.of(
            "train_syncers",
            data=workspace / "data" / "dataset",
            out=workspace / "models" / "syncers",
            **given(**changes),
        )

    return order


@pytest.fixture
def when_it_trains(workspace):
    """Call something, from a thread, as soon as the first checkpoint is there."""
    threads = []

    def when_it_trains(action):
        def wait():
            deadline = time.monotonic() + 120
            while not list(workspace.glob("models/**/*.safetensors")):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            action()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield when_it_trains
    for thread in threads:
        thread.join()
