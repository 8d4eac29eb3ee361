"""A loopback web server that behaves like the worst of the web: what goes wrong is in the path.

    with serving(content=b"...", folder=footage) as web:
        httpx.get(web.url("plain"))                     # the content
        httpx.get(web.url("plain/other.mp4"))           # the same, another path
        httpx.get(web.url("tagged", cut=1))             # its first answer breaks off in the middle
        httpx.get(web.file_url("a #1 %.mp4"))           # a file of the folder
        web.log[0].headers["range"], web.sent("/plain")

The first part of a path names one of `BEHAVIOURS`; what follows is free, so that there can be many
paths of one kind. `cut=1` works with each of them: the first answer of a path ends after half of
its body. One request is answered at a time on each connection, and connections are kept, as
HTTP/1.1 has it.
"""

import gzip
import os
import re
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

CONTENT = bytes(range(256)) * 2000
PAGE = b"<!doctype html><title>Watch</title><p>No video here."
MODIFIED = "Tue, 03 Feb 2026 10:00:00 GMT"
ETAG = '"v1"'
_BLOCK_BYTES = 1 << 16
_HANDSHAKE = b"\x16"  # what TLS begins with


@dataclass
class Asked:
    """A request, and how it went.

    Attributes:
        method: GET, mostly.
        target: Path and query as they were sent.
        path: Without the query, unquoted.
        query: Of the target.
        headers: By name in lower case.
        connection: Number of the connection it came by.
        time: From 0 for the first request of this path.
        sent: Bytes of the body that were handed to the network.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    connection: int
    time: int = 0
    sent: int = 0


@dataclass
class Answer:
    """What is sent; the rest is worked out.

    Attributes:
        body: In one piece, or in pieces that may take their time, or a part of a file.
        length: Announced instead of the true one; -1 announces none.
        chunked: Sent in chunks, each piece one.
        cut: Ends before the last of what was announced, and hangs up.
        raw: Sent instead of all this.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: "bytes | Iterable[bytes] | FileSpan" = b""
    length: int | None = None
    chunked: bool = False
    cut: bool = False
    raw: bytes = b""


@dataclass
class FileSpan:
    """Part of a file, which the kernel sends."""

    path: Path
    start: int
    stop: int


class Web:
    """The server, seen from a test.

    Attributes:
        base: `http://127.0.0.1:PORT`.
        log: Every request, in order of arrival.
        content: What most behaviours serve.
        folder: What `files/` serves.
        over: Set when the server closes: what waits must end.
        pace_s: A pause after every 64 KiB of a file or of bytes in one piece; 0: none.
    """

    def __init__(self, port: int, content: bytes, folder: Path | None) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.log = list[Asked]()
        self.content = content
        self.folder = folder
        self.over = threading.Event()
        self.pace_s = 0.0
        self._times = Counter[str]()
        self._lock = threading.Lock()

    def url(self, path: str, **query: object) -> str:
        """The address of a behaviour."""
        return f"{self.base}/{path}" + (f"?{urlencode(query)}" if query else "")

    def file_url(self, name: str) -> str:
        """The address of a file, whatever its name."""
        return f"{self.base}/files/{quote(name)}"

    def asked(self, path: str = "") -> list[Asked]:
        """The requests of a path; of all by default."""
        return [asked for asked in self.log if not path or asked.path == path]

    def sent(self, path: str = "") -> int:
        """Bytes of bodies that were sent for a path; for all by default."""
        return sum(asked.sent for asked in self.asked(path))

    def forget(self) -> None:
        """Begin a new log; how often a path was asked for is kept."""
        with self._lock:
            self.log.clear()

    def note(self, asked: Asked) -> Asked:
        """Take up a request."""
        with self._lock:
            asked.time = self._times[asked.path]
            self._times[asked.path] += 1
            self.log.append(asked)
        return asked


Behaviour = Callable[[Web, Asked], Answer]
BEHAVIOURS = dict[str, Behaviour]()


def behaviour(function: Behaviour) -> Behaviour:
    """Serve this under its name: `wrong_range` as `/wrong-range`."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


@contextmanager
def serving(content: bytes = CONTENT, folder: Path | None = None, port: int = 0) -> Iterator[Web]:
    """Serve on a port of the loopback interface, a free one by default."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        web = Web(listener.getsockname()[1], content, folder)
        connections = set[socket.socket]()
        thread = threading.Thread(target=_accept, args=(listener, web, connections), daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in list(connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, web: Web, connections: set[socket.socket]) -> None:
    while not web.over.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.add(connection)
        threading.Thread(target=_talk, args=(connection, web, connections), daemon=True).start()


def _talk(connection: socket.socket, web: Web, connections: set[socket.socket]) -> None:
    """Answer request after request."""
    try:
        with connection, connection.makefile("rb") as incoming:
            goes_on = True
            if incoming.peek(1)[:1] == _HANDSHAKE:
                incoming.read1()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            while goes_on and (asked := _read(incoming, connection)):
                web.note(asked)
                answer = _behaviour_of(asked)(web, asked)
                if "cut" in asked.query and not asked.time:
                    answer.cut = True
                goes_on = _send(connection, answer, asked, web)
    except OSError:
        pass  # whoever asked has hung up
    finally:
        connections.discard(connection)


def _behaviour_of(asked: Asked) -> Behaviour:
    if asked.method == "CONNECT":
        return _no_proxy
    kind = asked.path.split("/")[1]
    return status if kind.isdigit() else BEHAVIOURS.get(kind, missing)


def _read(incoming: Iterable[bytes], connection: socket.socket) -> Asked | None:
    lines = iter(incoming)
    first = next(lines, b"").decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    for line in lines:
        if line in (b"\r\n", b"\n"):
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    number = connection.getpeername()[1]
    # a proxy is asked for whole addresses
    path, _, query = re.sub(r"^\w+://[^/]*", "", first[1]).partition("?")
    return Asked(first[0], first[1], unquote(path), dict(parse_qsl(query)), headers, number)


def _send(connection: socket.socket, answer: Answer, asked: Asked, web: Web) -> bool:
    """Send an answer; whether the connection can go on."""
    if answer.raw:
        connection.sendall(answer.raw)
        return False
    body = answer.body
    whole = _size(body)
    length = whole if answer.length is None else answer.length
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Some Answer')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += ["Transfer-Encoding: chunked"] if answer.chunked else []
    lines += [f"Content-Length: {length}"] if length >= 0 and not answer.chunked else []
    head = "\r\n".join([*lines, "", ""]).encode()
    if isinstance(body, FileSpan):
        connection.sendall(head, socket.MSG_MORE if whole else 0)
        _send_file(connection, body, asked, web, cut=answer.cut)
    elif isinstance(body, bytes) and not answer.chunked and not web.pace_s:
        part = body[: len(body) // 2] if answer.cut else body
        asked.sent += len(part)  # before: whoever reads the last byte may look at once
        connection.sendall(head + part)
    else:
        connection.sendall(head)
        _send_pieces(connection, answer, asked, web)
    return not answer.cut and (answer.chunked or whole == length or answer.status == 304)


def _size(body: "bytes | Iterable[bytes] | FileSpan") -> int:
    if isinstance(body, FileSpan):
        return body.stop - body.start
    return len(body) if isinstance(body, bytes) else -1


def _send_file(
    connection: socket.socket, span: FileSpan, asked: Asked, web: Web, *, cut: bool
) -> None:
    stop = (span.start + span.stop) // 2 if cut else span.stop
    at_once = _BLOCK_BYTES if web.pace_s else stop
    with span.path.open("rb") as file:
        place = span.start
        while place < stop:
            count = min(at_once, stop - place)
            asked.sent = place + count - span.start
            place += os.sendfile(connection.fileno(), file.fileno(), place, count)
            asked.sent = place - span.start
            if web.pace_s:
                web.over.wait(web.pace_s)


def _send_pieces(connection: socket.socket, answer: Answer, asked: Asked, web: Web) -> None:
    pieces = answer.body
    assert not isinstance(pieces, FileSpan)
    if isinstance(pieces, bytes):
        whole = pieces[: len(pieces) // 2] if answer.cut else pieces
        starts = range(0, len(whole), _BLOCK_BYTES)
        pieces = (whole[start : start + _BLOCK_BYTES] for start in starts)
    for piece in pieces:
        framed = b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece
        asked.sent += len(piece)
        connection.sendall(framed)
        if web.pace_s:
            web.over.wait(web.pace_s)
    if answer.chunked and not answer.cut:
        connection.sendall(b"0\r\n\r\n")


_PHRASES = {
    200: "OK", 206: "Partial Content", 301: "Moved Permanently", 302: "Found",
    304: "Not Modified", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    407: "Proxy Authentication Required",
    410: "Gone", 416: "Range Not Satisfiable", 429: "Too Many Requests",
    451: "Unavailable For Legal Reasons", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


# ---------------------------------------------------------------- files that are as they should be


def _whole(web: Web, asked: Asked, **headers: str) -> Answer:
    kind = {"Content-Type": asked.query.get("type", "video/mp4")}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(headers=kind | named, body=web.content)


def _ranged(web: Web, asked: Asked, **validators: str) -> Answer:
    """The content, or the rest of it; `validators` are ETag and Last_Modified."""
    answer = _whole(web, asked, **validators, Accept_Ranges="bytes")
    validator = validators.get("ETag") or validators.get("Last_Modified", "")
    if validator and validator in (
        asked.headers.get("if-none-match"),
        asked.headers.get("if-modified-since"),
    ):
        return Answer(304, answer.headers, b"", length=-1)
    wanted = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
    if not wanted or asked.headers.get("if-range", validator) != validator:
        return answer
    start, size = int(wanted[1]), len(web.content)
    if start >= size:
        return Answer(416, {"Content-Range": f"bytes */{size}"})
    answer.status = 206
    answer.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    answer.body = web.content[start:]
    return answer


@behaviour
def plain(web: Web, asked: Asked) -> Answer:
    """All that a good server sends: ETag, Last-Modified, ranges."""
    return _ranged(web, asked, ETag=ETAG, Last_Modified=MODIFIED)


@behaviour
def tagged(web: Web, asked: Asked) -> Answer:
    """An ETag alone."""
    return _ranged(web, asked, ETag=ETAG)


@behaviour
def dated(web: Web, asked: Asked) -> Answer:
    """Last-Modified alone."""
    return _ranged(web, asked, Last_Modified=MODIFIED)


@behaviour
def weak(web: Web, asked: Asked) -> Answer:
    """An ETag that does not promise the same bytes."""
    return _ranged(web, asked, ETag=f"W/{ETAG}")


@behaviour
def bare(web: Web, asked: Asked) -> Answer:
    """No validator, no ranges."""
    return _whole(web, asked)


@behaviour
def untyped(web: Web, asked: Asked) -> Answer:
    """No Content-Type."""
    return Answer(body=web.content)


@behaviour
def chunked(web: Web, asked: Asked) -> Answer:
    """A length that is not known before."""
    answer = _whole(web, asked, ETag=ETAG)
    answer.body, answer.chunked = _pieces(web.content), True
    return answer


@behaviour
def until_close(web: Web, asked: Asked) -> Answer:
    """The end of the connection is the end of the file, as HTTP/1.0 had it."""
    answer = _whole(web, asked)
    answer.length = -1
    return answer


@behaviour
def files(web: Web, asked: Asked) -> Answer:
    """A file of the folder, by ranges if asked for; sent by the kernel."""
    folder = (web.folder or Path(os.devnull)).resolve()
    path = (folder / asked.path.removeprefix("/files/")).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        return missing(web, asked)
    status = path.stat()
    tag, start = f'"{status.st_mtime_ns:x}-{status.st_size:x}"', 0
    headers = {"Content-Type": "video/mp4", "ETag": tag}
    if asked.headers.get("if-none-match") == tag:
        return Answer(304, headers, b"", length=-1)
    wanted = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
    if wanted and asked.headers.get("if-range", tag) == tag and int(wanted[1]) < status.st_size:
        start = int(wanted[1])
        headers["Content-Range"] = f"bytes {start}-{status.st_size - 1}/{status.st_size}"
    return Answer(206 if start else 200, headers, FileSpan(path, start, status.st_size))


def _pieces(content: bytes, count: int = 8) -> list[bytes]:
    step = max(1, -(-len(content) // count))
    return [content[start : start + step] for start in range(0, len(content), step)]


# ---------------------------------------------------------------- ranges and validators that lie


def _moved_range(web: Web, asked: Asked, by: int, total: int = 0) -> Answer:
    answer = tagged(web, asked)
    if answer.status == 206:
        start, size = len(web.content) - len(answer.body) + by, len(web.content)
        answer.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size + total}"
    return answer


@behaviour
def wrong_range(web: Web, asked: Asked) -> Answer:
    """206 that begins elsewhere than asked for."""
    return _moved_range(web, asked, by=-7)


@behaviour
def wrong_total(web: Web, asked: Asked) -> Answer:
    """206 of a file of another size."""
    return _moved_range(web, asked, by=0, total=1)


@behaviour
def short_range(web: Web, asked: Asked) -> Answer:
    """206 that holds less than was asked for, and says so."""
    answer = tagged(web, asked)
    if answer.status == 206:
        assert isinstance(answer.body, bytes)
        start, size = len(web.content) - len(answer.body), len(web.content)
        answer.body = answer.body[: len(answer.body) // 2 or 1]
        answer.headers["Content-Range"] = f"bytes {start}-{start + len(answer.body) - 1}/{size}"
    return answer


@behaviour
def no_range_header(web: Web, asked: Asked) -> Answer:
    """206 that does not say which part it is."""
    answer = tagged(web, asked)
    answer.headers.pop("Content-Range", None)
    return answer


@behaviour
def whole(web: Web, asked: Asked) -> Answer:
    """200 whatever range was asked for."""
    return _whole(web, asked, ETag=ETAG)


@behaviour
def unsatisfiable(web: Web, asked: Asked) -> Answer:
    """416 for every range."""
    if "range" in asked.headers:
        return Answer(416, {"Content-Range": "bytes */1"})
    return _whole(web, asked, ETag=ETAG)


@behaviour
def changing(web: Web, asked: Asked) -> Answer:
    """Another file each time, with an honest ETag."""
    web_now = Web(0, bytes([asked.time]) * len(web.content), None)
    return _ranged(web_now, asked, ETag=f'"v{asked.time}"')


@behaviour
def shrinking(web: Web, asked: Asked) -> Answer:
    """Another file each time, each much shorter than the one before."""
    content = bytes([asked.time]) * (len(web.content) >> 2 * asked.time)
    return _ranged(Web(0, content, None), asked, ETag=f'"v{asked.time}"')


@behaviour
def careless(web: Web, asked: Asked) -> Answer:
    """Another file each time; If-Range is not looked at, but the new ETag is sent."""
    asked.headers.pop("if-range", None)
    return changing(web, asked)


@behaviour
def partial_unasked(web: Web, asked: Asked) -> Answer:
    """206 for a request without Range."""
    size = len(web.content)
    return Answer(206, {"Content-Range": f"bytes 1-{size - 1}/{size}"}, web.content[1:])


# ---------------------------------------------------------------- bodies that lie


@behaviour
def shorter(web: Web, asked: Asked) -> Answer:
    """Fewer bytes than announced, each time."""
    answer = _whole(web, asked)
    answer.length = len(web.content) + 1000
    return answer


@behaviour
def longer(web: Web, asked: Asked) -> Answer:
    """More bytes than announced."""
    answer = _whole(web, asked)
    answer.length = len(web.content) - 1000
    return answer


@behaviour
def chunked_cut(web: Web, asked: Asked) -> Answer:
    """The last chunk never comes."""
    answer = chunked(web, asked)
    answer.cut = True
    return answer


@behaviour
def endless(web: Web, asked: Asked) -> Answer:
    """A stream that never ends; `type=` and `code=` say what it is."""
    blocks = iter(lambda: bytes(_BLOCK_BYTES), None)
    headers = {"Content-Type": asked.query.get("type", "video/mp4")}
    return Answer(int(asked.query.get("code", "200")), headers, blocks, length=-1)


@behaviour
def huge(web: Web, asked: Asked) -> Answer:
    """Announces a terabyte."""
    return Answer(headers={"Content-Type": "video/mp4"}, body=web.content, length=1 << 40)


@behaviour
def page(web: Web, asked: Asked) -> Answer:
    """A web page that says so; `type=` says something else."""
    return Answer(headers={"Content-Type": asked.query.get("type", "text/html")}, body=PAGE)


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _raw_deflate(content: bytes) -> bytes:
    return zlib.compress(content)[2:-4]


@behaviour
def html(web: Web, asked: Asked) -> Answer:
    """A web page that claims to be a video."""
    return Answer(headers={"Content-Type": "video/mp4"}, body=PAGE)


@behaviour
def encoded(web: Web, asked: Asked) -> Answer:
    """The content in the coding `by=`, though none was asked for; `half=1`: it breaks off."""
    by = asked.query["by"]
    pack = {
        "gzip": _gzip,
        "x-gzip": _gzip,
        "members": lambda content: _gzip(content[:999]) + _gzip(content[999:]),
        "deflate": zlib.compress,
        "raw": _raw_deflate,
    }.get(by, bytes)
    packed = pack(web.content)
    if "half" in asked.query:
        packed = packed[: len(packed) // 2]
    name = {"raw": "deflate", "members": "gzip"}.get(by, by)
    return _whole(Web(0, packed, None), asked, ETag=ETAG, Content_Encoding=name)


@behaviour
def bomb(web: Web, asked: Asked) -> Answer:
    """A gigabyte of nothing in a megabyte of gzip."""
    return Answer(
        headers={"Content-Type": "video/mp4", "Content-Encoding": "gzip"},
        body=_gzip(bytes(1 << 24)) * 64,
    )


@behaviour
def hollow(web: Web, asked: Asked) -> Answer:
    """Gzip of nothing, without end."""
    empty = _gzip(b"") * 3000
    return Answer(
        headers={"Content-Type": "video/mp4", "Content-Encoding": "gzip"},
        body=iter(lambda: empty, None),
        length=-1,
    )


# ---------------------------------------------------------------- slow, silent, talkative


@behaviour
def stall(web: Web, asked: Asked) -> Answer:
    """No answer; `times=1`: only to the first request."""
    if asked.time < int(asked.query.get("times", "1000000")):
        web.over.wait(60)
    return plain(web, asked)


@behaviour
def stall_inside(web: Web, asked: Asked) -> Answer:
    """Half of the body, then silence."""

    def pieces() -> Iterator[bytes]:
        yield web.content[: len(web.content) // 2]
        web.over.wait(60)

    return Answer(
        headers={"Content-Type": "video/mp4", "ETag": ETAG}, body=pieces(), length=len(web.content)
    )


@behaviour
def drip(web: Web, asked: Asked) -> Answer:
    """A byte every `pause` seconds, after `burst=` bytes at once."""
    burst = int(asked.query.get("burst", "0"))

    def pieces() -> Iterator[bytes]:
        yield web.content[:burst]
        for byte in web.content[burst:]:
            yield bytes([byte])
            if web.over.wait(float(asked.query.get("pause", "0.02"))):
                return

    return Answer(headers={"Content-Type": "video/mp4"}, body=pieces(), length=len(web.content))


@behaviour
def slow(web: Web, asked: Asked) -> Answer:
    """The content in eight pieces with a pause before each, as from a busy server."""

    def pieces() -> Iterator[bytes]:
        for piece in _pieces(web.content):
            web.over.wait(float(asked.query.get("pause", "0.1")))
            yield piece

    return Answer(headers={"Content-Type": "video/mp4"}, body=pieces(), length=len(web.content))


@behaviour
def huge_headers(web: Web, asked: Asked) -> Answer:
    """Headers without end."""
    return Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"X-More: " + b"a" * (1 << 20) + b"\r\n\r\n")


@behaviour
def nonsense(web: Web, asked: Asked) -> Answer:
    """What is no HTTP at all."""
    return Answer(raw=b"220 ready, send your mail\r\n\r\n")


@behaviour
def hints(web: Web, asked: Asked) -> Answer:
    """Early hints (103) before the answer."""
    head = f"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {len(web.content)}"
    return Answer(raw=f"{head}\r\n\r\n".encode() + web.content)


@behaviour
def hangs_up(web: Web, asked: Asked) -> Answer:
    """Not a word."""
    raise OSError("hang up")


# ---------------------------------------------------------------- refusals


@behaviour
def missing(web: Web, asked: Asked) -> Answer:
    """404; of all paths that are not known, too."""
    return Answer(404, {"Content-Type": "text/html"}, PAGE)


@behaviour
def chunked_404(web: Web, asked: Asked) -> Answer:
    """404 whose length is not announced, as most are."""
    return Answer(404, {"Content-Type": "text/html"}, [PAGE], chunked=True)


def _no_proxy(web: Web, asked: Asked) -> Answer:
    return Answer(407, {"Proxy-Authenticate": "Basic"}, PAGE)


def status(web: Web, asked: Asked) -> Answer:
    """`429?after=7`: that status; Retry-After in seconds, or `on=7` as a date."""
    headers = {"Content-Type": "text/html"}
    if "after" in asked.query:
        headers["Retry-After"] = asked.query["after"]
    if "on" in asked.query:
        # a clock that is wrong by days: what counts is the server's own Date
        now = time.time() + float(asked.query.get("clock", "0"))
        headers["Retry-After"] = formatdate(now + float(asked.query["on"]), usegmt=True)
        if "clock" in asked.query:
            headers["Date"] = formatdate(now, usegmt=True)
    return Answer(int(asked.path.split("/")[1]), headers, PAGE)


@behaviour
def failing(web: Web, asked: Asked) -> Answer:
    """500 (or `code=`) to the first request (or `times=`), then the content."""
    if asked.time < int(asked.query.get("times", "1")):
        return Answer(int(asked.query.get("code", "500")), {"Content-Type": "text/html"}, PAGE)
    return plain(web, asked)


@behaviour
def dies(web: Web, asked: Asked) -> Answer:
    """The content to the first request, 404 to all others."""
    return missing(web, asked) if asked.time else plain(web, asked)


@behaviour
def says(web: Web, asked: Asked) -> Answer:
    """The content, or `code=`, with the header `name=` that says `value=`."""
    answer = plain(web, asked)
    answer.status = int(asked.query.get("code", answer.status))
    answer.headers[asked.query["name"]] = asked.query["value"]
    return answer


@behaviour
def secret(web: Web, asked: Asked) -> Answer:
    """401 without `Authorization: Bearer open` or `Cookie: open=1`."""
    told = asked.headers.get("authorization"), asked.headers.get("cookie")
    if "Bearer open" in told or "open=1" in told:
        return plain(web, asked)
    return Answer(401, {"WWW-Authenticate": "Bearer"}, PAGE)


# ---------------------------------------------------------------- redirects


@behaviour
def redirect(web: Web, asked: Asked) -> Answer:
    """To `to=`, by `code=`; without `to` it does not say where to."""
    where = {"Location": asked.query["to"]} if "to" in asked.query else {}
    return Answer(int(asked.query.get("code", "302")), where, b"moved")


@behaviour
def loop(web: Web, asked: Asked) -> Answer:
    """`loop/a` leads to `loop/b`, which leads back."""
    return Answer(301, {"Location": "/loop/a" if asked.path.endswith("b") else "/loop/b"})


@behaviour
def hops(web: Web, asked: Asked) -> Answer:
    """`hops/3` leads to the content by three redirects."""
    left = int(asked.path.split("/")[2])
    return Answer(302, {"Location": f"/hops/{left - 1}"}) if left else plain(web, asked)


@behaviour
def cookie_wall(web: Web, asked: Asked) -> Answer:
    """Sends whoever has no cookie to the same place with one."""
    if "seen=1" in asked.headers.get("cookie", ""):
        return plain(web, asked)
    return Answer(302, {"Location": asked.target, "Set-Cookie": "seen=1; Path=/"})
