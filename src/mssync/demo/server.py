"""A loopback web server for the demo's videos: what a download stage needs of one, and no more."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from mssync.errors import InputError

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 16


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder/media` on a free port of the loopback interface.

    Answers GET and HEAD, single byte ranges, and `If-Range`; each file has an ETag and a
    modification time.

    Args:
        folder: A corpus, as `mssync.demo.corpus.make` writes it.

    Yields:
        The base address, `http://127.0.0.1:PORT/`.

    Raises:
        InputError: If the folder holds no media.
    """
    media = (folder / "media").resolve()
    if not media.is_dir():
        raise InputError(f"{media} does not exist: make the corpus first")
    with _Server(("127.0.0.1", 0), partial(_Handler, media)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    # a client that keeps its connection open must not hold up the end
    daemon_threads = True
    block_on_close = False

    def handle_error(
        self,
        request: Any,  # noqa: ANN401 - as the base class has it
        client_address: Any,  # noqa: ANN401
    ) -> None:
        """Clients that hang up are no news."""
        logger.debug("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, media: Path, *args: Any) -> None:  # noqa: ANN401 - handed on
        self._media = media
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401
        """Requests go to the debug log."""
        logger.debug(format, *args)

    def _answer(self, *, with_body: bool) -> None:
        path = (self._media / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(self._media) or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        status = path.stat()
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        wanted = self.headers.get("Range")
        if self.headers.get("If-Range", tag) != tag:
            wanted = None
        span = range(size) if wanted is None else _span(wanted, size)
        if span is not None and not span:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, size=size)
            return
        partial_content = span is not None and wanted is not None
        span = range(size) if span is None else span
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial_content else HTTPStatus.OK)
        if partial_content:
            self.send_header("Content-Range", f"bytes {span.start}-{span.stop - 1}/{size}")
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(span)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", self.date_time_string(int(status.st_mtime)))
        self.end_headers()
        if with_body:
            self._send(path, span)

    def _send(self, path: Path, span: range) -> None:
        with path.open("rb") as file:
            file.seek(span.start)
            left = len(span)
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                self.wfile.write(block)
                left -= len(block)

    def _refuse(self, status: HTTPStatus, *, size: int | None = None) -> None:
        self.send_response(status)
        if size is not None:
            self.send_header("Content-Range", f"bytes */{size}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _span(header: str, size: int) -> range | None:
    """The bytes a Range header asks for; empty if there are none, None if it is not understood."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    end = min(int(last) + 1, size) if last else size
    return None if last and int(last) < int(first) else range(int(first), end)
