"""What is said when a server cannot be used: what was expected, what was found, what to do."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline import client, jobs
from tests.pipeline.kfp_api import RefusedError

SECRET = "a-token-that-nobody-may-see"


class LogIn(BaseHTTPRequestHandler):
    """A page before everything, as a gateway shows it."""

    def do_GET(self):
        page = b"<html><head><title>Sign in to Kubeflow</title></head></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *arguments):
        """Say nothing."""


class Files(SimpleHTTPRequestHandler):
    """A web server that has no such path."""

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def serve():
    """Starts another web server."""
    made = []

    def start(handler):
        made.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=made[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made[-1].server_port}"

    yield start
    for each in made:
        each.shutdown()
        each.server_close()


def test_without_an_address_the_ways_to_one_are_told(command, monkeypatch):
    monkeypatch.delenv(client.HOST, raising=False)
    for host in ("", "ml-pipeline.kubeflow", "ftp://x"):
        said = command("status", "--host", host)
        assert said.code == 1
        assert "http(s)://" in said.err
        assert "port-forward" in said.err


def test_a_server_that_does_not_answer_is_told(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    said = command("status", "--host", host)
    assert said.code == 1
    assert f"{host} does not answer" in said.err
    assert "refused" in said.err
    assert "WARNING" not in said.err


def test_a_log_in_page_is_no_empty_list(command, serve):
    said = command("status", "--host", serve(LogIn))
    assert said.code == 1
    assert "expected JSON, found text/html" in said.err
    assert "'Sign in to Kubeflow'" in said.err
    assert "--token-file" in said.err


def test_another_server_is_told_from_an_unknown_run(command, serve):
    said = command("status", "--host", serve(Files))
    assert said.code == 1
    assert "does not speak the API v2beta1" in said.err
    assert "expected a server of version 2" in said.err


def test_an_unknown_run_is_told(command, api):
    for words in (["status"], ["cancel"]):
        said = command(*words, "no-such-run", "--host", api.url)
        assert said.code == 1
        assert "knows no run no-such-run" in said.err
    said = command("status", "../healthz", "--host", api.url)
    assert "expected the id of a run" in said.err


def test_a_server_for_one_user_has_no_namespaces(command, api):
    said = command("status", "--host", api.url, "--namespace", "mssync")
    assert said.code == 1
    assert "expected none, found 'mssync'" in said.err


def test_a_server_for_several_users_wants_a_namespace_that_is_allowed(command, make_api, tmp_path):
    api = make_api(namespaces=["mssync", "other"], tokens={SECRET: {"mssync"}})
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    where = ("--host", api.url, "--token-file", token)
    said = command("status", *where)
    assert said.code == 1
    assert "expected a namespace, found none" in said.err
    said = command("status", *where, "--namespace", "other")
    assert said.code == 1
    assert "does not allow this in namespace other (403" in said.err
    assert command("status", *where, "--namespace", "mssync").out.strip().endswith("no runs yet")


def test_a_token_that_is_not_taken_is_told_by_its_file_alone(command, make_api, tmp_path):
    api = make_api(tokens={"another": {"mssync"}})
    token = tmp_path / "token"
    token.write_text(SECRET)
    said = command("status", "--host", api.url, "--token-file", token)
    assert said.code == 1
    assert f"expected a token that is valid, found the one in {token} (401" in said.err
    assert SECRET not in said.err + said.out
    said = command("status", "--host", api.url)
    assert "found none (401" in said.err


def test_a_token_file_is_read_anew_for_each_request(make_api, tmp_path, monkeypatch):
    api = make_api(tokens={"first": {"mssync"}})
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv(client.TOKEN, str(token))
    server = client.connect(api.url)
    api.tokens = {"second": {"mssync"}}
    token.write_text("second")
    assert jobs.find_experiment(server, "none") == ""


@pytest.mark.parametrize("content", [None, " \n", b"\xff\xfe\x00"])
def test_a_token_file_that_holds_none_is_told(command, tmp_path, content):
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = command("status", "--host", "http://127.0.0.1:1", "--token-file", token)
    assert said.code == 1
    assert f"the token file {token}" in said.err


def test_a_server_that_fails_and_one_that_refuses_are_told(command, api):
    def answer(code, words):
        def before(method, path):
            if path.endswith("/runs"):
                raise RefusedError(code, 13, words)

        return before

    api.before = answer(503, "database is locked")
    said = command("status", "--host", api.url)
    assert "cannot answer now (503: database is locked)" in said.err
    api.before = answer(400, "unknown field sort_by")
    said = command("status", "--host", api.url)
    assert "refuses list of runs (400: unknown field sort_by)" in said.err
    api.before = answer(501, "Method Not Allowed")
    assert "does not speak the API" in command("status", "--host", api.url).err


def test_an_older_server_has_no_such_operation(command, api):
    def before(method, path):
        raise RefusedError(404, 5, "Not Found")

    api.before = before
    assert "does not speak the API v2beta1" in command("status", "--host", api.url).err
