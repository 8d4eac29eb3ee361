"""Steps in processes of their own, as an engine runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mssync import ending, steps
from mssync.errors import InputError

BODY = """
import os, sys, time
from mssync import errors, log, steps
log.set_up()
with steps.step("train_syncers", sys.argv[1], shard=sys.argv[2]):
    {body}
"""

TOO_LARGE = """
    import resource, torch
    from mssync.trained import checkpoint
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    checkpoint.save(steps.Path("model"), {"weights": torch.zeros(9999)}, {})
"""


@pytest.fixture
def start(tmp_path):
    """Start a step whose body is given; its workspace is `tmp_path / "shared"`."""

    def start(body, *, shard="", workspace=None):
        return subprocess.Popen(
            [sys.executable, "-c", BODY.format(body=body), workspace or tmp_path / "shared", shard],
            env=os.environ | {steps.RUN_ID: "run-1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def fail(start, tmp_path):
    """Run a step that fails: the one report of its run, exit code, and what it said."""

    def fail(body, **where):
        process = start(body, **where)
        said = process.communicate()[1]
        (failure,) = steps.failures(tmp_path / "shared" / "runs" / "run-1")
        return failure, process.returncode, said

    return fail


def test_an_error_on_purpose_is_reported_in_one_line_without_a_traceback(fail, tmp_path):
    body = 'log.logger.warning("the last words"); raise errors.StageFailedError("no clip is left")'
    failure, code, said = fail(body, shard="1-of-3")
    assert (failure.step, failure.shard, failure.reason) == (
        "train_syncers",
        "1-of-3",
        "stage_failed",
    )
    assert failure.message == "no clip is left"
    assert "the last words" in failure.log[-1]
    assert code == 1
    assert "Traceback" not in said
    report = tmp_path / "shared" / "runs" / "run-1" / "train_syncers-1-of-3" / "failure.json"
    assert set(json.loads(report.read_text())) == {"step", "shard", "reason", "message", "log"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('raise OSError(28, "No space left on device")', "disk_full"),
        ('raise OSError(122, "Disk quota exceeded")', "disk_full"),
        ('raise OSError(13, "Permission denied")', "permission"),
        ('open("/proc/1/nothing/here")', "os"),
        ("sys.exit(3)", "bug"),
        (TOO_LARGE, "os"),
        ("raise MemoryError", "out_of_memory"),
        ("1 / 0", "bug"),
    ],
)
def test_causes_are_told_apart(fail, body, reason):
    failure, code, _ = fail(body)
    assert failure.reason == reason
    assert code == 1
    assert failure.message


def test_a_bug_leaves_its_traceback(fail):
    failure, _, said = fail("1 / 0")
    assert "ZeroDivisionError" in failure.message
    assert any("Traceback" in line for line in failure.log)
    assert "Traceback" in said


def succeed(process):
    said = process.communicate()[1]
    assert process.returncode == 0, said


def kill(process, folder, number):
    while not (folder / steps.BEGUN).exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()


def test_a_step_that_is_asked_to_stop_says_so(start, tmp_path):
    run = tmp_path / "shared" / "runs" / "run-1"
    kill(start("time.sleep(60)"), run / "train_syncers", signal.SIGTERM)
    (failure,) = steps.failures(run)
    assert failure.reason == "terminated"
    assert failure.message == "asked to stop before it ended"


def test_what_takes_long_to_end_does_not_hold_the_report_up(start, tmp_path):
    body = "from concurrent.futures import ThreadPoolExecutor as Pool\n" + (
        "    with Pool(1) as pool: pool.submit(time.sleep, 5).result()"
    )
    process = start(body)
    report = tmp_path / "shared" / "runs" / "run-1" / "train_syncers"
    while not (report / steps.BEGUN).exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    assert (report / steps.FAILURE).exists()
    process.communicate()


def test_a_relative_workspace_is_one_place(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeed(start("pass", workspace="shared"))
    assert (tmp_path / "shared" / "runs" / "run-1" / "train_syncers" / steps.DONE).exists()


def test_the_working_folder_is_given_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with steps.step("promote", str(tmp_path / "shared")):
        assert Path.cwd() == tmp_path / "shared"
    assert Path.cwd() == tmp_path


def test_a_step_that_is_killed_has_no_report_and_that_is_said(start, tmp_path, monkeypatch):
    run = tmp_path / "shared" / "runs" / "run-1"
    kill(start("time.sleep(60)", shard="2-of-3"), run / "train_syncers-2-of-3", signal.SIGKILL)
    (failure,) = steps.failures(run)
    assert (failure.reason, failure.shard) == ("killed", "2-of-3")
    monkeypatch.setenv(steps.RUN_ID, "run-1")
    told = ending.markdown(ending.of_run(tmp_path / "shared", "FAILED"))
    assert "train_syncers, shard 2-of-3: killed: no report: killed" in told


def test_a_second_try_that_ends_well_takes_the_report_back(fail, start, tmp_path):
    fail("1 / 0")
    succeed(start("pass"))
    assert steps.failures(tmp_path / "shared" / "runs" / "run-1") == []


def test_a_workspace_that_cannot_be_written_is_told_as_such(start, tmp_path):
    (tmp_path / "file").write_text("")
    process = start("pass", workspace=tmp_path / "file")
    said = process.communicate()[1]
    assert process.returncode == 1
    assert f"the workspace {tmp_path / 'file'} cannot be written by user {os.getuid()}" in said
    assert "Traceback" not in said


def test_a_shard_works_in_a_folder_of_its_own(start, tmp_path):
    succeed(start('open("here", "w").close()', shard="2-of-3"))
    assert (tmp_path / "shared" / "shards" / "of-3" / "2" / "here").exists()


class Artifact:
    def __init__(self, path):
        self.path, self.metadata = str(path), {}


def test_an_artifact_stands_for_a_folder_of_the_workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    artifact = Artifact(tmp_path / "artifacts" / "dataset")
    steps.refer(artifact, Path("data"), revision="abc")
    assert steps.referred(artifact) == tmp_path / "data"
    written = json.loads((tmp_path / "artifacts" / "dataset").read_text())
    assert written == artifact.metadata == {"path": str(tmp_path / "data"), "revision": "abc"}


def test_a_reference_to_what_is_gone_says_what_to_do(tmp_path):
    artifact = Artifact(tmp_path / "artifact")
    with pytest.raises(InputError, match="run the step before this one again"):
        steps.referred(artifact)
    artifact.metadata["path"] = str(tmp_path / "gone")
    with pytest.raises(InputError, match="is not in the workspace"):
        steps.referred(artifact)
