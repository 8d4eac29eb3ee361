"""A training on two nodes, whose pods are processes here: created, followed, explained, removed."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mssync import log, steps
from mssync.errors import (
    InputError,
    ProcessFailedError,
    ToolError,
    TrainingStoppedError,
    WorkerLostError,
)
from mssync.launch import job as launcher
from mssync.launch import trainjob
from mssync.launch.order import FILE, Order, Spread
from mssync.launch.start import train
from mssync.trained import checkpoint
from tests.launch.conftest import ENDLESS
from tests.launch.kubernetes_server import JOBS, PODS, serve

NODE = {
    "image": "mssync:dev",
    "cpu": "1",
    "memory": "2Gi",
    "accelerator": "",
    "gpus": 0,
    "node_selector": {},
    "tolerations": [],
    "temporary": "1Gi",
    "shared_memory": "",
    "timeout_s": 300,
}
TWO_NODES = {"nodes": 2, "processes": 1, "job": NODE}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with serve(tmp_path) as (cluster, file):
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield cluster


def left_over(cluster, order, *, changed=False):
    """A job that an earlier try of the step began."""
    report = steps.run_folder(Path(order.workspace)) / order.stage
    order.write(report / FILE)
    spread = Spread.model_validate(TWO_NODES)
    body = trainjob.describe(
        *(order.stage, "run-1", spread, spread.job),
        order_file=report / FILE,
        environment=os.environ,
    )
    if changed:
        body["metadata"]["annotations"][trainjob.ORDER] = "of another order"
    assert cluster.create(json.loads(json.dumps(body)))[0] == 201
    return body["metadata"]["name"]


def created(cluster):
    return [path for verb, path in cluster.seen if verb == "create"]


def test_two_nodes_train_a_generator_after_a_left_over_job_is_replaced(
    cluster, order, workspace, tiny, given
):
    train(order(), {"nodes": 1, "processes": 1})
    before = log.tail()  # of this test and of those before it
    section = tiny.train_generator.model_dump(mode="json") | {"sync_levels": [0]}
    generator = Order.of(
        "train_generator",
        data=workspace / "data" / "dataset",
        syncers=workspace / "models" / "syncers",
        out=workspace / "models" / "generator",
        **given() | {"params": section},
    )
    cluster.cannot_start = {"reason": "ImagePullBackOff"}
    name = left_over(cluster, generator, changed=True)
    cluster.cannot_start = None
    results = train(generator, TWO_NODES)
    assert ("delete", f"{JOBS}/{name}") in cluster.seen
    assert created(cluster) == [JOBS]
    assert cluster.jobs == {}
    assert results == json.loads((workspace / "models/generator/report.json").read_text())
    assert checkpoint.sha256(workspace / "models/generator/generator")
    done = workspace.glob("runs/run-1/train_generator/rank-*/done")
    assert {path.parent.name for path in done} == {"rank-0", "rank-1"}
    said = [line for line in log.tail() if "mssync.training" in line and line not in before]
    assert len(said) == len(set(said)) > 0  # of node 0, each line once


def test_a_node_that_memory_runs_out_on_is_named(cluster, order, when_it_trains):
    when_it_trains(lambda: next(iter(cluster.nodes.values()))[1].kill())
    with pytest.raises(ProcessFailedError, match=r"node 1 .* OOMKilled, exit code 137") as failed:
        train(order(**ENDLESS), TWO_NODES)
    assert failed.value.code == "out_of_memory"
    assert cluster.jobs == {}


def test_a_second_try_waits_for_the_job_of_the_first_and_sigterm_lets_its_nodes_store(
    cluster, order, workspace, when_it_trains
):
    left_over(cluster, order(**ENDLESS))
    when_it_trains(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStoppedError, match="run it again to go on"):
        train(order(**ENDLESS), TWO_NODES)
    assert created(cluster) == []
    assert cluster.jobs == {}
    reports = workspace.glob("runs/run-1/train_syncers/rank-*/failure.json")
    assert [json.loads(path.read_text())["reason"] for path in reports] == ["terminated"] * 2


def test_what_the_account_may_not_is_named_with_the_role(cluster, order):
    cluster.forbidden |= {("create", "trainjobs"), ("delete", "trainjobs")}
    with pytest.raises(ToolError, match=r"may not create trainjobs\.trainer\.kubeflow\.org .*role"):
        train(order(), TWO_NODES)


def test_a_cluster_without_trainer_is_told_what_to_install(cluster, order):
    cluster.trainer = False
    with pytest.raises(ToolError, match=r"install Kubeflow Trainer 2\.2 or newer"):
        train(order(), TWO_NODES)


def test_what_does_not_fit_the_definition_is_the_servers_word(cluster, order):
    wrong = {**TWO_NODES, "job": NODE | {"tolerations": [{"keys": "gpu"}]}}
    with pytest.raises(ToolError, match=r"refuses to create .*'keys' was unexpected"):
        train(order(), wrong)


def test_an_image_that_never_comes_ends_the_wait(cluster, order, monkeypatch):
    monkeypatch.setattr(launcher, "PATIENCE_S", 0.0)
    cluster.cannot_start = {"reason": "ImagePullBackOff", "message": "no such image"}
    with pytest.raises(ProcessFailedError, match="ImagePullBackOff: no such image"):
        train(order(), TWO_NODES)
    assert cluster.jobs == {}


def test_a_job_that_takes_too_long_is_stopped(cluster, order):
    cluster.cannot_start = {"reason": "ContainerCreating"}
    with pytest.raises(TrainingStoppedError, match=r"not through within 1 s \(timeout_s"):
        train(order(), {**TWO_NODES, "job": NODE | {"timeout_s": 1}})
    assert cluster.jobs == {}


def test_a_job_that_somebody_removes_is_lost(cluster, order):
    cluster.cannot_start = {"reason": "ContainerCreating"}

    def remove():
        while ("list", PODS) not in cluster.seen:
            time.sleep(0.02)
        for name in list(cluster.jobs):
            cluster.end(name)

    somebody = threading.Thread(target=remove)
    somebody.start()
    with pytest.raises(WorkerLostError, match="removed by somebody else"):
        train(order(), TWO_NODES)
    somebody.join()


def test_without_a_cluster_and_without_a_job_it_says_what_to_do(order, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match="set `nodes` to 1 in the table of resources"):
        train(order(), TWO_NODES)
    with pytest.raises(ToolError, match="compile it again"):
        train(order(), {"nodes": 2, "processes": 1})


def test_pods_that_may_not_be_seen_do_not_stop_a_job(cluster, order, caplog):
    cluster.forbidden.add(("list", "pods"))
    cluster.cannot_start = {"reason": "ContainerCreating"}
    with pytest.raises(TrainingStoppedError):
        train(order(), {**TWO_NODES, "job": NODE | {"timeout_s": 2}})
    assert "may not list pods" in caplog.text
    assert "what the nodes say stays in the cluster" in caplog.text
