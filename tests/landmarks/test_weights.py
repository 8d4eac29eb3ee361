import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import face_alignment
import pytest
from face_alignment.detection.sfd import sfd_detector
from typer.testing import CliRunner

from mssync import cli
from mssync.errors import InputError
from mssync.landmarks import weights
from mssync.landmarks.weights import Weights

CONTENT = bytes(range(256)) * 1000


def named(content, start="net"):
    return f"{start}-{hashlib.sha256(content).hexdigest()[:10]}.pth.tar"


NAME = named(CONTENT)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.split("/")[1]
        if kind == "gone":
            self.send_error(404)
            return
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", self.path.replace("moved", "whole"))
            self.end_headers()
            return
        content = b"<html>Sign in</html>" if kind == "page" else CONTENT
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if kind in ("truncated", "endless") else content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hub" / "checkpoints"


@contextmanager
def refused(*words):
    with pytest.raises(InputError) as error:
        yield
    for word in (*words, "mediapipe needs no weights"):
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["whole", "moved"])
def test_a_missing_file_is_fetched_once(server, folder, kind):
    wanted = Weights("test", f"{server}/{kind}/{NAME}")
    assert weights.state(wanted, folder) == "missing"
    weights.fetch([wanted], folder)
    assert weights.state(wanted, folder) == "fits"
    assert (folder / NAME).read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [NAME]
    weights.check([wanted], folder)
    weights.fetch([Weights("test", f"http://127.0.0.1:9/{NAME}")], folder)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("truncated", "could not be fetched (peer closed connection"),
        ("endless", "does not begin with"),
        ("page", "does not begin with"),
        ("gone", "404"),
    ],
)
def test_what_is_not_the_file_never_gets_its_name(server, folder, kind, cause):
    wanted, other = (Weights("test", f"{server}/{each}/{NAME}") for each in (kind, "whole"))
    with refused(NAME, wanted.url, str(folder), cause):
        weights.fetch([wanted], folder)
    assert list(folder.iterdir()) == []
    with refused(cause):
        weights.fetch([wanted, other], folder)
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_a_wrong_file_is_named_and_replaced(server, folder):
    wanted = Weights("test", f"{server}/whole/{NAME}")
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT[:-1])
    with refused(NAME, "is not what its name says", "--fetch", wanted.url):
        weights.check([wanted], folder)
    weights.fetch([wanted], folder)
    weights.check([wanted], folder)


def test_without_a_network_the_message_says_what_from_where_and_where_to(folder):
    wanted = Weights("test", f"http://127.0.0.1:9/{NAME}")
    with refused(NAME, wanted.url, str(folder), "Connection refused"):
        weights.fetch([wanted], folder)
    assert list(folder.iterdir()) == []


def test_a_name_without_digits_is_taken_as_it_is(folder):
    wanted = Weights("test", "http://127.0.0.1:9/net.pth")
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(b"")
    assert weights.state(wanted, folder) == "fits"


def test_the_table_is_the_package_s_own():
    points, detector = weights.required()
    assert (points.name, points.digits) == ("2DFAN4-11f355bf06.pth.tar", "11f355bf06")
    assert (detector.name, detector.digits) == ("s3fd-619a316812.pth", "619a316812")
    assert points.url.startswith("https://")


def test_the_command_fetches_what_the_package_will_load(server, folder, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(folder.parents[1]))
    monkeypatch.setitem(face_alignment.api.models_urls, "2DFAN-4", f"{server}/whole/{NAME}")
    monkeypatch.setitem(sfd_detector.models_urls, "s3fd", f"{server}/whole/{named(CONTENT, 's')}")
    before = CliRunner().invoke(cli.app, ["weights"])
    assert isinstance(before.exception, InputError)
    assert before.output.count("missing") == 2
    after = CliRunner().invoke(cli.app, ["weights", "--fetch"])
    assert after.exit_code == 0, after.output
    assert after.output.count("fits  ") == 2
    assert CliRunner().invoke(cli.app, ["weights"]).exit_code == 0
    (folder / NAME).write_bytes(b"other")
    wrong = CliRunner().invoke(cli.app, ["weights", "--folder", str(folder)])
    assert isinstance(wrong.exception, InputError)
    assert "wrong" in wrong.output


def test_offline_the_command_ends_with_code_1_and_no_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mssync", "weights", "--fetch"],
        cwd=tmp_path,
        env=os.environ | {"TORCH_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout.count("missing") == 2
    assert "https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth" in result.stderr
    assert "mediapipe needs no weights" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the folder .*/file/weights cannot be made: Not a dir"):
        weights.fetch([], tmp_path / "file" / "weights")


def test_what_an_image_brings_is_used_where_pytorch_has_none(tmp_path, monkeypatch):
    brought, cache = tmp_path / "brought", tmp_path / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("MSSYNC_WEIGHTS", raising=False)
    assert weights.default_folder() == cache
    monkeypatch.setenv("MSSYNC_WEIGHTS", str(brought))
    assert weights.default_folder() == brought
    cache.mkdir(parents=True)
    (cache / weights.required()[0].name).touch()
    assert weights.default_folder() == cache
