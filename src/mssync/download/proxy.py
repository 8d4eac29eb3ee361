"""How are tools that open sockets of their own (yt-dlp, ffmpeg) kept to allowed addresses?

They are given a forward proxy on this machine, which connects only where the policy allows. It
wants a password that is new each time, so that nobody else on the machine can use it.
"""

import base64
import hmac
import io
import logging
import re
import secrets
import selectors
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote, urlsplit
from weakref import WeakSet

import httpcore
import httpx

from mssync.download.addresses import CheckedBackend, Policy, core_proxy, parse_proxy
from mssync.errors import ClipRejectedError

logger = logging.getLogger(__name__)

REFUSED = "X-Mssync-Refused"  # header of an answer of ours: the reason

_USER = "mssync"
_CHUNK_BYTES = 64 << 10
_MOST_HEADER_BYTES = 64 << 10
_MOST_UNREAD_BYTES = 4 << 20  # of a request's body that are read before it is refused
_LENGTH = re.compile("[0-9]{1,18}")
_TARGET_CHARACTERS = "".join(map(chr, range(0x21, 0x7F)))
# What belongs to one connection and is not handed on (RFC 9110, section 7.6.1).
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
     b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade",
     b"te"}  # codespell:ignore te
)  # fmt: skip
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
)
_STATUS = {"refused": "403 Forbidden", "timeout": "504 Gateway Timeout"}


class FilteringProxy:
    """What a user of the proxy sees of it.

    Attributes:
        url: `http://user:password@127.0.0.1:port`, for `http_proxy` and the like.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = Lock()
        self._refusals: dict[str, ClipRejectedError] = {}

    @property
    def refusals(self) -> dict[str, ClipRejectedError]:
        """Why hosts were not reached, by host, in the order of asking; tools hide the cause.

        Reasons are `refused`, `connection`, `timeout` and `server_error`; of the upstream proxy
        also `auth` and `forbidden`. A host that is reached later is no longer among them.
        """
        with self._lock:
            return dict(self._refusals)

    def note(self, host: str, error: ClipRejectedError | None) -> None:
        """Remember that a host was not reached, or, with None, that it was."""
        with self._lock:
            self._refusals.pop(host, None)
            if error:
                self._refusals[host] = error


@contextmanager
def filtering_proxy(
    policy: Policy, *, upstream: str = "", timeout_s: float = 30.0
) -> Iterator[FilteringProxy]:
    """Run a forward proxy on this machine while the context is open.

    It takes plain `http://` requests and CONNECT. Each host is checked when it is connected to;
    with `upstream` it is checked here, and connected to there.

    Args:
        policy: What may be connected to.
        upstream: URL of the operator's proxy, `http://user:password@host:port`, that everything
            goes through. It may be at any address.
        timeout_s: Longest silence of either side.

    Yields:
        The proxy's URL, and what it refused. A refusal is answered with the reason in the header
        `X-Mssync-Refused` and the message as text.

    Raises:
        InputError: If `upstream` is not such a URL.
    """
    with _Server(policy, upstream, timeout_s) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield server.proxy
        finally:
            server.shutdown()
            serving.join()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, policy: Policy, upstream: str, timeout_s: float) -> None:
        self.policy = policy
        self.upstream = parse_proxy(upstream) if upstream else None
        self.timeout_s = timeout_s
        self.backend = _Tracked(httpcore.SyncBackend() if upstream else CheckedBackend(policy))
        self.pool = httpcore.ConnectionPool(
            max_connections=None,
            max_keepalive_connections=0,
            proxy=core_proxy(upstream) if upstream else None,
            network_backend=self.backend,
        )
        self._clients: list[Thread] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        password = secrets.token_urlsafe(24)
        self.credentials = _basic(_USER.encode(), password.encode())
        self.proxy = FilteringProxy(f"http://{_USER}:{password}@127.0.0.1:{self.server_address[1]}")

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve one connection in a thread that dies with the program, and is known here."""
        self.backend.track(request)
        thread = Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._clients = [known for known in self._clients if known.is_alive()] + [thread]
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say in the log what should not have happened, not on stderr."""
        logger.exception("the filtering proxy failed at a request")

    def server_close(self) -> None:
        """Cut all connections, and wait for their threads."""
        super().server_close()
        self.backend.cut()
        for thread in self._clients:
            thread.join()
        self.pool.close()


class _Tracked(httpcore.SyncBackend):
    """Knows the sockets that are open, so that no thread waits on them at the end."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner
        self._lock = Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._closing = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        self.track(stream.get_extra_info("socket"))
        return stream

    def track(self, opened: socket.socket) -> None:
        with self._lock:
            self._open.add(opened)
            if self._closing:
                _cut(opened)

    def cut(self) -> None:
        with self._lock:
            self._closing = True
            for opened in self._open:
                _cut(opened)


def _cut(opened: socket.socket) -> None:
    with suppress(OSError):  # it is cut already
        opened.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client: one request, then it is closed."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.timeout_s)
        self._unread = 0  # bytes of the request's body

    def handle(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client has left, or the proxy is closed
            self.handle_one_request()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a URL may hold what is secret."""

    def do_CONNECT(self) -> None:
        if not self._authorized():
            return
        host, _, port = self.path.rpartition(":")
        host = host.strip("[]").lower()
        try:
            self.server.policy.check_url(f"http://{self.path}")
            if not port.isdecimal():
                raise ClipRejectedError("refused", "CONNECT host:port was expected")
            remote, early = self._open_tunnel(host, int(port))
        except (ClipRejectedError, *_FAILURES) as error:
            self._refuse(host, error)
            return
        with remote:
            self.server.proxy.note(host, None)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n" + early)
            remote.settimeout(self.server.timeout_s)
            remote.sendall(self._read_ahead())
            _relay(self.connection, remote, self.server.timeout_s)

    def _forward(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length):
            self._answer("411 Length Required", b"a body needs a Content-Length\n")
            return
        self._unread = int(length)
        if not self._authorized():
            return
        if not self.path.lower().startswith("http://"):
            self._answer("400 Bad Request", b"http://host/path or CONNECT was expected\n")
            return
        host = ""
        try:
            self.server.policy.check_url(self.path)
            url = httpx.URL(self.path)
            host = url.raw_host.decode()
            if self.server.upstream:
                self.server.policy.check_target(host, url.port or 80)
            response = self._ask(url)
        except (ClipRejectedError, *_FAILURES) as error:
            self._refuse(host, error)
            return
        self.server.proxy.note(host, None)
        try:
            self._respond(response)
        finally:
            response.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward

    def _authorized(self) -> bool:
        given = self.headers.get("Proxy-Authorization", "").encode("latin-1", "replace")
        if hmac.compare_digest(given, self.server.credentials):
            return True
        self._answer(
            "407 Proxy Authentication Required",
            b"the password in the proxy's URL was expected\n",
            'Proxy-Authenticate: Basic realm="mssync"',
        )
        return False

    def _read_ahead(self) -> bytes:
        """What a client has sent behind its CONNECT, not waiting for the answer."""
        assert isinstance(self.rfile, io.BufferedReader)
        self.connection.setblocking(False)
        ahead = self.rfile.peek()
        self.connection.settimeout(self.server.timeout_s)
        return ahead

    def _open_tunnel(self, host: str, port: int) -> tuple[socket.socket, bytes]:
        """Connect, and return the socket and what the other side has sent already."""
        upstream, timeout_s = self.server.upstream, self.server.timeout_s
        if upstream is None:
            stream = self.server.backend.connect_tcp(host, port, timeout_s)
            return stream.get_extra_info("socket"), b""
        self.server.policy.check_target(host, port)
        stream = self.server.backend.connect_tcp(
            upstream.url.raw_host.decode(), upstream.url.port or 80, timeout_s
        )
        try:
            early = _ask_for_tunnel(stream, self.path.encode(), upstream, timeout_s)
        except BaseException:
            stream.close()
            raise
        return stream.get_extra_info("socket"), early

    def _ask(self, url: httpx.URL) -> httpcore.Response:
        """Hand the request on, and return the answer with its body still to come."""
        parts = urlsplit(self.path)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        request = httpcore.Request(
            self.command,
            httpcore.URL(
                scheme=b"http",
                host=url.raw_host,
                port=url.port,
                # Some clients send other bytes than ASCII as they are.
                target=quote(target.encode("latin-1"), safe=_TARGET_CHARACTERS).encode(),
            ),
            headers=[(b"Host", url.netloc), *_end_to_end(headers, without=(b"host", b"expect"))],
            content=self._body() if self._unread else None,
            extensions={
                "timeout": dict.fromkeys(("connect", "read", "write"), self.server.timeout_s)
            },
        )
        response = self.server.pool.handle_request(request)
        if self.server.upstream and response.status == 407:
            response.close()
            raise _wrong_password()
        return response

    def _body(self) -> Iterator[bytes]:
        while self._unread:
            chunk = self.rfile.read1(min(self._unread, _CHUNK_BYTES))
            if not chunk:
                raise ConnectionAbortedError("the client left")
            self._unread -= len(chunk)
            yield chunk

    def _respond(self, response: httpcore.Response) -> None:
        """Hand the answer on; one that ends too early must look so to the client."""
        names = {name.lower() for name, _ in response.headers}
        sized = b"content-length" in names and b"transfer-encoding" not in names
        empty = self.command == "HEAD" or response.status in (204, 304)
        chunked = not sized and not empty and self.request_version == "HTTP/1.1"
        headers = _end_to_end(response.headers, without=() if sized else (b"content-length",))
        headers += [(b"Connection", b"close")]
        headers += [(b"Transfer-Encoding", b"chunked")] * chunked
        reason = response.extensions.get("reason_phrase", b"")
        head = b"HTTP/1.1 %d %s\r\n" % (response.status, reason)
        self.wfile.write(head + b"".join(b"%s: %s\r\n" % each for each in headers) + b"\r\n")
        try:
            for chunk in response.iter_stream():
                if chunk:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
        except _FAILURES:
            return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, host: str, error: Exception) -> None:
        cause = _cause(host, error, self.server)
        self.server.proxy.note(host, cause)
        status = _STATUS.get(cause.reason, "502 Bad Gateway")
        self._answer(status, f"{cause}\n".encode(), f"{REFUSED}: {cause.reason}")

    def _answer(self, status: str, body: bytes, *headers: str) -> None:
        # A client that is cut off while it still sends would not read the answer.
        enough = self._unread - _MOST_UNREAD_BYTES
        for _ in self._body():
            if self._unread <= enough:
                break
        lines = (
            f"HTTP/1.1 {status}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *headers,
        )
        content = b"" if self.command == "HEAD" else body
        self.wfile.write("\r\n".join((*lines, "", "")).encode() + content)


def _basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


def _end_to_end(
    headers: list[tuple[bytes, bytes]], *, without: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    """The headers that are handed on."""
    named = {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    left_out = _HOP_BY_HOP | named | set(without)
    return [(name, value) for name, value in headers if name.lower() not in left_out]


def _ask_for_tunnel(
    stream: httpcore.NetworkStream, target: bytes, upstream: httpx.Proxy, timeout_s: float
) -> bytes:
    """Have the upstream proxy connect, and return what came behind its answer."""
    request = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (target, target)
    if upstream.raw_auth:
        request += b"Proxy-Authorization: %s\r\n" % _basic(*upstream.raw_auth)
    stream.write(request + b"\r\n", timeout_s)
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = stream.read(_CHUNK_BYTES, timeout_s)
        if not chunk or len(answer) > _MOST_HEADER_BYTES:
            raise httpcore.RemoteProtocolError("no answer to CONNECT")
        answer += chunk
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if status is None:
        raise httpcore.RemoteProtocolError("no answer to CONNECT")
    code = int(status[1])
    if code == 407:
        raise _wrong_password()
    if not 200 <= code < 300:
        reason = "forbidden" if code == 403 else "connection"
        raise ClipRejectedError(reason, f"the upstream proxy answered {code}")
    return answer.partition(b"\r\n\r\n")[2]


def _wrong_password() -> ClipRejectedError:
    return ClipRejectedError("auth", "the upstream proxy wants another user or password (407)")


def _cause(host: str, error: Exception, server: _Server) -> ClipRejectedError:
    """What hindered a request, as the ledger knows it."""
    if isinstance(error, ClipRejectedError):
        return error
    where = f"{host}, through the upstream proxy" if server.upstream else host
    if isinstance(error, httpcore.TimeoutException):
        return ClipRejectedError("timeout", f"{where}: no answer for {server.timeout_s:g} s")
    if isinstance(error, httpcore.LocalProtocolError):
        return ClipRejectedError("refused", f"{where}: the request is malformed: {error}")
    if isinstance(error, httpcore.ProtocolError):
        return ClipRejectedError("server_error", f"{where}: not an answer of HTTP: {error}")
    return ClipRejectedError("connection", f"{where}: {error}")


def _relay(client: socket.socket, remote: socket.socket, timeout_s: float) -> None:
    """Carry bytes both ways until both sides have ended, or both are silent for too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, remote)
        selector.register(remote, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(timeout_s)
            if not ready:
                return
            for key, _ in ready:
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                data = source.recv(_CHUNK_BYTES)
                if data:
                    sink.sendall(data)
                else:
                    selector.unregister(source)
                    sink.shutdown(socket.SHUT_WR)
