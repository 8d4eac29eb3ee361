"""Conditions are broken for real: files that are no databases, no ffmpeg, servers that hang."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest
import yaml

from mssync.doctor import machine, workspace
from mssync.doctor.checks import examine
from mssync.doctor.finding import checked, ok
from mssync.media import ffmpeg
from mssync.params import load


@pytest.fixture
def here(root, tmp_path, monkeypatch):
    """A folder with the project's parameters, and nothing set in the environment."""
    shutil.copy(root / "params.test.yaml", tmp_path / "params.yaml")
    for name in workspace.VARIABLES:
        if name.startswith(("MSSYNC_", "MLFLOW_")):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MSSYNC_MEDIA", str(tmp_path / "media"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def change(here):
    """Replace a value of `params.yaml`."""

    def write(section, key, value):
        content = yaml.safe_load((here / "params.yaml").read_text())
        content[section][key] = value
        (here / "params.yaml").write_text(yaml.safe_dump(content))
        return content

    return write


@pytest.fixture
def params(here):
    return load(here / "params.yaml")


def found(findings):
    (only,) = findings
    return only


def test_a_sound_machine_has_no_problem_and_the_chain_works_on_it(here):
    findings = list(examine(here / "params.yaml"))
    assert [each for each in findings if each.status == "problem"] == []
    names = [each.name for each in findings]
    for part in ("media", "face", "training", "generation"):
        assert f"self-test: {part}" in names
    assert "mediapipe" in next(each.found for each in findings if each.name.endswith("face"))
    assert list(here.iterdir()) == [here / "params.yaml"]  # nothing is left behind


def test_a_broken_machine_is_told_point_by_point_with_exit_code_1(here, change):
    change("evaluate", "frames", 3)
    (here / "mlflow.db").write_text("no database " * 100)
    (here / "media").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-m", "mssync", "doctor", "--json", "found.json"],
        env=os.environ
        | {
            "PATH": str(here),
            "IMAGEIO_FFMPEG_EXE": str(here / "ffmpeg"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{here / 'mlflow.db'}",
            "MSSYNC_MEDIUM": "x",
            "MSSYNC_LOG": "loud",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    findings = json.loads((here / "found.json").read_text())["findings"]
    told = {each["name"]: each for each in findings}
    problems = {name: each["found"] for name, each in told.items() if each["status"] == "problem"}
    assert "evaluate.frames: Input should be greater than or equal to 65" in problems["parameters"]
    assert "there is no ffmpeg" in problems["ffmpeg"]
    assert "file is not a database" in problems["tracking"]
    assert "is a file" in problems["media store"]
    assert "does not exist" in problems["$IMAGEIO_FFMPEG_EXE"]
    assert told["git"]["found"] == "there is none"
    assert told["$MSSYNC_LOG"]["status"] == told["$MSSYNC_MEDIUM"]["status"] == "warning"
    assert "MSSYNC_MEDIA" in told["$MSSYNC_MEDIUM"]["advice"]
    assert told["self-test"]["found"] == "not run: there are no parameters"
    assert all(each["advice"] for each in told.values() if each["status"] != "ok")
    assert "-> " in done.stdout
    assert f"{len(problems)} problems" in done.stdout


def test_packages_that_differ_from_the_lock_are_named(here):
    pytest_version = pytest.__version__
    (here / "requirements.lock").write_text(
        f"pytest=={pytest_version} \\\n    --hash=sha256:00\nnumpy==0.0.1 \\\n    # via x\n"
        "no-such-package==1.0\nelsewhere==1.0 ; sys_platform == 'win32'\n"
    )
    finding = found(machine.packages(here))
    assert finding.status == "problem"
    assert "numpy is" in finding.found
    assert "locked ==0.0.1; no-such-package is missing" in finding.found
    assert "pytest" not in finding.found
    assert "elsewhere" not in finding.found


def test_the_installed_packages_are_those_of_the_lock(root):
    assert found(machine.packages(root)).status == "ok"


def test_without_a_lock_nothing_is_compared(here):
    assert found(machine.packages(here)).status == "warning"


def test_an_ffmpeg_that_cannot_encode_is_a_problem(here, monkeypatch):
    program = here / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'ffmpeg version 1.0 aac'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    ffmpeg.executable.cache_clear()
    finding = next(iter(machine.ffmpeg_here()))
    ffmpeg.executable.cache_clear()
    assert finding.status == "problem"
    assert "without libx264, flac" in finding.found


def test_weights_are_a_problem_only_where_they_are_needed(here, params, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(here))
    assert found(machine.weights_here(params)).status == "warning"
    needing = params.model_copy(
        update={
            "extract_landmarks": params.extract_landmarks.model_copy(
                update={"backend": "face_alignment"}
            )
        }
    )
    finding = found(machine.weights_here(needing))
    assert finding.status == "problem"
    assert "is missing" in finding.found


def test_a_full_disk_and_too_many_threads_are_told(here, params):
    full = params.model_copy(
        update={
            "download_videos": params.download_videos.model_copy(update={"min_free_bytes": 10**18}),
            "run": params.run.model_copy(update={"threads": 4096, "device": "cuda"}),
        }
    )
    statuses = {each.name: each.status for each in machine.space(full)}
    assert statuses["disk, here"] == statuses["disk, media store"] == "problem"
    torch_found = {each.name: each for each in machine.torch_here(full)}
    assert torch_found["torch"].status == "warning"
    if "CPU" in found([each for each in machine.torch_here(params) if each.name == "device"]).found:
        assert torch_found["device"].status == "problem"


def test_a_store_that_is_there_answers(here, params, monkeypatch):
    store = f"sqlite:///{here / 'mlflow.db'}"
    assert "not there yet" in found(workspace.tracking_store(params)).found
    mlflow.MlflowClient(store).create_experiment("x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    finding = found(workspace.tracking_store(params, wall_s=120))
    assert finding.status == "ok", finding.found
    assert "$MLFLOW_TRACKING_URI" in finding.found


class _Refuses(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_error(503)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def test_a_server_that_refuses_is_a_problem_and_its_password_is_not_told(here, params, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://me:secret@127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        finding = found(workspace.tracking_store(params, wall_s=120))
        server.shutdown()
    assert finding.status == "problem"
    assert "503" in finding.found
    assert "secret" not in finding.found


def test_a_server_that_never_answers_is_given_up(here, params, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        finding = found(workspace.tracking_store(params, wall_s=2))
    assert finding.status == "problem"
    assert finding.found.endswith("no answer within 2 s")


def test_secrets_that_cannot_be_read_and_files_that_are_gone_are_problems(here, monkeypatch):
    monkeypatch.setenv("MSSYNC_SECRETS", str(here / "none.yaml"))
    monkeypatch.setenv("MSSYNC_SECRET_PROXY", "http://me:hidden@proxy.example:3128")
    monkeypatch.setenv("MSSYNC_DLIB_MODEL", str(here / "none.dat"))
    told = {each.name: each for each in workspace.environment()}
    assert told["$MSSYNC_SECRETS"].status == "problem"
    assert told["$MSSYNC_DLIB_MODEL"].status == "problem"
    assert "hidden" not in " ".join(each.found for each in told.values())


def test_outside_git_and_dvc_it_is_said_what_is_missed(here):
    told = {each.name: each for each in workspace.tools()}
    assert told["git"].status == told["dvc"].status == "warning"


def test_a_check_that_dies_is_a_problem_itself():
    def dies():
        yield ok("first", "fine")
        raise ZeroDivisionError("by nothing")

    first, finding = checked("odd", dies)
    assert first.status == "ok"
    assert (finding.status, finding.found) == ("problem", "ZeroDivisionError: by nothing")
