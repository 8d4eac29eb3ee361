"""What runs in the child process that fetches from a web video site.

yt-dlp only finds out what there is and where; the bytes are received here, so that only sections
are fetched, and so that no program is started with an address or a cookie on its command line.
"""

import io
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import yt_dlp.globals
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request
from yt_dlp.networking._requests import RequestsRH
from yt_dlp.utils import YoutubeDLError
from yt_dlp.version import __version__ as yt_dlp_version

from mssync.download import optout
from mssync.download.budget import Budget
from mssync.download.secrets import Secrets
from mssync.download.site_errors import Failure, explain
from mssync.download.site_pieces import FileTrack, Section, SegmentTrack, Track, copy
from mssync.download.site_streams import (
    Ask,
    Segment,
    fragments,
    parse_playlist,
    read_playlist,
)
from mssync.errors import ClipRejectedError
from mssync.lists.locations import without_secrets
from mssync.media.store import Provenance
from mssync.params import DownloadVideos

logger = logging.getLogger(__name__)

_MOST_PAGES_BYTES = 256 << 20  # of all pages that one look-up reads
_CHUNK_BYTES = 1 << 20
_LIVE = frozenset({"is_live", "is_upcoming", "post_live"})
_PLAYLISTS = frozenset({"m3u8", "m3u8_native"})
_FILES = frozenset({"http", "https"})
# What is wrong with one section, and says nothing about the next.
_OF_THE_SECTION = frozenset({"empty_cut", "too_long", "corrupt"})


@dataclass(frozen=True)
class Order:
    """What the child is told, over a pipe.

    Attributes:
        url: Of the page.
        sections: Parts of the video.
        targets: A file to write for each of them.
        params: The stage's section.
        secrets: For the site.
        proxy: The only address that is connected to.
        folder: Of the media store.
        pause_s: Between requests for pages.
    """

    url: str
    sections: Sequence[Section]
    targets: Sequence[Path]
    params: DownloadVideos
    secrets: Secrets
    proxy: str
    folder: Path
    pause_s: float


@dataclass(frozen=True)
class Fetched:
    """What the child answers.

    Attributes:
        pieces: For each section, where it begins in its file, or why there is none.
        provenance: Where all of them came from.
        received_bytes: Of media.
    """

    pieces: Sequence[float | Failure]
    provenance: Provenance
    received_bytes: int


def fetch(order: Order, wall_s: float) -> Fetched:
    """Look a video up once, and fetch its sections; failures are returned, not raised.

    Args:
        order: What to fetch.
        wall_s: When to give up.
    """
    yt_dlp.globals.plugin_dirs.value = []  # code from the user's folders is not wanted here
    budget = Budget(order.params, order.folder)
    provenance = Provenance()
    with _Site(order, budget, time.monotonic() + wall_s) as site, ExitStack() as opened:
        try:
            info = site.look_up(order.url)
            provenance = _provenance(info, order.url)
            _check(info)
            pieces = _fetch_each(order, site, info, opened)
        except MemoryError:
            raise
        except Exception as error:  # extractors raise anything
            pieces = [site.explain(error)] * len(order.sections)
    return Fetched(pieces, provenance, budget.received)


def _fetch_each(
    order: Order, site: "_Site", info: Mapping[str, Any], opened: ExitStack
) -> list[float | Failure]:
    pieces, tracks, fatal = list[float | Failure](), list[Track](), None
    for section, target in zip(order.sections, order.targets, strict=True):
        try:
            if fatal is None:
                _check_section(info, section, site.budget)
                tracks = tracks or _open(order, site, info, opened)
                pieces.append(copy(tracks, target, section))
        except (YoutubeDLError, ClipRejectedError, OSError) as error:
            failure = site.explain(error)
            if failure.error.reason in _OF_THE_SECTION:
                pieces.append(failure)
            else:
                fatal = failure
        if fatal:
            pieces.append(fatal)
    return pieces


def _provenance(info: Mapping[str, Any], url: str) -> Provenance:
    page = str(info.get("webpage_url") or url)
    # A site's query names the video; elsewhere it may be a signature.
    generic = info.get("extractor_key") == "Generic"
    return Provenance(
        url=without_secrets(url) if generic else url,
        final_url=without_secrets(page) if generic else page,
        title=str(info.get("title") or ""),
        uploader=str(info.get("uploader") or info.get("channel") or ""),
        licence=str(info.get("license") or ""),
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=f"yt-dlp {yt_dlp_version}",
    )


def _check(info: Mapping[str, Any]) -> None:
    """See whether a video may be fetched at all."""
    if info.get("is_live") or info.get("live_status") in _LIVE:
        raise ClipRejectedError("live", "a live stream, or one that has just ended")
    if any(wanted.get("has_drm") is True for wanted in _formats(info)):
        raise ClipRejectedError("drm", "This video is DRM protected")


def _check_section(info: Mapping[str, Any], section: Section, budget: Budget) -> None:
    """See whether a section is there, and not too much, as far as the site says."""
    length_s: float | None = info.get("duration")
    known_s = length_s or section.end_s
    if known_s:
        section.check(known_s)
    size = sum(f.get("filesize") or f.get("filesize_approx") or 0 for f in _formats(info))
    share = 1.0
    if length_s:
        share = (min(section.end_s or length_s, length_s) - section.start_s) / length_s
    elif not section.is_whole:
        share = 0.0
    budget.expect(int(size * share) or -1)


def _formats(info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What the format selector has chosen: one format, or picture and sound apart."""
    return info.get("requested_formats") or [info]


def _open(order: Order, site: "_Site", info: Mapping[str, Any], opened: ExitStack) -> list[Track]:
    tracks = list[Track]()
    limits = {"max_pixels": str(order.params.max_pixels)}
    for chosen in _formats(info):
        ask = partial(site.ask, chosen.get("http_headers") or {})
        protocol = chosen.get("protocol") or urlsplit(chosen["url"]).scheme
        if protocol in _FILES:
            spool = None
            if all(section.is_whole for section in order.sections):
                spool = opened.enter_context(
                    TemporaryFile(dir=order.targets[0].parent)  # noqa: SIM115 - it is one
                )
            track: Track = FileTrack(ask, chosen["url"], spool=spool, limits=limits)
        else:
            track = SegmentTrack(ask, _segments(ask, chosen, protocol, info), limits=limits)
        opened.callback(track.close)
        tracks.append(track)
    return tracks


def _segments(
    ask: Ask, chosen: Mapping[str, Any], protocol: str, info: Mapping[str, Any]
) -> list[Segment]:
    if protocol in _PLAYLISTS and not chosen.get("hls_aes"):
        if chosen.get("hls_media_playlist_data"):
            segments = parse_playlist(chosen["hls_media_playlist_data"], chosen["url"])
        else:
            with closing(ask(chosen["url"], {})) as answer:
                segments = read_playlist(answer)
        more = chosen.get("extra_param_to_segment_url")
        return [segment.with_query(more) for segment in segments] if more else segments
    if protocol == "http_dash_segments" and chosen.get("fragments"):
        base = chosen.get("fragment_base_url") or chosen["url"]
        return fragments(list(chosen["fragments"]), base, float(info.get("duration") or 0))
    raise ClipRejectedError("site", f"{protocol} is no way of sending that is read (site_format)")


class _Site(YoutubeDL):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp, which finds out, and the requests for media."""

    def __init__(self, order: Order, budget: Budget, ends: float) -> None:
        self.budget = budget
        self.host = ""  # that was asked last
        self._order = order
        self._ends = ends
        self._pages = list[Any]()
        self._pages_bytes = 0
        self._opted_out: ClipRejectedError | None = None
        super().__init__(_options(order))

    def look_up(self, url: str) -> dict[str, Any]:
        """What a page has to say of its video."""
        info = self.extract_info(url, download=False)
        for page in self._pages:
            page.close()
        if self._opted_out:
            raise self._opted_out
        if not info:
            raise ClipRejectedError("site", "the page has no video")
        found: dict[str, Any] = info
        return found

    def explain(self, error: BaseException) -> Failure:
        """Why it failed."""
        return Failure(self._opted_out) if self._opted_out else explain(error, host=self.host)

    def ask(self, headers: Mapping[str, str], url: str, more: Mapping[str, str]) -> "_MediaAnswer":
        """Send a request for media."""
        scheme = urlsplit(url).scheme.lower()
        if scheme not in _FILES:
            raise ClipRejectedError("refused", f"the media lead to {scheme or 'no'}: address")
        asked = Request(url, headers={**headers, **more, "Accept-Encoding": "identity"})
        return _MediaAnswer(self._send(asked), self._order.params, self.budget, self._ends)

    # what yt-dlp itself calls

    def urlopen(self, req: Any) -> Any:  # noqa: ANN401
        """Send a request for a page."""
        try:
            response = self._send(req)
        except YoutubeDLError as error:
            self._bound(getattr(error, "response", None))
            raise
        self._bound(response)
        return response

    def process_ie_result(
        self,
        ie_result: dict[str, Any],
        download: bool = True,
        extra_info: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Refuse lists: they would be read to their end."""
        if ie_result.get("_type") in ("playlist", "multi_video", "compat_list"):
            raise ClipRejectedError("site", "a list of videos, not one: give them one by one")
        return super().process_ie_result(ie_result, download, extra_info)

    def _check_formats(self, formats: Iterable[Any], warning: bool = True) -> Iterator[Any]:
        """Take formats as they are: trying them would download."""
        yield from formats

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:  # noqa: ANN401
        """Send everything through one handler, which keeps secrets to their hosts."""
        director = super().build_request_director([_SiteRH], preferences)
        director.handlers[_SiteRH.RH_KEY].obey(self._order)
        return director

    def _send(self, req: Any) -> Any:  # noqa: ANN401
        if time.monotonic() > self._ends:
            raise too_slow()
        self.host = urlsplit(req if isinstance(req, str) else req.url).hostname or ""
        response = super().urlopen(req)
        if self._order.params.honour_opt_out:
            try:
                optout.check(response.headers)
            except ClipRejectedError as error:
                self._opted_out = self._opted_out or error
                response.close()
                raise
        return response

    def _bound(self, response: Any) -> None:  # noqa: ANN401
        """Have a page end where it becomes too long."""
        if response is None:
            return
        self._pages.append(response)
        response.read = partial(self._read_page, response.read)

    def _read_page(self, read: Any, amt: int | None = None) -> bytes:  # noqa: ANN401
        chunks = list[bytes]()
        while amt is None or not chunks:
            chunk = read(_CHUNK_BYTES if amt is None else amt)
            self._pages_bytes += len(chunk)
            if self._pages_bytes > _MOST_PAGES_BYTES:
                raise ClipRejectedError(
                    "too_large", f"pages of more than {_MOST_PAGES_BYTES} bytes"
                )
            if time.monotonic() > self._ends:
                raise too_slow()
            chunks.append(chunk)
            if not chunk:
                break
        return b"".join(chunks)


class _MediaAnswer:
    """An answer whose bytes are counted, and that may not drip."""

    def __init__(
        self,
        response: Any,  # noqa: ANN401
        params: DownloadVideos,
        budget: Budget,
        ends: float,
    ) -> None:
        self.status: int = response.status
        self.url: str = response.url
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._params = params
        self._budget = budget
        self._ends = ends
        self._waited_s = 0.0
        self._came_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        begun = time.monotonic()
        data: bytes = self._response.read(size)
        now = time.monotonic()
        self._budget.receive(len(data), total=self._budget.received + len(data))
        self._waited_s += now - begun
        self._came_bytes += len(data)
        if now > self._ends:
            raise too_slow()
        if data and self._waited_s >= self._params.timeout_s:
            if self._came_bytes < self._params.min_bytes_per_s * self._waited_s:
                slowest = f"{self._params.min_bytes_per_s:g} bytes/s"
                raise ClipRejectedError("timeout", f"slower than {slowest} (min_bytes_per_s)")
            self._waited_s, self._came_bytes = 0.0, 0
        return data

    def close(self) -> None:
        """Ask for no more."""
        self._response.close()


class _SiteRH(RequestsRH):  # type: ignore[misc]  # yt-dlp has no types
    """The only way to the network: through our proxy, with secret headers for their hosts alone."""

    _headers = Secrets()
    _only_proxy = ""
    _max_redirects = 0

    def obey(self, order: Order) -> None:
        """Take what is needed from the order."""
        # yt-dlp looks after cookies itself
        self._headers = Secrets(headers=order.secrets.headers)
        self._only_proxy = order.proxy
        self._max_redirects = order.params.max_redirects

    def _get_proxies(self, _: Any) -> dict[str, str]:  # noqa: ANN401
        return {"all": self._only_proxy}

    def _get_headers(self, request: Any) -> Any:  # noqa: ANN401
        headers = super()._get_headers(request)
        headers.update(self._headers.headers_for(request.url))
        return headers

    def _create_instance(self, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:  # noqa: ANN401
        session = super()._create_instance(cookiejar, legacy_ssl_support)
        session.max_redirects = self._max_redirects
        session.rebuild_auth = partial(self._redirect, session.rebuild_auth)
        return session

    def _redirect(self, inner: Any, request: Any, response: Any) -> None:  # noqa: ANN401
        """Take secret headers off before another host gets to see them."""
        inner(request, response)
        for name in self._headers.headers_for(response.request.url):
            request.headers.pop(name, None)
        request.headers.update(self._headers.headers_for(request.url))


class _Log:
    """Where yt-dlp's own lines go."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def debug(self, message: str) -> None:
        """Log it for those who look for it."""
        logger.debug("yt-dlp: %s", self._secrets.redact(message))

    info = warning = error = stdout = stderr = debug


def _options(order: Order) -> dict[str, Any]:
    params = order.params
    options: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "logger": _Log(order.secrets),
        "noplaylist": True,
        "format": params.site_format,
        "proxy": order.proxy,
        "geo_bypass": False,
        "retries": 0,  # the governor tries again
        "extractor_retries": 0,
        "fragment_retries": 0,
        "file_access_retries": 0,
        "socket_timeout": params.timeout_s,
        "sleep_interval_requests": order.pause_s,
        "cachedir": False,
        "enable_file_urls": False,
        "extractor_args": {
            name: {key: list(values) for key, values in arguments.items()}
            for name, arguments in order.secrets.extractor_args.items()
        },
    }
    if order.secrets.cookies:
        options["cookiefile"] = io.StringIO(order.secrets.cookies)
    return options


def too_slow() -> ClipRejectedError:
    """The error for a site that takes more time than all its sections may take."""
    return ClipRejectedError("timeout", "the site takes too long for what was asked for")
