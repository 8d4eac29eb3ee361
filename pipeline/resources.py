"""What every step asks of the cluster: one table, and how it is written onto a task."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfp import kubernetes
from kfp.dsl import PipelineTask

from mssync.params import Params
from mssync.steps import RUN_ID

WORKSPACE = "/workspace"
CLAIM = "mssync-workspace"
USER = 10001
_GPU = "nvidia.com/gpu"
# Labels of a step's pod: the network policies of manifests/ select by them.
STEP = "mssync.step"
EGRESS = "mssync.egress"
# MLflow's client goes to the bucket itself where its server can sign the address; steps cannot
# reach it.
THROUGH_MLFLOW = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


@dataclass(frozen=True)
class Resources:
    """What a step asks for.

    Attributes:
        cpu: Cores, requested; no limit, so that an idle machine is used.
        memory: Requested and the limit.
        timeout_s: Longest time of one try.
        retries: Tries after the first; a step goes on from what it had finished.
        gpu: Takes a GPU where the parameters say `cuda`.
        shared_memory: Size of /dev/shm; empty: the machine's default.
        internet: May reach public addresses.
    """

    cpu: str
    memory: str
    timeout_s: int
    retries: int = 2
    gpu: bool = False
    shared_memory: str = ""
    internet: bool = False


_HOUR_S = 3600
TABLE: Mapping[str, Resources] = {
    "shard": Resources("500m", "1Gi", _HOUR_S, internet=True),
    "download_videos": Resources("1", "2Gi", 24 * _HOUR_S, internet=True),
    "extract_landmarks": Resources("4", "8Gi", 24 * _HOUR_S, gpu=True),
    "extract_audio": Resources("2", "4Gi", 12 * _HOUR_S),
    "gather": Resources("1", "4Gi", 2 * _HOUR_S),
    "build_dataset": Resources("2", "32Gi", 6 * _HOUR_S),
    "train_syncers": Resources("8", "64Gi", 7 * 24 * _HOUR_S, gpu=True, shared_memory="8Gi"),
    "train_generator": Resources("8", "64Gi", 7 * 24 * _HOUR_S, gpu=True, shared_memory="8Gi"),
    "evaluate": Resources("4", "32Gi", 6 * _HOUR_S, gpu=True),
    "promote": Resources("500m", "2Gi", _HOUR_S),
    "notify": Resources("100m", "512Mi", _HOUR_S // 2, retries=0),
}


def caches(workspace: str) -> dict[str, str]:
    """Variables for what pods would download or compile anew each time, 17 s of it by Numba."""
    return {
        "TORCH_HOME": f"{workspace}/cache/torch",
        "NUMBA_CACHE_DIR": f"{workspace}/cache/numba",
    }


def labels(name: str) -> dict[str, str]:
    """Labels of a step's pod: which step it is, and whether it may reach the internet."""
    return {STEP: name} | ({EGRESS: "internet"} if TABLE[name].internet else {})


def wants_gpu(name: str, params: Params) -> bool:
    """Whether a step takes a GPU: those that use torch, where the parameters say `cuda`."""
    on_torch = name != "extract_landmarks" or params.extract_landmarks.backend == "face_alignment"
    return TABLE[name].gpu and on_torch and params.run.device == "cuda"


def ask(task: PipelineTask, name: str, params: Params) -> None:
    """Write a step's row of the table, and what all pods share, onto its task."""
    wanted = TABLE[name]
    task.set_cpu_request(wanted.cpu)
    task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wants_gpu(name, params):
        task.set_accelerator_type(_GPU).set_accelerator_limit(1)
    if wanted.retries:
        task.set_retry(wanted.retries, backoff_duration="30s", backoff_factor=2.0)
    kubernetes.set_timeout(task, wanted.timeout_s)
    kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=WORKSPACE)
    # all that is written outside the workspace
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")
    if wanted.shared_memory:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",
            medium="Memory",
            size_limit=wanted.shared_memory,
        )
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    for variable, value in THROUGH_MLFLOW.items():
        task.set_env_variable(variable, value)
    for key, value in labels(name).items():
        kubernetes.add_pod_label(task, key, value)
    # not a parameter: the same step would look like another in every run
    kubernetes.use_field_path_as_env(task, RUN_ID, "metadata.labels['pipeline/runid']")
