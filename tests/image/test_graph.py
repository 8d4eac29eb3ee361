"""The graph on Kubeflow's Docker runner: every step in the image, as strict as a cluster's pod."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mssync import steps
from mssync.errors import InputError, StageFailedError, ToolError
from pipeline import local

pytestmark = pytest.mark.docker

IMAGE = os.environ.get("MSSYNC_IMAGE", "mssync:dev")
DOCKER = os.environ.get("DOCKER", "docker")
NOBODY = "54321:0"


@pytest.fixture
def open_folder(tmp_path, monkeypatch):
    """A folder that any user can write, and a media store in it."""
    monkeypatch.setenv("MSSYNC_MEDIA", str(tmp_path / "media"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)  # pytest's own are for their owner alone
    for name in ("media", "workspace"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    return tmp_path


def run(folder, small_corpus, params, **where):
    return local.run(
        params,
        str(small_corpus / "sources.csv"),
        local.Where(folder / "workspace", "docker", where.pop("image", IMAGE), **where),
        source_base=str(small_corpus / "media"),
        shards=2,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs containers as another user")
def test_the_graph_runs_as_any_user_without_network_and_capabilities(
    open_folder, small_corpus, tiny, tracked_runs
):
    reports = run(open_folder, small_corpus, tiny, user=NOBODY)
    workspace = open_folder / "workspace"
    decision = json.loads((workspace / "promotion" / "decision.json").read_text())
    assert decision["decision"] in ("promote", "refuse")
    written = workspace / "data" / "card" / "card.html"
    assert written.stat().st_uid == int(NOBODY.split(":")[0])
    tags = [run.data.tags for run in tracked_runs(workspace)]
    assert {tag["kfp_run_id"] for tag in tags} == {reports.name}
    assert all(tag["image_digest"].startswith("sha256:") for tag in tags)
    assert all(len(tag["git_sha"]) == 40 for tag in tags)


def containers(folder):
    """Ids of the containers that work in a folder's workspace."""
    return subprocess.run(
        [
            *(DOCKER, "ps", "--quiet", "--filter", f"label={local.LABEL}"),
            *("--filter", f"volume={folder / 'workspace'}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def wait_for(folder, step):
    deadline = time.monotonic() + 120
    while not list((folder / "workspace" / "runs").glob(f"*/{step}/{steps.BEGUN}")):
        assert time.monotonic() < deadline, f"{step} never began"
        time.sleep(0.05)


def kill_when_begun(folder, step):
    """Kill the container of a step, as the kernel does when memory runs out."""
    wait_for(folder, step)
    subprocess.run([DOCKER, "kill", *containers(folder)], check=True, capture_output=True)


def test_a_step_that_is_killed_fails_the_run_and_is_named(open_folder, small_corpus, tiny):
    killer = threading.Thread(
        target=kill_when_begun, args=(open_folder, "extract_landmarks-0-of-2")
    )
    killer.start()
    with pytest.raises(StageFailedError, match="extract_landmarks, shard 0-of-2: killed: no rep"):
        run(open_folder, small_corpus, tiny)
    killer.join()


def test_a_run_that_is_interrupted_leaves_no_container(open_folder, small_corpus, root):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "run-local", "--runner", "docker"),
            *("--sources", small_corpus / "sources.csv", "--image", IMAGE),
            *("--source-base", small_corpus / "media", "--params", "params.test.yaml"),
            *("--workspace", open_folder / "workspace"),
        ],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(open_folder, "extract_landmarks-0-of-2")
    assert containers(open_folder)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert containers(open_folder) == []


def test_an_image_that_is_not_there_is_named_with_what_to_do(open_folder, small_corpus, tiny):
    with pytest.raises(ToolError, match=r"no image none:1: build it \(make image\), or name one"):
        run(open_folder, small_corpus, tiny, image="none:1")


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs containers as another user")
def test_a_workspace_that_the_containers_user_cannot_write_is_named(
    open_folder, small_corpus, tiny
):
    (open_folder / "workspace").chmod(0o755)
    with pytest.raises(InputError, match=f"user 54321:54321 cannot write {open_folder}/workspace"):
        run(open_folder, small_corpus, tiny, user="54321:54321")
