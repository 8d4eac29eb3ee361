"""A training step in two processes of this machine, by `torchrun` and Gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import mlflow
import psutil
import pytest

from components.train_syncers import train_syncers
from mssync import log, steps
from mssync.errors import (
    InputError,
    ParamsError,
    ProcessFailedError,
    ToolError,
    TrainingStoppedError,
)
from mssync.launch import outcome
from mssync.launch.start import train
from mssync.trained import checkpoint
from tests.launch.conftest import ENDLESS

ALONE, TWO = (
    {"nodes": 1, "processes": 1},
    {"nodes": 1.0, "processes": 2.0},
)  # as Kubeflow gives them


class Artifact:
    """What the engine hands a step."""

    def __init__(self, path):
        self.path, self.metadata, self.values = str(path), {"path": str(path)}, {}

    def log_metric(self, name, value):
        self.values[name] = value


def run_step(workspace, given, launch):
    """A training step as Kubeflow calls it, with what it leaves to the engine."""
    syncers, metrics = (Artifact(workspace / "kfp" / name) for name in ("syncers", "metrics"))
    train_syncers.python_func(
        workspace=str(workspace),
        dataset=Artifact(workspace / "data" / "dataset"),
        launch=launch,
        **given,
        syncers=syncers,
        metrics=metrics,
    )
    return syncers, metrics.values


def test_two_processes_make_what_one_makes_and_track_one_run(workspace, given, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(workspace, alone)
    _, expected = run_step(alone, given(), ALONE)
    syncers, found = run_step(workspace, given(), TWO)
    assert syncers.metadata["path"] == str(workspace / "models" / "syncers")
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for folder in ("guides/level0", "evaluators/all/level0"):
        one, _ = checkpoint.load(alone / "models" / "syncers" / folder)
        two, _ = checkpoint.load(workspace / "models" / "syncers" / folder)
        for name, tensor in one.items():
            assert (tensor - two[name]).abs().mean() < 1e-5, name
    done = workspace.glob("runs/run-1/train_syncers/rank-*/done")
    assert {path.parent.name for path in done} == {"rank-0", "rank-1"}
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mssync")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"


def test_why_a_process_failed_is_why_the_step_failed(workspace, given):
    log.set_up()
    with pytest.raises(SystemExit) as ended:
        run_step(workspace, given(groups_per_step=3), TWO)
    assert ended.value.code == 1
    (failure,) = steps.failures(workspace / "runs" / "run-1")
    assert (failure.step, failure.reason) == ("train_syncers", "params")
    assert "must be a multiple of the 2 processes that share it, found 3" in failure.message
    assert any("train_syncers/rank-" in line for line in failure.log)
    assert not any("Traceback" in line for line in failure.log if "mssync" in line)


def test_on_sigterm_all_processes_store_and_the_next_try_goes_on(order, workspace, when_it_trains):
    when_it_trains(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStoppedError):
        train(order(**ENDLESS), TWO)
    reports = workspace.glob("runs/run-1/train_syncers/rank-*/failure.json")
    assert [json.loads(path.read_text())["reason"] for path in reports] == ["terminated"] * 2
    assert list(workspace.glob("models/**/*.safetensors"))
    assert not ranks()


def test_one_process_packs_for_all(order, workspace, monkeypatch):
    monkeypatch.setenv("MSSYNC_LOG", "INFO")  # of every process
    train(order(), TWO)
    said = [line for line in log.tail() if "packing" in line and str(workspace) in line]
    assert len(said) == 3  # splits


def test_no_process_outlives_the_step(order, workspace):
    """Killed, that is: nobody would stop the others, and the next try would meet them."""
    file = workspace / "order.json"
    order(**ENDLESS).write(file)
    step = subprocess.Popen([sys.executable, "-c", STEP, str(file)])
    try:
        deadline = time.monotonic() + 120
        while not list(workspace.glob("models/**/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = psutil.Process(step.pid).children(recursive=True)
        assert {process.environ().get("RANK") for process in left} == {None, "0", "1"}
    finally:
        step.kill()
        step.wait()
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive


STEP = """
import sys
from pathlib import Path
from mssync.launch.order import Order
from mssync.launch.start import train
train(Order.read(Path(sys.argv[1])), {"nodes": 1, "processes": 2})
"""


def ranks():
    """Numbers of the processes that work on an order."""
    found = [process.environ() for process in psutil.Process().children(recursive=True)]
    return {variables["RANK"] for variables in found if "RANK" in variables}


def failed(report, rank, reason, message="..."):
    """A process that began and left a report; without a reason it was killed."""
    folder = report / f"rank-{rank}"
    folder.mkdir(parents=True)
    (folder / steps.BEGUN).write_text("")
    if reason:
        left = steps.Failure(f"train_syncers/rank-{rank}", "", reason, message, [])
        (folder / steps.FAILURE).write_text(json.dumps(asdict(left)))


@pytest.mark.parametrize(
    ("reasons", "stopped", "error", "code", "told"),
    [
        (["worker_lost", "diverged"], False, ProcessFailedError, "diverged", "process 1: why"),
        (["terminated", None], False, ProcessFailedError, "worker_lost", "process 1: no report"),
        (["terminated", "worker_lost"], False, ProcessFailedError, "worker_lost", "process 1"),
        (["terminated", "terminated"], False, TrainingStoppedError, "terminated", "process 0"),
        (["terminated", None], True, TrainingStoppedError, "terminated", "stopped by SIGTERM"),
        (["diverged", None], True, ProcessFailedError, "diverged", "process 0: why"),
        ([], False, ToolError, "tool", "torchrun ended"),
    ],
)
def test_the_reason_that_explains_the_others_is_the_steps(
    tmp_path, reasons, stopped, error, code, told
):
    for rank, reason in enumerate(reasons):
        failed(tmp_path, rank, reason, "why")
    with pytest.raises(error, match=told) as raised:
        outcome.raise_for(outcome.failure(tmp_path), stopped=stopped, otherwise="torchrun ended")
    assert raised.value.code == code


def test_processes_that_worked_elsewhere_are_no_success(tmp_path):
    with pytest.raises(InputError, match="but 0 of 4 say so"):
        outcome.check(tmp_path, processes=4, patience_s=0)


def test_what_does_not_fit_is_refused_before_anything_starts(order, workspace):
    with pytest.raises(ParamsError, match="launch"):
        train(order(), {"nodes": 0, "processes": 2})
    with pytest.raises(ParamsError, match="train_syncers"):
        order(temperature=-1.0)
    assert not (workspace / "runs").exists()
