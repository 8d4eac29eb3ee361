"""Objects of an S3 server on loopback, and of one that only fails."""

import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mssync import log
from mssync.download import objects, partial
from mssync.download.budget import Budget
from mssync.download.partial import Note
from mssync.download.secrets import Secrets
from mssync.errors import ClipRejectedError, InputError
from mssync.media.store import Provenance

CONTENT = bytes(range(256)) * 40_000  # more than two requests
KEY_ID, KEY = "test-key-id", "test-secret-key"


@pytest.fixture(scope="module")
def s3():
    """A real S3 client of another make, on a server that this module shares."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=KEY,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="media")
    yield client
    client.close()
    server.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Credentials that are nobody's; none of this machine's are found."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def params(tiny):
    return tiny.download_videos.model_copy(update={"min_free_bytes": 0})


@pytest.fixture
def fetch(store, params):
    store.folder.mkdir(parents=True)

    def call(url, *, known=None, secrets=Secrets(), **limits):  # noqa: B008
        limited = params.model_copy(update=limits)
        call.budget = Budget(limited, store.folder)
        return objects.fetch(
            url, store, params=limited, budget=call.budget, secrets=secrets, known=known
        )

    return call


@pytest.fixture
def media(s3, monkeypatch):
    """Puts content under a key."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)

    def put(key, content=CONTENT):
        s3.put_object(Bucket="media", Key=key, Body=content, ContentType="video/mp4")
        return f"s3://media/{key}"

    return put


def refusal(fetch, url, **options):
    with pytest.raises(ClipRejectedError) as caught:
        fetch(url, **options)
    return caught.value.reason, str(caught.value)


def plant(store, url, content, validator, total):
    """What a fetch leaves behind that was cut short."""
    name = objects.key(url)
    with partial.hold(store, name, patience_s=1.0) as part:
        part.begin(Note(name, validator, total, Provenance(etag=validator)))
        part.write(content)


def etag(s3, key):
    return s3.head_object(Bucket="media", Key=key)["ETag"]


def test_an_object_arrives_with_where_it_came_from(fetch, media, store, s3):
    origin = fetch(media("a.mp4"))
    assert store.path(origin.sha256).read_bytes() == CONTENT
    assert origin.validator == etag(s3, "a.mp4")
    assert fetch.budget.received == origin.bytes == len(CONTENT)
    came = origin.provenance
    assert (came.url, came.final_url) == ("s3://media/a.mp4", "s3://media/a.mp4")
    assert came.content_type == "video/mp4"
    assert came.tool.startswith("s3fs 2")
    assert came.etag == origin.validator
    assert came.modified.endswith("+00:00")
    assert came.fetched
    assert store.recall(objects.key("s3://media/a.mp4")) == origin
    assert not list(store.folder.glob("partial/*"))


@pytest.mark.parametrize(
    "key",
    ["a b#c?d.mp4", "für/影片 🎬.mp4", "100%20.mp4", "-x.mp4", "[1]*.mp4", "/a//b.mp4", "a::b"],
)
def test_keys_are_taken_as_they_are_written(fetch, media, store, key):
    content = key.encode()
    assert store.path(fetch(media(key, content)).sha256).read_bytes() == content


def test_an_empty_object_is_no_video(fetch, media):
    assert refusal(fetch, media("empty.mp4", b"")) == ("not_a_video", "the object is empty")


def test_an_object_that_did_not_change_is_not_read(fetch, media):
    url = media("same.mp4")
    origin = fetch(url)
    assert fetch(url, known=origin) == origin
    assert fetch.budget.received == 0


def test_an_object_that_changed_is_read_again(fetch, media, store):
    origin = fetch(media("changed.mp4"))
    again = fetch(media("changed.mp4", b"new"), known=origin)
    assert store.path(again.sha256).read_bytes() == b"new"


def test_an_object_whose_copy_is_lost_is_read_again(fetch, media, store):
    url = media("lost.mp4")
    origin = fetch(url)
    store.path(origin.sha256).unlink()
    assert fetch(url, known=origin).sha256 == origin.sha256
    assert store.path(origin.sha256).exists()


def test_a_part_is_gone_on_from(fetch, media, store, s3):
    url = media("part.mp4")
    # not the true bytes, which shows that they are not read again
    plant(store, url, b"x" * 5_000_000, etag(s3, "part.mp4"), len(CONTENT))
    origin = fetch(url)
    assert fetch.budget.received == len(CONTENT) - 5_000_000
    expected = b"x" * 5_000_000 + CONTENT[5_000_000:]
    assert store.path(origin.sha256).read_bytes() == expected


def test_a_part_that_is_whole_is_not_read_again(fetch, media, store, s3):
    url = media("whole.mp4")
    plant(store, url, CONTENT, etag(s3, "whole.mp4"), len(CONTENT))
    assert store.path(fetch(url).sha256).read_bytes() == CONTENT
    assert fetch.budget.received == 0


@pytest.mark.parametrize(("validator", "total"), [('"other"', len(CONTENT)), ("", 6_000_000)])
def test_a_part_of_something_else_is_thrown_away(fetch, media, store, s3, validator, total):
    url = media("other.mp4")
    plant(store, url, b"x" * 5_000_000, validator or etag(s3, "other.mp4"), total)
    assert store.path(fetch(url).sha256).read_bytes() == CONTENT
    assert fetch.budget.received == len(CONTENT)


def test_what_another_process_has_fetched_meanwhile_is_taken(fetch, media):
    url = media("twice.mp4")
    first = fetch(url)
    assert fetch(url) == first
    assert fetch.budget.received == 0


def test_threads_share_a_client(fetch, media, store, params):
    urls = [media(f"{number}.mp4", str(number).encode()) for number in range(12)]
    budget = Budget(params, store.folder)

    def one(url):
        return objects.fetch(url, store, params=params, budget=budget, secrets=Secrets())

    with ThreadPoolExecutor(6) as pool:
        origins = list(pool.map(one, urls))
    contents = [store.path(origin.sha256).read_bytes() for origin in origins]
    assert contents == [str(number).encode() for number in range(12)]


def test_what_is_not_there_is_not_found(fetch, media):
    media("folder/a.mp4", b"")
    assert refusal(fetch, "s3://media/none.mp4") == (
        "not_found",
        "there is no object media/none.mp4",
    )
    assert refusal(fetch, "s3://media/folder") == ("not_found", "a folder, not an object")
    reason, message = refusal(fetch, "s3://nobody-has-it/a.mp4")
    assert reason == "not_found"
    assert "NoSuchBucket" in message


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_bytes": 100}, "too_large"), ({"run_bytes": 100}, "budget")],
)
def test_what_is_too_large_is_not_begun(fetch, media, limits, reason):
    assert refusal(fetch, media("large.mp4"), **limits)[0] == reason
    assert fetch.budget.received == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "local:///etc/passwd",
        "/etc/passwd",
        "memory://a/b",
        "http://example.org/a.mp4",
        "ftp://example.org/a.mp4",
        "sftp://example.org/a.mp4",
        "github://a:b@c/d",
        "zip://a.mp4::s3://media/a.zip",
        "simplecache::s3://media/a.mp4",
        "s3://media/a.zip::file:///etc/passwd",
        "s3://key:hunter2@media/a.mp4",
        "s3://media/a.mp4?versionId=1",
        "s3://media",
        "s3://media/",
        "s3:///a.mp4",
        "s3://no..Bucket@/a.mp4",
    ],
)
def test_only_object_stores_are_asked(fetch, media, url):
    reason, message = refusal(fetch, url)
    assert reason == "refused"
    assert "hunter2" not in message


def test_a_scheme_is_known_in_any_case(fetch, media):
    assert fetch(media("case.mp4", b"x").replace("s3:", "S3:")).bytes == 1


def test_a_store_whose_package_is_missing_says_which(fetch):
    with pytest.raises(InputError, match=r"gs:// cannot be read: .*install gcsfs"):
        fetch("gs://bucket/a.mp4")


def test_without_credentials_there_is_no_way_in(fetch, media, monkeypatch):
    url = media("a.mp4", b"x")
    with_them = fetch(url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    told = refusal(fetch, url, known=with_them)
    assert told == ("auth", "Unable to locate credentials")


def test_not_even_a_debugging_log_holds_credentials(fetch, media, monkeypatch, caplog):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setenv("AWS_SESSION_TOKEN", "test-session-token")
    try:
        log.set_up("DEBUG")
        root.addHandler(caplog.handler)
        fetch(media("a.mp4", b"x"))
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    assert "test-session-token" not in caplog.text
    assert KEY not in caplog.text


# ---- a server that fails


class Failing(BaseHTTPRequestHandler):
    """Knows every object by HEAD, and answers GET as the key says: `code-status`."""

    protocol_version = "HTTP/1.1"
    log_message = staticmethod(lambda *_: None)

    def do_HEAD(self):
        kind, _, status = self.path.rpartition("/")[2].partition("-")
        self.server.looks += 1
        if kind == "head":
            self.send_response(int(status))
            self.send_header("Content-Length", "0")
        else:
            self.send_response(200)
            changed = kind == "changes" and self.server.looks > 1
            self.send_header("ETag", '"v2"' if changed else '"v1"')
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self):
        kind, _, status = self.path.rpartition("/")[2].partition("-")
        if kind in {"stalls", "drips"}:
            self.answer(206, b"", len(CONTENT))
            for _ in range(50):
                time.sleep(0.1)
                if kind == "drips":
                    self.wfile.write(b"x")
            return
        if kind in {"changes", "short", "breaks"}:
            start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            if kind == "breaks" and start and self.server.broken:
                self.answer(500, b"")
                return
            end = end - 1 if kind == "short" else end
            self.answer(206, CONTENT[start : end + 1])
            return
        error = f"<Error><Code>{kind}</Code><Message>because of {KEY}</Message></Error>"
        self.answer(int(status), error.encode())

    def answer(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def handle(self):
        with suppress(ConnectionError):
            super().handle()


@pytest.fixture(scope="module")
def failing_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def failing(failing_server, monkeypatch):
    failing_server.looks = 0
    failing_server.broken = True
    port = failing_server.server_port
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    return failing_server


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("AccessDenied-403", "forbidden"),
        ("ExpiredToken-400", "auth"),
        ("InvalidAccessKeyId-403", "auth"),
        ("SignatureDoesNotMatch-403", "auth"),
        ("SlowDown-503", "rate_limit"),
        ("TooManyRequests-429", "rate_limit"),
        ("InternalError-500", "server_error"),
        ("ServiceUnavailable-503", "server_error"),
        ("NoSuchKey-404", "not_found"),
        ("InvalidObjectState-403", "unreadable"),
        ("RequestTimeout-400", "timeout"),
        ("SomethingNew-418", "server_error"),
    ],
)
def test_what_the_server_says_becomes_a_reason(fetch, failing, answer, reason):
    secrets = Secrets(headers={"example.org": {"X-Key": KEY}})
    found, message = refusal(fetch, f"s3://media/{answer}", secrets=secrets)
    assert found == reason
    assert answer.partition("-")[0] in message
    assert "because of ***" in message


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "auth"), (401, "auth"), (403, "forbidden"), (429, "rate_limit"), (503, "server_error")],
)
def test_a_status_without_words_becomes_a_reason(fetch, failing, status, reason):
    assert refusal(fetch, f"s3://media/head-{status}")[0] == reason
    # the download itself decides whether to try again; with 400 the client looks for the region
    assert failing.looks == (2 if status == 400 else 1)


def test_an_object_that_changes_meanwhile_is_not_mixed(fetch, failing, store):
    reason, message = refusal(fetch, "s3://media/changes")
    assert (reason, message) == ("connection", "the object changed while it was read")
    failing.looks = 0
    reason, _ = refusal(fetch, "s3://media/changes")
    assert reason == "connection"
    assert fetch.budget.received == len(CONTENT)  # anew


def test_a_fetch_that_broke_off_goes_on(fetch, failing, store):
    assert refusal(fetch, "s3://media/breaks")[0] == "server_error"
    received = fetch.budget.received
    assert 0 < received < len(CONTENT)
    failing.broken = False
    origin = fetch("s3://media/breaks")
    assert store.path(origin.sha256).read_bytes() == CONTENT
    assert fetch.budget.received == len(CONTENT) - received


def test_an_answer_that_is_too_short_is_no_success(fetch, failing):
    assert refusal(fetch, "s3://media/short")[0] == "connection"


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("stalls", {"timeout_s": 0.2, "min_bytes_per_s": 0.0}),
        ("drips", {"timeout_s": 0.3, "min_bytes_per_s": 1e9}),
    ],
)
def test_a_server_that_is_too_slow_is_left(fetch, failing, kind, limits):
    begun = time.monotonic()
    assert refusal(fetch, f"s3://media/{kind}", **limits)[0] == "timeout"
    assert time.monotonic() - begun < 4


def test_no_server_is_a_lost_connection(fetch, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    reason, message = refusal(fetch, "s3://media/a.mp4")
    assert reason == "connection"
    assert "Could not connect to the endpoint URL" in message


def test_an_endpoint_that_is_none_is_named(fetch, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert "Invalid endpoint: nonsense" in refusal(fetch, "s3://media/a.mp4")[1]
