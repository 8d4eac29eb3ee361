"""How a run ended, told to people, a real MLflow store and a real HTTP server."""

import json
import shutil
import threading
from contextlib import chdir
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest

from mssync import ending, finished, steps, tracking

SECRET = "T0K3N"


@pytest.fixture
def workspace(tmp_path, monkeypatch, empty_store):
    shutil.copy(empty_store, tmp_path)
    monkeypatch.setenv(steps.RUN_ID, "run-1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(tracking.GIVEN, raising=False)
    monkeypatch.delenv(ending.WEBHOOK, raising=False)
    return tmp_path


@pytest.fixture
def paths(tiny):
    return tiny.paths.model_dump()


@pytest.fixture
def hook(monkeypatch):
    """A server that keeps what it is sent, and answers with the statuses it is given, then 200."""
    received, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(ending.WEBHOOK, f"http://127.0.0.1:{server.server_port}/{SECRET}")
    yield received, statuses
    server.shutdown()
    server.server_close()


def fail(workspace, step="train_syncers", message="the loss is not finite"):
    folder = steps.run_folder(workspace) / step
    folder.mkdir(parents=True)
    (folder / steps.BEGUN).touch()
    failure = steps.Failure(step, "", "diverged", message, [f"line {n}" for n in range(100)])
    (folder / steps.FAILURE).write_text(json.dumps(vars(failure)))


def runs(workspace, paths):
    with chdir(workspace):
        client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(paths["experiment"])
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        return [(run, client.list_artifacts(run.info.run_id)) for run in found]


def test_a_run_in_which_no_step_began_is_not_called_well(workspace, paths):
    told = ending.tell(workspace, "FAILED", "image not found", paths)
    assert "a step that never began" in told
    assert "The engine says: image not found" in told


def test_a_run_that_ended_well_is_said_so_and_remembered(workspace, paths):
    given = finished.Inputs("l", "t", "b", "p", "i", "s")
    finished.begin(workspace, given, repeat=False)
    assert "All steps ended well" in ending.tell(workspace, "SUCCEEDED", "", paths)
    assert json.loads((workspace / finished.FINISHED).read_text())["run"] == "run-1"


def test_a_run_that_failed_is_not_remembered(workspace, paths):
    finished.begin(workspace, finished.Inputs("l", "t", "b", "p", "i", "s"), repeat=False)
    fail(workspace)
    ending.tell(workspace, "FAILED", "", paths)
    assert not (workspace / finished.FINISHED).exists()


def test_a_failure_before_any_training_is_a_failed_run_in_mlflow(workspace, paths):
    fail(workspace, "gather", "0 of 1 clips survive")
    ending.tell(workspace, "FAILED", "", paths)
    ((run, artifacts),) = runs(workspace, paths)
    assert run.info.status == "FAILED"
    assert run.data.tags["pipeline.failed_step"] == "gather"
    assert run.data.tags["pipeline.reason"] == "diverged"
    assert run.data.tags["pipeline.message"] == "0 of 1 clips survive"
    assert [artifact.path for artifact in artifacts] == [ending.REPORT]


def test_the_runs_of_the_pipeline_are_told_and_no_other_is_made(workspace, paths):
    fail(workspace)
    with chdir(workspace):
        for name, of_run in (("mine", "run-1"), ("other", "run-0")):
            with tracking.mlflow_run(
                paths["tracking_uri"],
                paths["experiment"],
                name=name,
                key=name,
                tags={"kfp_run_id": of_run},
                params={},
            ):
                pass
    ending.tell(workspace, "FAILED", "", paths)
    states = {
        run.info.run_name: run.data.tags.get("pipeline.state") for run, _ in runs(workspace, paths)
    }
    assert states == {"mine": "FAILED", "other": None}


def test_the_run_that_the_engine_gave_and_its_parent_are_told(workspace, paths, monkeypatch):
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    where = client.create_experiment(paths["experiment"])
    parent = client.create_run(where).info.run_id
    child = client.create_run(where, tags={"mlflow.parentRunId": parent}).info.run_id
    monkeypatch.setenv(tracking.GIVEN, child)
    ending.tell(workspace, "SUCCEEDED", "", paths)
    told = {
        run.info.run_id: run.data.tags.get("pipeline.state") for run, _ in runs(workspace, paths)
    }
    assert told == {parent: "SUCCEEDED", child: "SUCCEEDED"}


def test_a_webhook_is_told_step_reason_and_the_end_of_the_log(workspace, paths, hook):
    received, _ = hook
    fail(workspace)
    ending.tell(workspace, "FAILED", "", paths)
    (told,) = map(json.loads, received)
    assert told["version"] == ending.PAYLOAD_VERSION
    assert (told["run_id"], told["state"]) == ("run-1", "FAILED")
    (failure,) = told["failures"]
    assert (failure["step"], failure["reason"]) == ("train_syncers", "diverged")
    assert failure["log"][-1] == "line 99"
    assert len(failure["log"]) == 20
    assert told["text"] == (
        "mssync run run-1: FAILED: train_syncers: diverged: the loss is not finite"
    )
    assert told["decision"] is None


def test_a_webhook_is_told_what_was_decided(workspace, paths, hook):
    received, _ = hook
    done = steps.run_folder(workspace) / "promote"
    done.mkdir(parents=True)
    (done / steps.DONE).touch()
    (workspace / "promotion").mkdir()
    (workspace / finished.DECISION).write_text(
        '{"decision": "refuse", "reason": "no better", "verdicts": {}}'
    )
    report = ending.tell(workspace, "SUCCEEDED", "", paths)
    (told,) = map(json.loads, received)
    assert told["decision"] == {"decision": "refuse", "reason": "no better"}
    assert told["text"] == "mssync run run-1: SUCCEEDED: refuse: no better"
    assert "Decision: refuse: no better" in report


def test_a_webhook_that_is_busy_is_asked_again(workspace, paths, hook):
    received, statuses = hook
    statuses += [503, 429]
    ending.tell(workspace, "SUCCEEDED", "", paths)
    assert len(received) == 3
    assert received[0] == received[2]


@pytest.mark.parametrize("status", [404, 302])
def test_a_webhook_that_will_not_have_it_is_asked_once_and_not_named(
    workspace, paths, hook, status, caplog
):
    received, statuses = hook
    statuses.append(status)
    ending.tell(workspace, "SUCCEEDED", "", paths)
    assert len(received) == 1
    assert f"the webhook was not told: HTTPStatusError {status}" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [f"http://127.0.0.1:9/{SECRET}", f"file:///{SECRET}", SECRET])
def test_a_webhook_that_cannot_be_reached_fails_nothing_and_is_not_named(
    workspace, paths, monkeypatch, url, caplog
):
    monkeypatch.setenv(ending.WEBHOOK, url)
    assert "All steps ended well" in ending.tell(workspace, "SUCCEEDED", "", paths)
    assert "told" in caplog.text
    assert SECRET not in caplog.text


def test_parameters_that_are_wrong_keep_nobody_from_being_told(workspace, hook, caplog):
    received, _ = hook
    fail(workspace, "shard", "paths.experiment: missing")
    ending.tell(workspace, "FAILED", "", {"tracking_uri": 3})
    assert len(received) == 1
    assert "MLflow is not told how the run ended: paths does not fit the schema" in caplog.text


def test_a_store_that_cannot_be_used_keeps_nobody_from_being_told(workspace, paths, hook, caplog):
    received, _ = hook
    fail(workspace)
    told = ending.tell(workspace, "FAILED", "", paths | {"tracking_uri": "nosuch://nowhere/x"})
    assert "train_syncers: diverged" in told
    assert len(received) == 1
    assert "MLflow is not told how the run ended" in caplog.text
