import json
import subprocess
import sys
import time

import psutil
import pytest

from mssync import versions
from mssync.errors import ToolError

ECHO = """
stages:
  write:
    cmd: echo done > out.txt
    outs: [out.txt]
"""


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    versions.init_workspace(folder, cache=tmp_path / "cache")
    (folder / "dvc.yaml").write_text(ECHO)
    return folder


def lock(workspace, pid):
    holder = {"pid": pid, "cmd": "dvc repro"}
    path = workspace / ".dvc" / "tmp" / "rwlock"
    path.write_text(json.dumps({str(workspace / "out.txt"): {"write": holder}}))


def test_a_workspace_runs_without_git_and_then_has_nothing_to_do(workspace):
    assert "write" in versions.pending(workspace)
    versions.repro(workspace, environment={})
    assert (workspace / "out.txt").read_text() == "done\n"
    assert versions.pending(workspace) == {}


def test_the_lock_of_a_killed_run_that_nobody_reaped_holds_nobody_up(workspace):
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    lock(workspace, child.pid)
    versions.repro(workspace, environment={})
    assert (workspace / "out.txt").exists()
    child.wait()


def test_the_lock_of_another_program_with_the_same_number_holds_nobody_up(workspace):
    lock(workspace, 1)
    versions.repro(workspace, environment={})
    assert (workspace / "out.txt").exists()


def test_a_failing_stage_is_told_with_what_to_do(workspace):
    (workspace / "dvc.yaml").write_text(ECHO.replace("echo done", "false"))
    with pytest.raises(ToolError, match="the same command goes on from here"):
        versions.repro(workspace, environment={})


def test_the_code_says_its_commit_and_whether_it_was_changed(tmp_path):
    assert versions.code_version(tmp_path) == {"git_sha": "unknown", "git_dirty": "unknown"}

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    git("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "dvc.lock").write_text("1")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    (tmp_path / "dvc.lock").write_text("2")
    clean = versions.code_version(tmp_path)
    assert len(clean["git_sha"]) == 40
    assert clean["git_dirty"] == "false"
    (tmp_path / "a.txt").write_text("2")
    assert versions.code_version(tmp_path)["git_dirty"] == "true"


def test_the_source_digest_follows_the_code():
    assert versions.source_digest("models") == versions.source_digest("models")
    assert versions.source_digest("models") != versions.source_digest("models", "pyramid.py")
