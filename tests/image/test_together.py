"""Two containers of the image train together, started by Kubeflow Trainer's own SDK.

Its container backend gives each node one folder, the job's, at `/workspace`: what the job needs is
put there before it starts. It starts `torchrun` through a login shell, which forgets the image's
PATH; a `.profile` in that folder, which is the home of the containers too, brings it back.
"""

import os

import pytest
import yaml

from mssync import steps
from mssync.launch.order import FILE, Order
from mssync.trained import checkpoint
from tests.handmade import build, write_inputs

pytestmark = [
    pytest.mark.docker,
    # the SDK's own
    pytest.mark.filterwarnings("ignore:Support for class-based `config`"),
]

IMAGE = os.environ.get("MSSYNC_IMAGE", "mssync:dev")
NAME = "mssync-together"
RUNTIME = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "ClusterTrainingRuntime",
    "metadata": {"name": "mssync-torch", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {
                                "labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
                            },
                            "spec": {
                                "template": {
                                    "spec": {"containers": [{"name": "node", "image": IMAGE}]}
                                }
                            },
                        },
                    }
                ]
            }
        },
    },
}


def work_on(order):
    """What every process does; its source travels to the containers."""
    import runpy
    import sys

    sys.argv = ["mssync.launch.rank", order]
    runpy.run_module("mssync.launch.rank", run_name="__main__")


@pytest.fixture
def workspace(tmp_path, monkeypatch, tiny):
    """The folder that the backend will give to the containers, with a small dataset in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".kubeflow" / "trainer" / "containers" / NAME
    write_inputs(folder, {f"p{number}/a": {} for number in range(8)})
    build(folder, tiny.build_dataset)
    (folder / ".profile").write_text("export PATH=/opt/venv/bin:$PATH\n")
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)  # pytest's own are for their owner alone
    return folder


def order(tiny):
    """As the launcher writes it, with the paths of the containers."""
    small = {"guide_steps": [4, 0, 0, 0], "evaluator_steps": [2, 0, 0, 0]}
    return Order(
        stage="train_syncers",
        workspace="/workspace",
        data="/workspace/data/dataset",
        syncers="",
        out="/workspace/models/syncers",
        params=tiny.train_syncers.model_dump(mode="json") | small,
        run=tiny.run,
        paths=tiny.paths,
        params_hash="h",
    )


def open_to_all(folder):
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)


def test_two_containers_train_one_network(workspace, tmp_path, tiny):
    from kubeflow.trainer import CustomTrainer, TrainerClient
    from kubeflow.trainer.backends.container.types import (
        ContainerBackendConfig,
        TrainingRuntimeSource,
    )
    from kubeflow.trainer.options import Name

    sources = tmp_path / "runtimes"
    sources.mkdir()
    (sources / "mssync-torch.yaml").write_text(yaml.safe_dump(RUNTIME))
    report = workspace / "runs" / "run-1" / "train_syncers"
    order(tiny).write(report / FILE)
    open_to_all(tmp_path / ".kubeflow")
    client = TrainerClient(
        backend_config=ContainerBackendConfig(
            container_runtime="docker",
            pull_policy="Never",
            auto_remove=False,
            runtime_source=TrainingRuntimeSource(sources=[str(sources)]),
        )
    )
    job = client.train(
        runtime="mssync-torch",
        trainer=CustomTrainer(
            func=work_on,
            func_args={"order": f"/workspace/runs/run-1/train_syncers/{FILE}"},
            num_nodes=2,
            image=IMAGE,
            env={"HOME": "/workspace", steps.RUN_ID: "run-1", "OMP_NUM_THREADS": "1"},
        ),
        options=[Name(name=NAME)],
    )
    try:
        client.wait_for_job_status(job, timeout=300)
        said = "".join(client.get_job_logs(job))
    finally:
        client.delete_job(job)
    done = {path.parent.name for path in report.glob("rank-*/done")}
    assert done == {"rank-0", "rank-1"}, said
    for level in ("guides/level0", "evaluators/all/level0"):
        tensors, _ = checkpoint.load(workspace / "models" / "syncers" / level)
        assert tensors
