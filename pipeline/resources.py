"""What every step asks of the cluster: a table in a file, and how a row is written onto a task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from kfp import kubernetes
from kfp.dsl import PipelineTask
from pydantic import Field, model_validator

from mssync.errors import ParamsError
from mssync.launch.order import Job, Spread
from mssync.params import Params, Section, load_as, stage_names
from mssync.steps import RUN_ID

WORKSPACE = "/workspace"
CLAIM = "mssync-workspace"
USER = 10001
PROJECTS = Path(__file__).with_name("resources.yaml")
ENGINE_STEPS = ("shard", "gather", "publish", "notify")
# Labels of a step's pod: the network policies of manifests/ select by them.
STEP = "mssync.step"
EGRESS = "mssync.egress"
# MLflow's client goes to the bucket itself where its server can sign the address; steps cannot
# reach it.
THROUGH_MLFLOW = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
_KEYS = {name: name for name in _S3}
# Step -> secret -> its keys, and the variables that they become; a secret may be missing.
SECRETS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "shard": {"mssync-sources": _KEYS},
    "download_videos": {"mssync-sources": _KEYS},
    "publish": {"mssync-dvc-remote": _KEYS},
    "notify": {"mssync-webhook": {"url": "MSSYNC_WEBHOOK_URL"}},
}

# Steps that may run in several processes.
TOGETHER = frozenset({"train_syncers", "train_generator"})
# As Kubernetes writes them: cores or thousandths, bytes by powers of 2 or 10.
Cores = Annotated[str, Field(pattern=r"^(\d+(\.\d{1,3})?|\d+m)$")]
Bytes = Annotated[str, Field(pattern=r"^[1-9]\d*(Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Count = Annotated[int, Field(ge=0)]


class Toleration(Section):
    """A taint that a pod puts up with, as Kubernetes writes it."""

    key: str
    operator: Literal["Exists", "Equal"]
    value: str
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"]


class Pool(Section):
    """Machines that steps run on."""

    accelerator: str = Field(description="Name of the GPUs as a resource; empty: it has none.")
    node_selector: dict[str, str] = Field(description="Labels that a machine must have.")
    tolerations: list[Toleration]


class Asked(Section):
    """What a step asks for."""

    cpu: Cores = Field(description="Requested; no limit, so that an idle machine is used.")
    memory: Bytes = Field(description="Requested, and the limit.")
    timeout_s: Annotated[int, Field(ge=1)] = Field(description="Longest time of one try.")
    retries: Count = Field(description="Tries after the first.")
    gpus: Count = Field(description="Where the parameters say `cuda` and the step uses torch.")
    nodes: Annotated[int, Field(ge=1)] = Field(description="Machines that train together.")
    processes: Annotated[int, Field(ge=1)] = Field(
        description="On each node without a GPU; with GPUs one for each."
    )
    temporary: Bytes = Field(description="Most that may lie in /tmp.")
    internet: bool = Field(description="May reach public addresses.")
    shared_memory: Bytes | Literal[""] = Field(
        description="Size of /dev/shm; empty: the machine's default."
    )
    pool: str
    gpu_pool: str = Field(description="The pool where it takes a GPU.")


class Launcher(Section):
    """What a step asks for that only waits for its nodes."""

    cpu: Cores
    memory: Bytes


class Table(Section):
    """What all steps ask for; complete, so that the file alone tells."""

    pools: dict[str, Pool]
    launcher: Launcher
    steps: dict[str, Asked]

    @model_validator(mode="after")
    def _pools_are_there(self) -> "Table":
        for name, asked in self.steps.items():
            if name not in TOGETHER and (asked.nodes, asked.processes) != (1, 1):
                raise ValueError(
                    f"{name} runs in one process: nodes and processes are for "
                    f"{' and '.join(sorted(TOGETHER))}"
                )
            for pool in (asked.pool, asked.gpu_pool):
                if pool not in self.pools:
                    raise ValueError(f"{name} names the pool {pool!r}: pools has none")
            if asked.gpus and not self.pools[asked.gpu_pool].accelerator:
                raise ValueError(
                    f"{name} takes GPUs of the pool {asked.gpu_pool!r}, whose accelerator is empty"
                )
        return self


def steps() -> frozenset[str]:
    """Names of all steps of the graph: the stages, and what only the engine needs."""
    return frozenset({*stage_names(), *ENGINE_STEPS})


def load(path: Path = PROJECTS) -> Table:
    """Read a table.

    Raises:
        ParamsError: If it does not fit the schema, or has not exactly one row a step.
    """
    table = load_as(Table, path, option="--resources")
    if unlike := steps() ^ table.steps.keys():
        raise ParamsError(
            f"{path}: expected a row for each of {', '.join(sorted(steps()))}; missing or unknown: "
            f"{', '.join(sorted(unlike))}"
        )
    return table


def caches(workspace: str) -> dict[str, str]:
    """Variables for what pods would download or compile anew each time, 17 s of it by Numba."""
    return {
        "TORCH_HOME": f"{workspace}/cache/torch",
        "NUMBA_CACHE_DIR": f"{workspace}/cache/numba",
    }


def labels(name: str, asked: Asked) -> dict[str, str]:
    """Labels of a step's pod: which step it is, and whether it may reach the internet."""
    return {STEP: name} | ({EGRESS: "internet"} if asked.internet else {})


def gpus(name: str, asked: Asked, params: Params) -> int:
    """GPUs that a step takes: those that use torch, where the parameters say `cuda`."""
    on_torch = name != "extract_landmarks" or params.extract_landmarks.backend == "face_alignment"
    return asked.gpus if on_torch and params.run.device == "cuda" else 0


def spread(name: str, image: str, table: Table | None, params: Params) -> dict[str, Any]:
    """Over how many processes a training step is spread: fields of a `Spread`.

    Args:
        name: The step.
        image: Of its nodes.
        table: What it asks for; None: one process.
        params: The whole file.
    """
    if table is None:
        return Spread(nodes=1, processes=1).model_dump(exclude_none=True)
    asked, taken = table.steps[name], gpus(name, table.steps[name], params)
    pool = table.pools[asked.gpu_pool if taken else asked.pool]
    job = Job(
        image=image,
        cpu=asked.cpu,
        memory=asked.memory,
        accelerator=pool.accelerator,
        gpus=taken,
        node_selector=pool.node_selector,
        tolerations=[
            {field: value for field, value in each.model_dump().items() if value}
            for each in pool.tolerations
        ],
        temporary=asked.temporary,
        shared_memory=asked.shared_memory,
        timeout_s=asked.timeout_s,
    )
    made = Spread(
        nodes=asked.nodes,
        processes=taken or asked.processes,
        job=job if asked.nodes > 1 else None,
    )
    return made.model_dump(exclude_none=True)


def ask(task: PipelineTask, name: str, table: Table, params: Params) -> None:
    """Write a step's row of the table, and what all pods share, onto its task."""
    asked = table.steps[name]
    waits = asked.nodes > 1
    taken = 0 if waits else gpus(name, asked, params)
    pool = table.pools[asked.gpu_pool if taken else asked.pool]
    own = table.launcher if waits else asked
    task.set_cpu_request(own.cpu)
    task.set_memory_request(own.memory).set_memory_limit(own.memory)
    if taken:
        task.set_accelerator_type(pool.accelerator).set_accelerator_limit(taken)
    for label, value in pool.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in pool.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value or None,
            effect=toleration.effect or None,
        )
    if asked.retries:
        task.set_retry(asked.retries, backoff_duration="30s", backoff_factor=2.0)
    kubernetes.set_timeout(task, asked.timeout_s)
    kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=WORKSPACE)
    # all that is written outside the workspace
    kubernetes.empty_dir_mount(
        task, volume_name="tmp", mount_path="/tmp", size_limit=asked.temporary
    )
    if asked.shared_memory and not waits:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",
            medium="Memory",
            size_limit=asked.shared_memory,
        )
    for secret, keys in SECRETS.get(name, {}).items():
        kubernetes.use_secret_as_env(task, secret, dict(keys), optional=True)
    for variable, value in THROUGH_MLFLOW.items():
        task.set_env_variable(variable, value)
    for label, value in labels(name, asked).items():
        kubernetes.add_pod_label(task, label, value)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    # not a parameter: the same step would look like another in every run
    kubernetes.use_field_path_as_env(task, RUN_ID, "metadata.labels['pipeline/runid']")
