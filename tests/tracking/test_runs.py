"""A run reaches its store whole, however often that goes away; the stage never waits for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import kfp_server_api
import mlflow
import pytest

from mssync import tracking, versions
from mssync.errors import ToolError
from mssync.steps import RUN_ID
from mssync.tracking import spool as spools
from pipeline import views
from tests.mlflow_server import Server

SHA256 = "a" * 64
LOCAL = "sqlite:///mlflow.db"


def here():
    """An experiment for each test."""
    return Path.cwd().parent.name


def tracked(uri, *, name="train-generator", key="key", params=None):
    return tracking.mlflow_run(
        uri,
        here(),
        name=name,
        key=key,
        tags={"git_sha": "abc"},
        params={"steps": 60, "generator": {"width": 8}} if params is None else params,
    )


def train(tracker, steps, *, meanwhile=None, pause_s=0.02):
    """Log as a training does.

    Returns:
        What was logged, and the longest call in seconds.
    """
    logged, longest_s = [], 0.0
    for step in range(steps):
        if meanwhile and step in meanwhile:
            meanwhile[step]()
        value = 1 / (step + 1)
        start = time.perf_counter()
        tracker.log({"train/loss": value, "train/grad_norm": 2 * value}, step)
        longest_s = max(longest_s, time.perf_counter() - start)
        logged.append((step, value))
        time.sleep(pause_s)
    return logged, longest_s


def unsent():
    return [path for path in tracking.UNSENT.glob("*") if path.is_dir()]


def test_a_server_that_dies_and_returns_gets_every_value_while_the_training_goes_on(tmp_path):
    server = Server(tmp_path / "server")
    try:
        server.start()
        with tracked(server.uri) as tracker:
            logged, longest_s = train(tracker, 60, meanwhile={20: server.stop, 40: server.start})
        assert longest_s < 0.25
        [run] = server.runs(here())
        assert server.history(run, "train/loss") == logged
        assert [step for step, _ in server.history(run, "train/grad_norm")] == list(range(60))
    finally:
        server.stop()
    assert run.info.status == "FINISHED"
    assert run.data.params == {"steps": "60", "generator.width": "8"}
    assert not tracking.UNSENT.exists()


def test_a_server_that_comes_after_the_stage_has_ended_gets_the_whole_run(server, tmp_path):
    weights = tmp_path / "generator" / "weights"
    weights.parent.mkdir()
    weights.write_bytes(b"as they were")
    began_ms = int(time.time() * 1000)
    with tracked(server.uri) as tracker:
        logged, longest_s = train(tracker, 10)
        tracker.log_files(weights.parent, "generator")
        tracker.made(SHA256)
    ended_ms = time.time() * 1000
    assert longest_s < 0.25
    assert tracking.recall_run(SHA256) is None  # no run has it yet
    weights.unlink()
    weights.write_bytes(b"of a later training")

    with pytest.raises(ToolError, match=r"cannot be used.*it waits in mlflow\.unsent"):
        tracking.send_unsent()
    server.open()
    tracking.send_unsent()

    [run] = server.runs(here())
    assert server.history(run, "train/loss") == logged
    assert run.info.status == "FINISHED"
    assert began_ms <= run.info.start_time <= run.info.end_time <= ended_ms
    times = [m.timestamp for m in server.client.get_metric_history(run.info.run_id, "train/loss")]
    assert all(began_ms - 1 <= each <= ended_ms for each in times)
    assert tracking.recall_run(SHA256) == run.info.run_id
    found = server.client.download_artifacts(run.info.run_id, "generator/weights", str(tmp_path))
    assert Path(found).read_bytes() == b"as they were"
    assert not tracking.UNSENT.exists()


def test_a_command_sends_what_waits_and_fails_while_it_cannot(server):
    with tracked(server.uri) as tracker:
        train(tracker, 3)
    command = [sys.executable, "-m", "mssync", "send-runs"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "it waits in mlflow.unsent" in refused.stderr
    assert "Traceback" not in refused.stderr
    server.open()
    sent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr
    [run] = server.runs(here())
    assert [step for step, _ in server.history(run, "train/loss")] == [0, 1, 2]


def test_the_next_stage_sends_what_an_earlier_one_left(server):
    with tracked(server.uri, key="first", name="train-syncers") as tracker:
        logged, _ = train(tracker, 5)
    server.open()
    with tracked(server.uri, key="second"):
        pass
    runs = {run.info.run_name: run for run in server.runs(here())}
    assert sorted(runs) == ["train-generator", "train-syncers"]
    assert server.history(runs["train-syncers"], "train/loss") == logged
    assert not unsent()


def test_the_same_stage_goes_on_in_its_own_run(server):
    with tracked(server.uri) as tracker:
        train(tracker, 3)
    server.open()
    with tracked(server.uri) as tracker:
        tracker.log({"val/loss": 0.5}, 3)
    [run] = server.runs(here())
    assert [step for step, _ in server.history(run, "train/loss")] == [0, 1, 2]
    assert server.history(run, "val/loss") == [(3, 0.5)]


def test_a_process_that_is_killed_loses_nothing(server):
    program = f"""
import os, signal
from mssync import tracking, versions

with tracking.mlflow_run(
    {server.uri!r}, {here()!r}, name="train", key="key", tags={{}}, params={{}}
) as tracker:
    for step in range(50):
        tracker.log({{"train/loss": float(step)}}, step)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()
    server.open()
    tracking.send_unsent()
    [run] = server.runs(here())
    assert server.history(run, "train/loss") == [(step, float(step)) for step in range(50)]
    assert run.info.status == "RUNNING"  # nobody said that it ended


def test_sending_again_what_has_arrived_changes_nothing(server):
    with tracked(server.uri) as tracker:
        logged, _ = train(tracker, 5)
    server.open()
    [folder] = unsent()
    entries = (folder / "entries.jsonl").read_bytes()
    tracking.send_unsent()
    folder.mkdir(parents=True)  # as if the answers had been lost
    (folder / "entries.jsonl").write_bytes(entries)
    tracking.send_unsent()
    [run] = server.runs(here())
    assert server.history(run, "train/loss") == logged


def test_a_server_that_accepts_and_never_answers_stops_no_training(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        start = time.monotonic()
        with tracked(f"http://127.0.0.1:{deaf.getsockname()[1]}") as tracker:
            _, longest_s = train(tracker, 20, pause_s=0.1)
        assert longest_s < 0.25
        assert time.monotonic() - start < 20  # the first request, the last, and one between
    assert len(unsent()) == 1


def test_a_stage_that_fails_leaves_a_run_that_failed():
    with pytest.raises(ZeroDivisionError), tracked(LOCAL):
        raise ZeroDivisionError
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name(here()).experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    assert not unsent()


@pytest.mark.parametrize(
    "uri",
    [
        "nosuchscheme://somewhere",
        "mssql+pymssql://user@127.0.0.1/runs",  # a driver that is not installed
        "sqlite:///notes.txt",
        "http://127.0.0.1:99999",
    ],
)
def test_a_store_that_will_never_work_is_refused_at_the_start(uri):
    Path("notes.txt").write_text("no database\n" * 100)
    with pytest.raises(ToolError, match=r"\(paths.tracking_uri\) cannot be used"), tracked(uri):
        pytest.fail("the stage began")
    assert not tracking.UNSENT.exists()


def test_an_address_that_is_not_mlflows_is_refused_at_the_start(tmp_path):
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            port = process.stdout.readline().split(" port ")[1].split()[0]
            uri = f"http://127.0.0.1:{port}"
            with pytest.raises(ToolError, match="cannot be used"), tracked(uri):
                pytest.fail("the stage began")
        finally:
            process.kill()


def test_stages_share_a_run_that_was_given(monkeypatch):
    uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("of somebody else")
    run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    for name, steps in (("train-syncers", 5), ("train-generator", 7)):
        with tracked(uri, name=name, key=name, params={"steps": steps}) as tracker:
            tracker.log({f"{name}/loss": 1.0}, 0)
            tracker.made(name)
    with pytest.raises(ValueError, match="loss"), tracked(uri, name="third", key="third"):
        raise ValueError("loss")

    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"  # whoever made it ends it
    assert run.data.params["train-syncers.steps"] == "5"
    assert run.data.params["train-generator.steps"] == "7"
    assert run.data.tags["git_sha"] == "abc"
    assert run.data.tags["mssync.train-generator.status"] == "FINISHED"
    assert run.data.tags["mssync.third.status"] == "FAILED"
    assert set(run.data.metrics) == {"train-syncers/loss", "train-generator/loss"}
    assert tracking.recall_run("train-generator") == run_id
    assert client.get_experiment_by_name(here()) is None


def test_a_given_run_that_does_not_exist_is_refused_at_the_start(monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ToolError, match=r"0000.*MLFLOW_RUN_ID"), tracked(LOCAL):
        pytest.fail("the stage began")


def test_what_the_store_will_never_take_is_put_aside_and_the_rest_arrives(monkeypatch, caplog):
    uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("given")).info.run_id
    client.log_param(run_id, "train.steps", 1)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with tracked(uri, name="train", params={"steps": 2, "batch": 3}) as tracker:
        tracker.log({"a name that is no name: ?*": 1.0, "loss": 2.0}, 0)
        tracker.log({"loss": 1.0}, 1)
    run = client.get_run(run_id)
    assert run.data.params == {"train.steps": "1", "train.batch": "3"}
    assert run.data.metrics == {"loss": 1.0}
    assert "train.steps" in caplog.text
    [aside] = (tracking.UNSENT / "refused.jsonl").read_text().splitlines()
    assert json.loads(aside)["values"] == {"a name that is no name: ?*": 1.0, "loss": 2.0}


def test_scores_join_the_run_of_a_model_that_has_not_arrived_yet(server, tmp_path):
    scores = tmp_path / "metrics.json"
    scores.write_text("{}")
    with tracked(server.uri) as tracker:
        train(tracker, 2)
        tracker.made(SHA256)
    with tracking.of_model(server.uri, SHA256) as tracker:
        tracker.log({"eval.score": 3.0}, 0)
        tracker.log_files(scores, "evaluation")
    server.open()
    tracking.send_unsent()
    [run] = server.runs(here())
    assert run.data.metrics["eval.score"] == 3.0
    assert run.info.status == "FINISHED"
    listed = server.client.list_artifacts(run.info.run_id, "evaluation")
    assert [each.path for each in listed] == ["evaluation/metrics.json"]


def test_nobody_knows_the_run_of_a_model_that_was_made_elsewhere():
    with tracking.of_model(LOCAL, SHA256) as tracker:
        assert tracker is None


def test_a_line_that_a_crash_tore_is_dropped_and_those_before_it_stay(tmp_path):
    spool = spools.opened(tmp_path, "run")
    for step in range(3):
        spool.append({"kind": "metrics", "step": step})
    spool.close()
    path = tmp_path / "run" / "entries.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    spool = spools.opened(tmp_path, "run")
    spool.append({"kind": "end"})
    found = [stored.entry for stored in spool.waiting()]
    assert [entry.get("step", entry["kind"]) for entry in found] == [0, 1, "end"]
    spool.close()


def test_a_spool_that_another_process_has_is_left_to_it(tmp_path):
    spool = spools.opened(tmp_path, "run")
    assert list(spools.left(tmp_path)) == []
    other = spools.opened(tmp_path, "run")
    assert other.folder != spool.folder
    for each in (spool, other):
        each.close()


def test_the_link_of_a_kubeflow_run_finds_what_its_steps_logged(server, monkeypatch):
    paths = {"tracking_uri": f"{server.uri}/", "experiment": here()}
    run = kfp_server_api.V2beta1Run(
        run_id="run-1",
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters={"paths": paths}),
    )
    told = views.mlflow_page(run, {})
    assert told == f"{server.uri}, experiment {here()}, runs with tags.kfp_run_id = 'run-1'"
    server.open()
    for run_id in ("run-1", "run-2"):
        monkeypatch.setenv(RUN_ID, run_id)
        tags = versions.lineage(dataset_revision="a", params_hash="b", seed=0, workspace=Path.cwd())
        with tracking.mlflow_run(
            server.uri, here(), name="evaluate", key=run_id, tags=tags, params={}
        ):
            pass
    page, _, search = views.mlflow_page(run, {}).partition("?searchFilter=")
    number = server.client.get_experiment_by_name(here()).experiment_id
    assert page == f"{server.uri}/#/experiments/{number}"
    (found,) = server.client.search_runs([number], unquote(search))
    assert found.data.tags["kfp_run_id"] == "run-1"
