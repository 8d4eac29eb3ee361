"""Downloads from a loopback server that behaves like the real web: slow, flaky, forgetful."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mssync.errors import ClipRejectedError
from mssync.media.fetch import fetch, locate

CONTENT = bytes(range(256)) * 4000


class Web(BaseHTTPRequestHandler):
    """Serves CONTENT; what goes wrong is in the path."""

    protocol_version = "HTTP/1.1"
    log_message = staticmethod(lambda *_: None)

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        kind = self.path.strip("/")
        first = len(self.server.requests) == 1
        if kind.isdigit():
            return self.send_error(int(kind))
        if kind == "flaky" and first:
            return self.send_error(503)
        if kind == "stalls":
            time.sleep(1.0)
        if kind == "tagged" and self.headers.get("If-None-Match") == '"v1"':
            self.send_response(304)
            return self.end_headers()
        start = 0
        if kind == "breaks" and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if kind in ("tagged", "breaks"):
            self.send_header("ETag", '"v1"')
        self.end_headers()
        if kind == "breaks" and first:
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.close_connection = True
            return None
        return self.wfile.write(CONTENT[start:])


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web():
    with serving() as server:
        yield server


@pytest.fixture
def params(tiny):
    return tiny.download_videos.model_copy(update={"timeout_s": 0.4})


def url(server, kind):
    return f"http://127.0.0.1:{server.server_port}/{kind}"


def test_content_arrives_under_its_digest(web, store, params):
    origin = fetch(url(web, "plain"), store, params)
    assert store.path(origin.sha256).read_bytes() == CONTENT
    assert origin.bytes == len(CONTENT)


def test_a_passing_failure_is_tried_again(web, store, params):
    fetch(url(web, "flaky"), store, params)
    assert len(web.requests) == 2


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "gone"), (410, "gone"), (403, "private"), (451, "geo")]
)
def test_a_final_failure_is_tried_once(web, store, params, status, reason):
    with pytest.raises(ClipRejectedError, match=str(status)) as error:
        fetch(url(web, status), store, params)
    assert error.value.reason == reason
    assert len(web.requests) == 1


def test_too_many_requests_are_tried_as_often_as_asked_for(web, store, params):
    with pytest.raises(ClipRejectedError) as error:
        fetch(url(web, 429), store, params)
    assert error.value.reason == "rate_limit"
    assert len(web.requests) == params.attempts


def test_a_broken_download_goes_on_where_it_stopped(web, store, params):
    origin = fetch(url(web, "breaks"), store, params)
    assert store.path(origin.sha256).read_bytes() == CONTENT
    assert web.requests[1][1]["Range"] == f"bytes={len(CONTENT) // 2}-"
    assert web.requests[1][1]["If-Range"] == '"v1"'


def test_a_silent_server_is_a_timeout(web, store, params):
    with pytest.raises(ClipRejectedError, match=r"no answer for 0\.4 s") as error:
        fetch(url(web, "stalls"), store, params.model_copy(update={"attempts": 1}))
    assert error.value.reason == "timeout"


def test_a_server_that_is_not_there_is_a_network_failure(web, store, params):
    with serving() as gone:
        address = url(gone, "plain")
    with pytest.raises(ClipRejectedError) as error:
        fetch(address, store, params)
    assert error.value.reason == "network"


def test_what_did_not_change_is_not_sent_again_even_from_another_port(store, params):
    with serving() as server:
        first = fetch(url(server, "tagged"), store, params)
    with serving() as server:
        assert fetch(url(server, "tagged"), store, params) == first
        assert server.requests[0][1]["If-None-Match"] == '"v1"'


def test_a_source_that_is_too_large_is_refused(web, store, params):
    small = params.model_copy(update={"max_bytes": 1000})
    with pytest.raises(ClipRejectedError, match="more than 1000 bytes") as error:
        fetch(url(web, "plain"), store, small)
    assert error.value.reason == "too_large"


def test_a_local_file_is_copied_once(tmp_path, store, params):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"content")
    first = fetch(str(file), store, params)
    assert store.path(first.sha256).read_bytes() == b"content"
    assert fetch(str(file), store, params) == first
    file.write_bytes(b"changed!")
    assert fetch(str(file), store, params).sha256 != first.sha256


def test_a_missing_file_and_a_folder_are_told_apart_from_media(tmp_path, store, params):
    with pytest.raises(ClipRejectedError, match="does not exist"):
        fetch(str(tmp_path / "none.mp4"), store, params)
    with pytest.raises(ClipRejectedError, match="not a file"):
        fetch(str(tmp_path), store, params)


def test_relative_sources_start_from_the_base_or_from_the_list(tmp_path):
    assert locate("a b.mp4", base="http://host/x/", folder=tmp_path) == "http://host/x/a%20b.mp4"
    assert locate("a.mp4", base="/media", folder=tmp_path) == "/media/a.mp4"
    assert locate("a.mp4", base="", folder=tmp_path) == str(tmp_path / "a.mp4")
    assert locate("https://h/a.mp4", base="/media", folder=tmp_path) == "https://h/a.mp4"
