"""How does a file behind `http(s)://` come into the store?

One try: the governor repeats. Redirects are followed by hand, because each of them may lead where
we must not go, or to a host that wants to be asked politely.
"""

import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import httpcore
import httpx

from mssync.download import answers, optout, partial
from mssync.download.addresses import Policy
from mssync.download.budget import Budget
from mssync.download.partial import Note, Part
from mssync.download.secrets import Secrets
from mssync.errors import ClipRejectedError
from mssync.media.store import MediaStore, Origin, Provenance
from mssync.params import DownloadVideos

_TOOL = f"httpx {httpx.__version__}"
_UNPACKED_BYTES = 1 << 20
# Of an answer that is not wanted, to keep the connection.
_DRAINED_BYTES, _DRAINED_S = 1 << 16, 1.0
# httpcore reads 64 KiB at a time: with large files that costs a third of the speed.
_READ_BYTES = 1 << 19
_NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])
_QUOTED_CHARACTERS = 200


def key(url: str) -> str:
    """What a source is remembered by."""
    try:
        parts = urlsplit(url)
        host, number = parts.hostname or "", parts.port
    except ValueError:  # no address: `fetch` says why
        return f"http:{url}"
    return f"http:{host}:{number or ''}{parts.path}?{parts.query}"


def fetch(
    url: str,
    store: MediaStore,
    *,
    client: httpx.Client,
    params: DownloadVideos,
    policy: Policy,
    secrets: Secrets,
    budget: Budget,
    admit: Callable[[str], None],
    known: Origin | None = None,
) -> Origin:
    """Bring the file behind a URL into the store; a part of it that is there goes on.

    Args:
        url: `http://` or `https://`.
        store: Where it goes.
        client: Of `addresses.make_client`.
        params: The stage's section.
        policy: Which URLs may be asked for.
        secrets: Headers for the hosts that want some.
        budget: Counts what is received.
        admit: Is called with the name of another host before a redirect to it is followed.
        known: What the URL had before: the server is asked only whether it has changed.

    Returns:
        What is in the store now; `known` if it has not changed.

    Raises:
        ClipRejectedError: If it cannot be had.
    """
    _tune(client)
    name = key(url)
    patience_s = 2 * params.timeout_s + params.max_wait_s
    with partial.hold(store, name, patience_s=patience_s) as part:
        newer = store.recall(name)  # another process may have been quicker
        if newer and newer != known:
            return newer
        if not part.is_complete:
            asker = _Asker(client, params, policy, secrets, admit)
            download = _Download(url, name, part, asker, budget, known)
            with _reasons(params):
                if not download.run() and known:
                    return known
        if not part.size:
            raise ClipRejectedError("not_a_video", "the file is empty")
        return part.finish(store)


def _tune(client: httpx.Client) -> None:
    """Settings for which httpx has no arguments."""
    httpcore.HTTP11Connection.READ_NUM_BYTES = _READ_BYTES
    # a download remembers its own cookies; what one was given must not change what another gets
    client.cookies.jar.set_policy(_NO_COOKIES)


@dataclass(frozen=True)
class _Asker:
    """Sends requests, and follows redirects."""

    client: httpx.Client
    params: DownloadVideos
    policy: Policy
    secrets: Secrets
    admit: Callable[[str], None]

    @contextmanager
    def ask(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The answer at the end of all redirects, its body not yet read."""
        here = httpx.URL(url)
        first_host, cookies = here.host, httpx.Cookies()
        seen = set[tuple[httpx.URL, str]]()
        before: httpx.URL | None = None
        for _ in range(self.params.max_redirects + 1):
            response = self._send(here, before, first_host, headers, cookies)
            with _closing(response):
                if self.params.honour_opt_out and response.status_code < 400:
                    optout.check(response.headers)
                if response.status_code not in answers.REDIRECTS:
                    yield response
                    return
            before, here = here, _target(response)
            cookies.extract_cookies(response)
            # the same place with another cookie is no circle, but what many sites begin with
            visit = (before, response.request.headers.get("Cookie", ""))
            if visit in seen:
                raise ClipRejectedError("redirects", f"a circle of redirects at {_shown(before)}")
            seen.add(visit)
        raise ClipRejectedError(
            "redirects", f"more than {self.params.max_redirects} redirects (max_redirects)"
        )

    def _send(
        self,
        url: httpx.URL,
        before: httpx.URL | None,
        first_host: str,
        headers: dict[str, str],
        cookies: httpx.Cookies,
    ) -> httpx.Response:
        """Send one request; `before` is what led to it."""
        try:
            self.policy.check_url(str(url))
            if url.host != first_host:
                self.admit(url.host)
            request = self.client.build_request(
                "GET",
                url,
                headers=headers | self.secrets.headers_for(str(url)),
                cookies=cookies or None,
            )
            return _send_once_more(self.client, request)
        except httpx.RemoteProtocolError as error:
            if "location header" in str(error):  # httpx looks at it, though it does not follow
                raise _no_target(url) from error
            raise
        except ClipRejectedError as error:
            if before is None or error.reason != "refused":
                raise
            raise ClipRejectedError(
                "refused", f"{_shown(before)} redirects to {_shown(url)}: {error}"
            ) from error


def _send_once_more(client: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Send a request; again, if the server closed the kept connection in that very moment."""
    opened = list[str]()

    def note(event: str, _: object) -> None:
        if event == "connection.connect_tcp.started":
            opened.append(event)

    request.extensions["trace"] = note
    try:
        return client.send(request, stream=True)
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        if opened:
            raise
        return client.send(request, stream=True)


class _PartIsStaleError(Exception):
    """What the server sends now does not continue the part."""


@dataclass(frozen=True)
class _Download:
    """One source on its way into its part."""

    url: str
    key: str
    part: Part
    asker: _Asker
    budget: Budget
    known: Origin | None

    def run(self) -> bool:
        """Fetch what is missing; False if what is known has not changed."""
        try:
            return self._try()
        except _PartIsStaleError:
            self.part.discard()
            return self._try()

    def _try(self) -> bool:
        with self.asker.ask(self.url, self._headers()) as response:
            if response.status_code == answers.NOT_MODIFIED and self.known:
                return False
            if response.status_code == answers.RANGE_NOT_SATISFIABLE and self.part.can_go_on:
                raise _PartIsStaleError
            answers.check_status(response)
            answers.check_type(response)
            self._receive(response)
        return True

    def _headers(self) -> dict[str, str]:
        """Sizes and ranges are meant of the file itself, so nothing may be packed."""
        headers = {"Accept-Encoding": "identity"}
        if self.known and self.known.validator:
            is_tag = self.known.validator.endswith('"')
            name = "If-None-Match" if is_tag else "If-Modified-Since"
            headers[name] = self.known.validator
        if self.part.can_go_on and self.part.note:
            headers["Range"] = f"bytes={self.part.size}-"
            headers["If-Range"] = self.part.note.validator
        return headers

    def _receive(self, response: httpx.Response) -> None:
        coding = answers.coding(response)
        if response.status_code == answers.PARTIAL_CONTENT:
            total = self._go_on(response, coding)
        else:
            total = -1 if coding else answers.length(response)
            self._expect(total, total)
            validator = "" if coding else answers.validator(response)
            self.part.begin(Note(self.key, validator, total, self._provenance(response)))
        chunks = _paced(response, self.asker.params)
        part, receive = self.part, self.budget.receive
        for chunk in _unpacked(chunks, coding, self.budget) if coding else chunks:
            receive(len(chunk), total=part.size + len(chunk))
            part.write(chunk)
        if 0 <= total != part.size:
            raise ClipRejectedError("connection", "the server ended before the file did")

    def _go_on(self, response: httpx.Response, coding: str) -> int:
        """Check that a 206 continues the part; the size of the whole."""
        note, span = self.part.note, answers.content_range(response)
        if not self.part.can_go_on or note is None:
            raise ClipRejectedError("server_error", "the server sent a part (206), unasked")
        if (
            coding
            or span is None
            or span.start != self.part.size
            or answers.validator(response) != note.validator
            or (note.total_bytes >= 0 and span.total != note.total_bytes)
        ):
            raise _PartIsStaleError
        left = span.total - self.part.size if span.total >= 0 else answers.length(response)
        self._expect(left, span.total)
        self.part.go_on()
        return span.total

    def _expect(self, left: int, total: int) -> None:
        self.budget.receive(0, total=total)
        self.budget.expect(left)

    def _provenance(self, response: httpx.Response) -> Provenance:
        headers = response.headers
        return Provenance(
            url=str(httpx.URL(self.url).copy_with(userinfo=b"")),
            final_url=str(response.url.copy_with(userinfo=b"", query=None, fragment=None)),
            fetched=datetime.now(UTC).isoformat(timespec="seconds"),
            tool=_TOOL,
            etag=headers.get("ETag", ""),
            modified=headers.get("Last-Modified", ""),
            content_type=headers.get("Content-Type", ""),
        )


@contextmanager
def _closing(response: httpx.Response) -> Iterator[None]:
    """Let go of an answer; of a short one the body is read, so that the connection is kept."""
    try:
        yield
        _drain(response)
    except ClipRejectedError:
        _drain(response)
        raise
    finally:
        response.close()


def _drain(response: httpx.Response) -> None:
    if response.is_stream_consumed or answers.length(response) > _DRAINED_BYTES:
        return
    deadline, drained = time.monotonic() + _DRAINED_S, 0
    with suppress(httpx.HTTPError):  # the answer stands, whatever becomes of the rest
        for chunk in response.iter_raw():
            drained += len(chunk)
            if drained > _DRAINED_BYTES or time.monotonic() > deadline:
                return


def _target(response: httpx.Response) -> httpx.URL:
    """Where a redirect leads."""
    location = response.headers.get("Location", "").strip()
    if not location:
        raise ClipRejectedError(
            "server_error", f"a redirect ({response.status_code}) without Location"
        )
    try:
        return response.url.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise _no_target(response.url) from error


def _no_target(url: httpx.URL) -> ClipRejectedError:
    return ClipRejectedError("refused", f"{_shown(url)} redirects to what is no address")


def _shown(url: httpx.URL) -> str:
    """A URL for a message: query and user may hold secrets, ports change from run to run."""
    return f"{url.scheme}://{url.host}{httpx.URL(path=url.path).raw_path.decode()}"


def _paced(response: httpx.Response, params: DownloadVideos) -> Iterator[bytes]:
    """The body as it comes.

    Raises:
        ClipRejectedError: `timeout`, if it comes more slowly than it may.
    """
    received, begun = 0, time.monotonic()
    for chunk in response.iter_raw():
        received += len(chunk)
        now = time.monotonic()
        if now - begun >= params.timeout_s:
            if received < params.min_bytes_per_s * (now - begun):
                raise ClipRejectedError(
                    "timeout",
                    f"less than {params.min_bytes_per_s:g} bytes/s (min_bytes_per_s) "
                    f"for {params.timeout_s:g} s (timeout_s)",
                )
            received, begun = 0, now
        yield chunk


def _unpacked(chunks: Iterator[bytes], coding: str, budget: Budget) -> Iterator[bytes]:
    """Unpack gzip or deflate piece by piece: however much is in it, memory stays flat.

    Raises:
        ClipRejectedError: `corrupt`; `connection`, if the end is missing.
    """
    packed, unpacker = 0, _Unpacker(coding)
    for chunk in chunks:
        packed += len(chunk)
        budget.receive(0, total=packed)  # much that unpacks to nothing is too much, too
        try:
            yield from unpacker.feed(chunk)
        except zlib.error as error:
            raise ClipRejectedError(
                "corrupt", f"the {coding} packing is damaged: {error}"
            ) from error
    if not unpacker.is_whole:
        raise ClipRejectedError("connection", f"the end of the {coding} packing is missing")


class _Unpacker:
    """zlib with a bound; gzip may have several members, deflate may lack its header."""

    def __init__(self, coding: str) -> None:
        self._bits = 31 if coding == "gzip" else 15
        self._zlib = zlib.decompressobj(self._bits)
        self._begun = False
        self.is_whole = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self.is_whole:
                if self._bits != 31 or not data.startswith(b"\x1f"):
                    return  # what follows the end, often zeros, is of no use
                self._zlib, self.is_whole = zlib.decompressobj(self._bits), False
            piece = self._some(data)
            self.is_whole = self._zlib.eof
            data = self._zlib.unused_data if self.is_whole else self._zlib.unconsumed_tail
            if piece:
                yield piece

    def _some(self, data: bytes) -> bytes:
        try:
            return self._zlib.decompress(data, _UNPACKED_BYTES)
        except zlib.error:
            if self._begun or self._bits != 15:
                raise
            # many servers send deflate without the two bytes that zlib begins with
            self._bits = -15
            self._zlib = zlib.decompressobj(self._bits)
            return self._zlib.decompress(data, _UNPACKED_BYTES)
        finally:
            self._begun = True


@contextmanager
def _reasons(params: DownloadVideos) -> Iterator[None]:
    """Give the errors of httpx our reason codes."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ClipRejectedError(
            "timeout", f"no answer for {params.timeout_s:g} s (timeout_s)"
        ) from error
    except httpx.ProxyError as error:
        wants_login = str(error).startswith("407")
        raise ClipRejectedError(
            "auth" if wants_login else "connection", f"the proxy: {_words(error)}"
        ) from error
    except httpx.RemoteProtocolError as error:
        raise _broken(error) from error
    except (httpx.LocalProtocolError, UnicodeError) as error:
        # the error would show the header, which may be a secret
        raise ClipRejectedError(
            "refused", "the URL, or a header from the secrets, has what HTTP cannot send"
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ClipRejectedError("refused", f"no address: {_words(error)}") from error
    except httpx.HTTPError as error:
        raise ClipRejectedError("connection", _words(error)) from error


def _broken(error: httpx.RemoteProtocolError) -> ClipRejectedError:
    words = _words(error)
    if words.startswith("peer closed connection"):  # the numbers that follow differ each time
        return ClipRejectedError("connection", "the connection ended before the file did")
    if words.startswith("Server disconnected"):
        return ClipRejectedError("connection", words)
    return ClipRejectedError("server_error", f"what came is not HTTP: {words}")


def _words(error: Exception) -> str:
    """An error's own words, without places in OpenSSL's source."""
    text = re.sub(r"\s*\(_ssl\.c:\d+\)", "", str(error)) or type(error).__name__
    return text[:_QUOTED_CHARACTERS]
