"""A training on several machines as Kubeflow Trainer's object: how it is written and read.

TrainJob of `trainer.kubeflow.org/v1alpha1` as Trainer 2.2 and later know it, whose `runtimePatches`
took the place of `podTemplateOverrides`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssync import records
from mssync.launch.order import Job, Spread

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "mssync-torch"
# Of the runtime: its replicated job, and the container in it.
NODE = "node"
MANAGER = "mssync.launch"
ORDER = "mssync.order"
# A node's time to write a checkpoint: torchrun gives its processes 30 s.
GRACE_S = 120
_PASSED_ON = re.compile(
    r"(MLFLOW|MSSYNC|KFP|NCCL|GLOO|TORCH|NUMBA)_\w+|OMP_NUM_THREADS|CUBLAS_WORKSPACE_CONFIG"
)
_SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|CREDENTIAL|KEY|WEBHOOK|USERNAME")
# Of the step's own pod.
_OWN = re.compile(r"KFP_POD_\w+|TORCHELASTIC_\w+|MSSYNC_IMAGE")

Object = dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        well: Whether it is complete.
        message: In Trainer's words.
    """

    well: bool
    message: str


def name_of(stage: str, run_id: str) -> str:
    """Name of the job of a run's stage, the same in every try."""
    return f"{stage.replace('_', '-')}-{records.digest(run_id)[:10]}"


def describe(
    stage: str,
    run_id: str,
    spread: Spread,
    job: Job,
    *,
    order_file: Path,
    environment: Mapping[str, str],
) -> Object:
    """Write a job.

    Args:
        stage: What it trains.
        run_id: Of the pipeline's run.
        spread: How many nodes and processes.
        job: What each node is and takes.
        order_file: The order, under the path that the nodes see it by.
        environment: Variables of the step; those that matter to a training are passed on, but no
            secret, which everyone who may read the job would see.
    """
    limits = {"memory": job.memory}
    if job.gpus:
        limits[job.accelerator] = str(job.gpus)
    body: Object = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name_of(stage, run_id),
            "labels": {"app.kubernetes.io/part-of": "mssync", "app.kubernetes.io/name": "trainjob"},
            "annotations": {"mssync.run": run_id},
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": RUNTIME},
            # where whoever waits for it is killed, too
            "activeDeadlineSeconds": job.timeout_s,
            "trainer": {
                "image": job.image,
                "command": ["torchrun"],
                "args": ["-m", "mssync.launch.rank", str(order_file)],
                "numNodes": spread.nodes,
                "numProcPerNode": spread.processes,
                "resourcesPerNode": {
                    "requests": {"cpu": job.cpu, **limits},
                    "limits": limits,
                },
                "env": [
                    {"name": name, "value": environment[name]}
                    for name in sorted(environment)
                    if _PASSED_ON.fullmatch(name)
                    and not _SECRET.search(name)
                    and not _OWN.fullmatch(name)
                ],
            },
            "runtimePatches": [_patch(job)],
        },
    }
    said = json.dumps(body, sort_keys=True) + order_file.read_text()
    body["metadata"]["annotations"][ORDER] = records.digest(said)
    owner = _owner(environment)
    if owner:
        body["metadata"]["ownerReferences"] = [owner]
    return body


def same(left: Object, right: Object) -> bool:
    """Whether two jobs were told the same."""
    orders = [each["metadata"].get("annotations", {}).get(ORDER) for each in (left, right)]
    return orders[0] is not None and orders[0] == orders[1]


def ending(job: Object) -> Ending | None:
    """How a job ended; None while it has not."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            message = f"{condition['reason']}: {condition['message']}"
            return Ending(condition["type"] == "Complete", message)
    return None


def works(job: Object) -> bool:
    """Whether a job is not through, and nobody has removed it."""
    return not ending(job) and "deletionTimestamp" not in job["metadata"]


def _patch(job: Job) -> Object:
    pod: Object = {
        "terminationGracePeriodSeconds": GRACE_S,
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": job.temporary}}],
    }
    if job.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": job.shared_memory}
        pod["volumes"].append({"name": "shared-memory", "emptyDir": memory})
    if job.node_selector:
        pod["nodeSelector"] = job.node_selector
    if job.tolerations:
        pod["tolerations"] = job.tolerations
    replicated = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": MANAGER,
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}},
    }


def _owner(environment: Mapping[str, str]) -> Object | None:
    """The step's pod, with which the job is removed; Kubeflow names it."""
    pod, uid = environment.get("KFP_POD_NAME"), environment.get("KFP_POD_UID")
    if not (pod and uid):
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
