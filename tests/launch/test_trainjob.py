"""What a launcher writes for Kubeflow Trainer, and how it reads what the cluster says."""

import copy
import json

import pytest

from mssync.launch import pods, trainjob
from mssync.launch.order import Job, Spread
from tests import schemas

JOB = Job(
    image="registry.example/mssync@sha256:" + "0" * 64,
    cpu="8",
    memory="64Gi",
    accelerator="nvidia.com/gpu",
    gpus=4,
    node_selector={"gpu-memory": "80"},
    tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    temporary="10Gi",
    shared_memory="8Gi",
    timeout_s=3600,
)
SPREAD = Spread(nodes=2, processes=4, job=JOB)
ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "MLFLOW_RUN_ID": "abc",
    "MLFLOW_TRACKING_TOKEN": "hunter2",
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
    "MSSYNC_WEBHOOK_URL": "https://hooks.example/hunter2",
    "MSSYNC_MEDIA": "/workspace/media",
    "KFP_RUN_ID": "run-1",
    "KFP_POD_NAME": "step-pod",
    "KFP_POD_UID": "uid-1",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "TORCH_HOME": "/workspace/cache/torch",
    "PATH": "/bin",
}


@pytest.fixture
def described(tmp_path):
    """A job, for an order with a text."""

    def described(text="{}", environment=ENVIRONMENT, job=JOB):
        file = tmp_path / "order.json"
        file.write_text(text)
        spread = SPREAD.model_copy(update={"job": job})
        return trainjob.describe(
            "train_generator", "run-1", spread, job, order_file=file, environment=environment
        )

    return described


@pytest.fixture(scope="module")
def definition():
    return schemas.of_kubeflow()


def test_a_job_fits_the_definition_of_its_kind(described, definition):
    assert schemas.problems(described(), definition) == []
    plain = JOB.model_copy(
        update={"gpus": 0, "node_selector": {}, "tolerations": [], "shared_memory": ""}
    )
    assert schemas.problems(described(environment={}, job=plain), definition) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.update(podSpecOverrides=[]), "podSpecOverrides"),
        (lambda spec: spec["trainer"].update(numNodes="two"), "not of type 'integer'"),
        (lambda spec: spec["runtimePatches"][0].pop("manager"), "'manager' is a required"),
        (lambda spec: spec["trainer"].update(numProcPerNode="auto"), "numProcPerNode"),
    ],
)
def test_what_a_server_would_refuse_or_drop_is_found(described, definition, change, told):
    body = copy.deepcopy(described())
    change(body["spec"])
    assert any(told in each for each in schemas.problems(body, definition))


def test_nodes_get_what_the_step_was_told_but_no_secret(described):
    body = described()
    passed = {each["name"]: each["value"] for each in body["spec"]["trainer"]["env"]}
    assert passed == {
        "KFP_RUN_ID": "run-1",
        "MLFLOW_RUN_ID": "abc",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MSSYNC_MEDIA": "/workspace/media",
        "TORCH_HOME": "/workspace/cache/torch",
    }
    assert "hunter2" not in json.dumps(body)


def test_a_job_asks_for_what_the_table_says_on_each_node(described):
    body = described()
    trainer = body["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["resourcesPerNode"] == {
        "requests": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "4"},
    }
    (replicated,) = body["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"][
        "replicatedJobs"
    ]
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu-memory": "80"}
    assert pod["tolerations"] == JOB.tolerations
    assert pod["volumes"][1]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_a_job_goes_with_the_pod_of_its_step(described):
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "step-pod", "uid": "uid-1"}
    assert described()["metadata"]["ownerReferences"] == [owner]
    assert "ownerReferences" not in described(environment={})["metadata"]


def test_every_try_names_the_job_alike_and_another_order_is_another_job(described):
    first, again, other = described(), described(), described(text='{"seed": 1}')
    assert first["metadata"]["name"] == other["metadata"]["name"]
    assert len(first["metadata"]["name"]) < 40
    assert trainjob.same(first, again)
    assert not trainjob.same(first, other)


@pytest.mark.parametrize(
    ("conditions", "well"),
    [
        ([], None),
        ([("Suspended", "False")], None),
        ([("Suspended", "False"), ("Complete", "True")], True),
        ([("Failed", "True")], False),
        ([("Complete", "False"), ("Failed", "Unknown")], None),
    ],
)
def test_how_a_job_ended_is_in_its_conditions(conditions, well):
    listed = [
        {"type": kind, "status": status, "reason": "Why", "message": "so"}
        for kind, status in conditions
    ]
    ending = trainjob.ending({"metadata": {}, "status": {"conditions": listed}})
    assert (ending.well if ending else None) == well


def pod(number, *, state=None, **status):
    """A node's pod."""
    containers = [{"name": "node", "state": state}] if state else []
    return {
        "metadata": {
            "name": f"p{number}",
            "labels": {"batch.kubernetes.io/job-completion-index": str(number)},
        },
        "status": {"containerStatuses": containers, **status},
    }


def test_pods_say_what_killed_them_the_cause_first():
    found = [
        pod(0, state={"terminated": {"exitCode": 1, "reason": "Error"}}),
        pod(1, state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
        pod(2, state={"terminated": {"exitCode": 0, "reason": "Completed"}}),
        pod(3, reason="Evicted", message="disk pressure"),
    ]
    assert list(pods.deaths(found)) == [
        ("out_of_memory", "node 1 (pod p1), container node: OOMKilled, exit code 137"),
        ("worker_lost", "node 3 (pod p3): Evicted: disk pressure"),
        ("tool", "node 0 (pod p0), container node: Error, exit code 1"),
    ]


def test_pods_say_why_they_wait_and_whether_in_vain():
    unschedulable = {"reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
    found = [
        pod(0, state={"waiting": {"reason": "ContainerCreating"}}),
        pod(1, state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        pod(2, conditions=[unschedulable]),
    ]
    assert list(pods.waiting(found)) == [
        ("node 1 (pod p1), container node: ImagePullBackOff: no such image", True),
        ("node 2 (pod p2) waits for a machine: 0/3 nodes have a GPU", False),
    ]
