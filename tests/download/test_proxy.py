import base64
import hashlib
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
import yt_dlp

from mssync.download.addresses import Policy
from mssync.download.proxy import REFUSED, filtering_proxy
from mssync.errors import InputError
from mssync.media import ffmpeg

LARGE = np.random.default_rng(0).bytes(20 << 20)


class _Origin(BaseHTTPRequestHandler):
    """A server that echoes, serves files, and misbehaves."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self):
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        name, _, rest = self.path.lstrip("/").partition("?")
        if name == "to":
            self._reply(302, b"", ("Location", rest))
        elif name == "large":
            self._send_range(LARGE)
        elif name == "chunked" or name == "cut":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n" + (b"0\r\n\r\n" if name == "chunked" else b""))
            self.close_connection = True
        elif name == "short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"hello")
            self.close_connection = True
        elif name == "stall":
            self.server.stalled.set()
            self.connection.recv(1)
            self.close_connection = True
        elif name == "garbage":
            self.wfile.write(b"\x00\x01\x02 what?\r\n\r\n")
            self.close_connection = True
        elif name in self.server.files:
            self._send_range(self.server.files[name])
        else:
            self._reply(200, b"hello", ("Connection", "X-Private"), ("X-Private", "1"))

    do_HEAD = do_GET

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            chunk = self.rfile.read1(left)
            left -= len(chunk)
            digest.update(chunk)
            if not chunk:
                return
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        self._reply(201, digest.hexdigest().encode())

    def _send_range(self, content):
        wanted = self.headers.get("Range")
        if not wanted:
            return self._reply(200, content, ("Accept-Ranges", "bytes"))
        start, end = wanted.removeprefix("bytes=").split("-")
        part = content[int(start) : int(end) + 1 if end else None]
        last = int(start) + len(part) - 1
        return self._reply(
            206, part, ("Content-Range", f"bytes {start}-{last}/{len(content)}"), ("ETag", '"1"')
        )

    def _reply(self, status, body, *headers):
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts servers, and stops them."""
    started = []

    def start(context=None, files=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
        server.daemon_threads = True
        server.asked, server.files, server.stalled = [], files or {}, threading.Event()
        server.handle_error = lambda *_: None  # clients that leave
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def origin(serve):
    return serve()


@pytest.fixture
def proxy():
    """A proxy that allows a mirror at 127.0.0.1."""
    with filtering_proxy(Policy(("127.0.0.1",)), timeout_s=5.0) as proxy:
        yield proxy


@pytest.fixture
def tls(serve, tmp_path):
    """A TLS server, and a context that trusts it."""
    file = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", file, "-out", tmp_path / "signed.pem", "-days", "2",
         "-subj", "/CN=a test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + (tmp_path / "signed.pem").read_text())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    server = serve(context)
    server.file = file
    server.trusted = ssl.create_default_context(cafile=file)
    return server


def _client(proxy, **options):
    return httpx.Client(proxy=proxy.url, trust_env=False, timeout=10.0, **options)


def _raw(proxy, request):
    """What the proxy answers to these very bytes."""
    at = httpx.URL(proxy.url)
    with socket.create_connection((at.host, at.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def _credentials(proxy):
    user, password = httpx.Proxy(proxy.url).raw_auth
    return b"Proxy-Authorization: Basic " + base64.b64encode(user + b":" + password)


# what is handed on


def test_requests_reach_an_allowed_host(origin, proxy):
    with _client(proxy) as client:
        plain = client.get(f"{origin.url}/a%20b?x=%2F&y")
        head = client.head(f"{origin.url}/large")
        part = client.get(f"{origin.url}/large", headers={"Range": "bytes=1000-1999"})
        chunked = client.get(f"{origin.url}/chunked")
    assert (plain.text, plain.status_code, plain.reason_phrase) == ("hello", 200, "OK")
    assert int(head.headers["Content-Length"]) == len(LARGE)
    assert part.status_code == 206
    assert part.content == LARGE[1000:2000]
    assert part.headers["ETag"] == '"1"'
    assert chunked.text == "hello"
    assert next(path for _, path, _ in origin.asked) == "/a%20b?x=%2F&y"
    assert proxy.refusals == {}


def test_large_bodies_pass_whole_both_ways(origin, proxy):
    with _client(proxy) as client:
        down = client.get(f"{origin.url}/large").content
        up = client.post(f"{origin.url}/", content=LARGE)
    assert hashlib.sha256(down).digest() == hashlib.sha256(LARGE).digest()
    assert (up.status_code, up.text) == (201, hashlib.sha256(LARGE).hexdigest())


def test_headers_of_one_connection_are_not_handed_on(origin, proxy):
    headers = {"Connection": "close, X-Hop", "X-Hop": "1", "X-Kept": "2", "Host": "other.example",
               "Keep-Alive": "1", "Upgrade": "h2c"}  # fmt: skip
    with _client(proxy) as client:
        answer = client.get(f"{origin.url}/", headers=headers)
    seen = {name.lower(): value for name, value in origin.asked[0][2].items()}
    assert seen["x-kept"] == "2"
    assert seen["host"] == origin.url.removeprefix("http://")
    assert not {"proxy-authorization", "x-hop", "keep-alive", "upgrade"} & set(seen)
    assert "X-Private" not in answer.headers


def test_bytes_outside_ascii_in_a_path_are_quoted(origin, proxy):
    request = f"GET {origin.url}/ü.ts HTTP/1.1\r\n".encode()
    answer = _raw(proxy, request + _credentials(proxy) + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert origin.asked[0][1] == "/%C3%BC.ts"


@pytest.mark.parametrize("name", ["cut", "short"])
def test_an_answer_that_ends_early_does_so_for_the_client(origin, proxy, name):
    with (
        _client(proxy) as client,
        pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|complete message body"),
    ):
        client.get(f"{origin.url}/{name}")


def test_a_tunnel_carries_tls_that_only_the_ends_understand(tls, proxy):
    with _client(proxy, verify=tls.trusted) as client:
        assert client.get(f"{tls.url}/").text == "hello"
        assert client.get(f"{tls.url}/large").content == LARGE
        posted = client.post(f"{tls.url}/", content=LARGE)
    assert posted.text == hashlib.sha256(LARGE).hexdigest()
    assert proxy.refusals == {}


def test_a_client_may_begin_before_its_tunnel_stands(origin, proxy):
    at = origin.url.removeprefix("http://").encode()
    request = b"CONNECT %s HTTP/1.1\r\n%s\r\n\r\n" % (
        at,
        _credentials(proxy),
    )
    answer = _raw(proxy, request + b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    assert answer.endswith(b"hello")


def test_urllib_takes_the_proxy_from_its_url(origin, proxy):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy.url}))
    with opener.open(f"{origin.url}/", timeout=10) as answer:
        assert answer.read() == b"hello"


# what is refused


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "localhost", "127.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_is_not_public_is_refused_and_remembered(origin, host, scheme):
    with filtering_proxy(Policy()) as proxy, _client(proxy) as client:
        url = f"{scheme}://{host}:{origin.server_port}/"
        if scheme == "http":
            answer = client.get(url)
            assert (answer.status_code, answer.headers[REFUSED]) == (403, "refused")
            assert "not a public address" in answer.text
        else:
            with pytest.raises(httpx.ProxyError, match="403"):
                client.get(url)
        error = proxy.refusals[host]
    assert error.reason == "refused"
    assert "not a public address" in str(error)
    assert origin.asked == []


def test_a_redirect_from_a_mirror_to_a_refused_address_is_not_followed(origin, proxy):
    with _client(proxy, follow_redirects=True) as client:
        answer = client.get(f"{origin.url}/to?http://169.254.169.254/latest/meta-data")
    assert answer.headers[REFUSED] == "refused"
    assert list(proxy.refusals) == ["169.254.169.254"]


def test_a_refused_body_is_read_so_that_the_answer_arrives():
    with filtering_proxy(Policy()) as proxy:
        line = b"POST http://127.0.0.1:9/ HTTP/1.1\r\nContent-Length: %d\r\n" % (4 << 20)
        answer = _raw(proxy, line + _credentials(proxy) + b"\r\n\r\n" + bytes(4 << 20))
    assert answer.startswith(b"HTTP/1.1 403")


def test_the_true_cause_of_a_failure_is_told(origin, proxy):
    with socket.socket() as taken, _client(proxy) as client:
        taken.bind(("127.0.0.1", 0))
        down = client.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        assert "refused" in str(proxy.refusals["127.0.0.1"])
        nowhere = client.get("http://nowhere.invalid/")
        garbage = client.get(f"{origin.url}/garbage")
    answers = [(each.status_code, each.headers[REFUSED]) for each in (down, nowhere, garbage)]
    assert answers == [(502, "connection"), (502, "connection"), (502, "server_error")]
    assert "cannot be found" in str(proxy.refusals["nowhere.invalid"])


def test_a_silent_server_is_a_timeout(origin):
    with filtering_proxy(Policy(("127.0.0.1",)), timeout_s=0.2) as proxy, _client(proxy) as client:
        answer = client.get(f"{origin.url}/stall")
    assert (answer.status_code, answer.headers[REFUSED]) == (504, "timeout")
    assert str(proxy.refusals["127.0.0.1"]) == "127.0.0.1: no answer for 0.2 s"


def test_a_host_that_is_reached_later_is_no_longer_refused(origin, proxy):
    with socket.socket() as taken, _client(proxy) as client:
        taken.bind(("127.0.0.1", 0))
        client.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        assert proxy.refusals
        client.get(f"{origin.url}/")
    assert proxy.refusals == {}


def test_nobody_without_the_password_is_served(origin, proxy):
    at = httpx.URL(proxy.url)
    for user in ("", "mssync:wrong@"):
        with httpx.Client(proxy=f"http://{user}127.0.0.1:{at.port}", trust_env=False) as client:
            assert client.get(f"{origin.url}/").status_code == 407
            assert client.post(f"{origin.url}/", content=b"x" * 9999).status_code == 407
            with pytest.raises(httpx.ProxyError, match="407"):
                client.get(f"https://127.0.0.1:{origin.server_port}/")
    assert origin.asked == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"SSH-2.0-x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAUTH\r\n\r\n", b"400"),
        (b"GET ftp://127.0.0.1/ HTTP/1.1\r\nAUTH\r\n\r\n", b"400"),
        (b"GET https://127.0.0.1/ HTTP/1.1\r\nAUTH\r\n\r\n", b"400"),
        (b"GET http://u:p@127.0.0.1/ HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"BREW http://127.0.0.1/ HTTP/1.1\r\nAUTH\r\n\r\n", b"501"),
        (b"CONNECT 127.0.0.1 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT 127.0.0.1:0 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT 127.0.0.1:" + b"9" * 5000 + b" HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT u@127.0.0.1:80 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT 127.0.0.1/:80 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT 127.0.0.1:80#:80 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\nAUTH\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\nAUTH\r\nContent-Length: 1" + b"0" * 5000
         + b"\r\n\r\n", b"411"),
        (b"GET http://127.0.0.1/" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", b"431"),
        (b"GET ORIGIN/ HTTP/1.1\r\nAUTH\r\nX: a\r\n b\r\n\r\n", b"403"),
        (b"GET http://[::1]/ HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT [::1]:80 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"CONNECT ::1:80 HTTP/1.1\r\nAUTH\r\n\r\n", b"403"),
        (b"", b""),
    ],
)  # fmt: skip
def test_garbage_is_answered_and_not_handed_on(proxy, origin, request_bytes, status):
    credentials = _credentials(proxy)
    request_bytes = request_bytes.replace(b"ORIGIN", origin.url.encode())
    answer = _raw(proxy, request_bytes.replace(b"AUTH", credentials))
    assert answer[9:12] == status or answer.partition(b"Error code: ")[2][:3] == status
    with _client(proxy) as client:
        assert client.get(f"{origin.url}/").text == "hello"
    assert len(origin.asked) == 1


# how it ends


def test_a_client_that_leaves_in_the_middle_harms_nobody(origin, proxy):
    for _ in range(3):
        with _client(proxy) as client, client.stream("GET", f"{origin.url}/large") as answer:
            next(answer.iter_raw())
    at = httpx.URL(proxy.url)
    with socket.create_connection((at.host, at.port)) as connection:
        line = b"POST %s/ HTTP/1.1\r\n%s\r\nContent-Length: 99\r\n\r\nhello"
        connection.sendall(line % (origin.url.encode(), _credentials(proxy)))
    with _client(proxy) as client:
        assert client.get(f"{origin.url}/").text == "hello"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_does_not_wait_for_connections_that_are_open(origin, scheme):
    before = set(threading.enumerate())
    began_s = time.monotonic()
    with filtering_proxy(Policy(("127.0.0.1",)), timeout_s=60.0) as proxy:
        at = httpx.URL(proxy.url)
        idle = socket.create_connection((at.host, at.port))
        asking = socket.create_connection((at.host, at.port))
        target = origin.url.removeprefix("http://")
        line = f"GET {origin.url}/stall" if scheme == "http" else f"CONNECT {target}"
        asking.sendall(b"%s HTTP/1.1\r\n%s\r\n\r\n" % (line.encode(), _credentials(proxy)))
        if scheme == "https":
            asking.sendall(b"GET /stall HTTP/1.1\r\n\r\n")
        assert origin.stalled.wait(10)
    assert time.monotonic() - began_s < 20
    ours = [each for each in set(threading.enumerate()) - before if each.is_alive()]
    assert [each for each in ours if "_Server" in repr(getattr(each, "_target", ""))] == []
    for connection in (idle, asking):
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((at.host, at.port))


# the operator's proxy


def test_a_proxy_behind_the_proxy_is_used_with_its_password(tls, origin):
    policy = Policy(("127.0.0.1",))
    with (
        filtering_proxy(policy, timeout_s=5.0) as outer,
        filtering_proxy(policy, upstream=outer.url, timeout_s=5.0) as inner,
        _client(inner, verify=tls.trusted) as client,
    ):
        assert client.get(f"{origin.url}/large").content == LARGE
        assert client.get(f"{tls.url}/large").content == LARGE
        assert client.post(f"{origin.url}/", content=LARGE).status_code == 201
        assert inner.refusals == {}


def test_targets_are_checked_before_the_proxy_behind_is_asked(origin):
    with (
        filtering_proxy(Policy(("127.0.0.1",))) as outer,
        filtering_proxy(Policy(), upstream=outer.url) as inner,
        _client(inner) as client,
    ):
        assert client.get(f"{origin.url}/").headers[REFUSED] == "refused"
        with pytest.raises(httpx.ProxyError, match="403"):
            client.get(f"https://127.0.0.1:{origin.server_port}/")
        assert outer.refusals == {}
    assert origin.asked == []


def test_a_refusal_of_the_proxy_behind_is_told_as_its_own(origin):
    policy = Policy(("127.0.0.1",))
    with (
        filtering_proxy(Policy()) as outer,
        filtering_proxy(policy, upstream=outer.url) as inner,
        _client(inner) as client,
    ):
        with pytest.raises(httpx.ProxyError, match="502"):
            client.get(f"https://127.0.0.1:{origin.server_port}/")
        error = inner.refusals["127.0.0.1"]
    assert (error.reason, str(error)) == ("forbidden", "the upstream proxy answered 403")


def test_a_wrong_password_for_the_proxy_behind_is_told(origin):
    policy = Policy(("127.0.0.1",))
    with filtering_proxy(policy) as outer:
        wrong = f"http://mssync:wrong@127.0.0.1:{httpx.URL(outer.url).port}"
        with filtering_proxy(policy, upstream=wrong) as inner, _client(inner) as client:
            answer = client.get(f"{origin.url}/")
            assert (answer.status_code, answer.headers[REFUSED]) == (502, "auth")
            with pytest.raises(httpx.ProxyError, match="502"):
                client.get(f"https://127.0.0.1:{origin.server_port}/")
            assert inner.refusals["127.0.0.1"].reason == "auth"


def test_a_proxy_behind_that_is_not_understood_is_an_error_of_input():
    with pytest.raises(InputError), filtering_proxy(Policy(), upstream="socks5://h:1"):
        pass


# the tools it is for


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    file = tmp_path_factory.mktemp("video") / "a.mp4"
    ffmpeg.encode((np.zeros((32, 32, 3), np.uint8) for _ in range(10)), file, fps_hz=25)
    return file.read_bytes()


def _environment(proxy):
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | {"http_proxy": proxy.url}


def _run_ffmpeg(proxy, url, *options):
    return subprocess.run(
        [ffmpeg.executable(), "-v", "error", *options, "-i", url, "-f", "null", "-"],
        env=_environment(proxy),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ffmpeg_goes_through_the_proxy(serve, tls, proxy, video):
    origin = serve(files={"a.mp4": video})
    tls.files["a.mp4"] = video
    for server, options in ((origin, ()), (tls, ("-ca_file", tls.file))):
        done = _run_ffmpeg(proxy, f"{server.url}/a.mp4", *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.asked
    with filtering_proxy(Policy()) as strict:
        done = _run_ffmpeg(strict, f"{origin.url}/a.mp4")
        assert done.returncode != 0
        assert strict.refusals["127.0.0.1"].reason == "refused"


def test_yt_dlp_goes_through_the_proxy(serve, proxy, video, tmp_path):
    origin = serve(files={"a.mp4": video})
    options = {"proxy": proxy.url, "outtmpl": str(tmp_path / "%(id)s.%(ext)s"), "quiet": True,
               "no_warnings": True, "retries": 0, "cachedir": False}  # fmt: skip
    with yt_dlp.YoutubeDL(options) as tool:
        tool.download([f"{origin.url}/a.mp4"])
    assert (tmp_path / "a.mp4").read_bytes() == video
    with (
        filtering_proxy(Policy()) as strict,
        yt_dlp.YoutubeDL(options | {"proxy": strict.url}) as tool,
        pytest.raises(yt_dlp.utils.DownloadError),
    ):
        tool.download([f"{origin.url}/b.mp4"])
    assert strict.refusals["127.0.0.1"].reason == "refused"
