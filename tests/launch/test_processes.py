"""A training step in two processes of this machine, by `torchrun` and Gloo."""

import json
import os
import shutil
import signal

import mlflow
import psutil
import pytest

from components.train_generator import train_generator
from components.train_syncers import train_syncers
from mssync import log, steps
from mssync.errors import ParamsError, ProcessFailedError, TrainingStoppedError
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


def run_steps(workspace, given, tiny, launch):
    """Both training steps, as Kubeflow calls them; their metrics."""
    syncers, generator = (Artifact(workspace / "kfp" / name) for name in ("syncers", "generator"))
    dataset, found = Artifact(workspace / "data" / "dataset"), []
    shared = {"workspace": str(workspace), "dataset": dataset, "launch": launch}
    metrics = Artifact(workspace / "kfp" / "metrics")
    train_syncers.python_func(**shared, **given(), syncers=syncers, metrics=metrics)
    found.append(dict(metrics.values))
    section = {"params": tiny.train_generator.model_dump(mode="json") | {"sync_levels": [0]}}
    train_generator.python_func(
        **shared, **given() | section, syncers=syncers, generator=generator, metrics=metrics
    )
    found.append(metrics.values)
    return found


def test_two_processes_make_what_one_makes_and_track_one_run_a_stage(
    workspace, given, tiny, tmp_path
):
    alone = tmp_path / "alone"
    shutil.copytree(workspace, alone)
    expected = run_steps(alone, given, tiny, ALONE)
    found = run_steps(workspace, given, tiny, TWO)
    for one, two in zip(expected, found, strict=True):
        assert one.keys() == two.keys()
    for folder in ("syncers/guides/level0", "syncers/evaluators/all/level0"):
        one, _ = checkpoint.load(alone / "models" / folder)
        two, _ = checkpoint.load(workspace / "models" / folder)
        for name, tensor in one.items():
            assert (tensor - two[name]).abs().mean() < 1e-5, name
    report = workspace / "runs" / "run-1" / "train_generator"
    assert {path.parent.name for path in report.glob("rank-*/done")} == {"rank-0", "rank-1"}
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mssync")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["train-generator", "train-syncers"]


def test_why_a_process_failed_is_why_the_step_failed(workspace, given):
    log.set_up()
    metrics = Artifact(workspace / "kfp" / "metrics")
    with pytest.raises(SystemExit) as ended:
        train_syncers.python_func(
            workspace=str(workspace),
            dataset=Artifact(workspace / "data" / "dataset"),
            launch=TWO,
            **given(groups_per_step=3),
            syncers=metrics,
            metrics=metrics,
        )
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


def ranks():
    """Processes that work on an order, by their number."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        if "mssync.launch.rank" in process.cmdline() and "RANK" in process.environ():
            found[process.environ()["RANK"]] = process
    return found


def test_a_process_that_is_killed_is_named(order, when_it_trains):
    when_it_trains(lambda: ranks()["1"].kill())
    with pytest.raises(ProcessFailedError, match="process 1: no report: killed") as failed:
        train(order(**ENDLESS), TWO)
    assert failed.value.code == "worker_lost"
    assert not ranks()


def test_what_does_not_fit_is_refused_before_anything_starts(order, workspace):
    with pytest.raises(ParamsError, match="launch"):
        train(order(), {"nodes": 0, "processes": 2})
    with pytest.raises(ParamsError, match="train_syncers"):
        order(temperature=-1.0)
    assert not (workspace / "runs").exists()
