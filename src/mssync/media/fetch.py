"""Bringing one source into the media store: local files and HTTP(S).

Downloads go on where they stopped (Range, If-Range), are never seen half done, and are not done
again while the server says that nothing changed.
"""

import logging
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import tenacity

from mssync.errors import ClipRejectedError
from mssync.media.store import MediaStore, Origin
from mssync.params import DownloadVideos

logger = logging.getLogger(__name__)

RETRYABLE = frozenset({"network", "timeout", "rate_limit"})
_STATUS_REASONS = {401: "private", 403: "private", 404: "gone", 410: "gone", 429: "rate_limit",
                   451: "geo"}  # fmt: skip
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def is_url(source: str) -> bool:
    """Whether a source is fetched over HTTP(S)."""
    return source.lower().startswith(("http://", "https://"))


def locate(source: str, *, base: str, folder: Path) -> str:
    """Where a listed source is: a URL, or a local path.

    Args:
        source: As written in the list.
        base: URL or folder that relative sources start from; empty: the list's folder.
        folder: The list's folder.
    """
    if is_url(source) or Path(source).is_absolute():
        return source
    if is_url(base):
        return base.rstrip("/") + "/" + quote(source)
    return str((Path(base) if base else folder) / source)


def fetch(location: str, store: MediaStore, params: DownloadVideos) -> Origin:
    """Bring a source into the store, or find that it is there already.

    Raises:
        ClipRejectedError: If it cannot be had, with a reason of `gone`, `private`, `geo`,
            `rate_limit`, `network`, `timeout`, `too_large`, `not_found` or `unreadable`.
    """
    if not is_url(location):
        return _copy(Path(location), store, params)
    try:
        urlsplit(location).port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ClipRejectedError("not_found", f"not an address: {error}") from error
    patient = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(params.attempts),
        wait=tenacity.wait_exponential(multiplier=params.backoff_s, max=60),
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, ClipRejectedError) and error.reason in RETRYABLE
        ),
        before_sleep=tenacity.before_sleep_log(logger, logging.DEBUG),
        reraise=True,
    )
    return patient(_download, location, store, params)


def _copy(file: Path, store: MediaStore, params: DownloadVideos) -> Origin:
    try:
        status = file.stat()
    except OSError as error:
        raise ClipRejectedError(
            "not_found",
            "the file does not exist; relative sources start from the list's folder",
        ) from error
    if not file.is_file():
        raise ClipRejectedError("not_found", "not a file")
    _check_size(status.st_size, params)
    key, validator = f"file:{file.resolve()}", f"{status.st_size}-{status.st_mtime_ns}"
    known = store.recall(key)
    if known and known.validator == validator:
        return known
    try:
        content = store.adopt_copy(file, key)
    except OSError as error:
        raise ClipRejectedError("unreadable", f"cannot be read: {error.strerror}") from error
    origin = Origin(content, status.st_size, validator)
    store.remember(key, origin)
    return origin


def _download(url: str, store: MediaStore, params: DownloadVideos) -> Origin:
    key = _key(url)
    known = store.recall(key)
    partial = store.partial(key)
    validator_file = partial.with_suffix(".validator")
    offset = partial.stat().st_size if _strong_validator(validator_file) else 0
    headers = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file itself
    if known and known.validator:
        headers["If-None-Match" if '"' in known.validator else "If-Modified-Since"] = (
            known.validator
        )
        offset = 0
    elif offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator_file.read_text()}
    timeout = httpx.Timeout(params.timeout_s)
    try:
        with (
            httpx.Client(
                timeout=timeout,
                follow_redirects=True,
                trust_env=urlsplit(url).hostname not in _LOOPBACK,
            ) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code == 304 and known:
                return known
            if response.status_code == 416:
                partial.unlink(missing_ok=True)
                raise ClipRejectedError("network", "the server refused to go on from the middle")
            _check_status(response)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
            length = response.headers.get("Content-Length", "")
            announced = int(length) if length.isdecimal() else -1
            if known and not validator and announced == known.bytes:
                return known
            resumed = response.status_code == 206
            _check_size(announced + (offset if resumed else 0), params)
            validator_file.write_text(validator)
            _receive(response, partial, append=resumed, params=params)
            if announced >= 0 and partial.stat().st_size != announced + (offset if resumed else 0):
                raise ClipRejectedError("network", "the connection ended early")
    except httpx.TimeoutException as error:
        raise ClipRejectedError(
            "timeout", f"no answer for {params.timeout_s:g} s (download_videos.timeout_s)"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClipRejectedError("network", str(error) or type(error).__name__) from error
    size = partial.stat().st_size
    origin = Origin(store.adopt(partial), size, validator)
    validator_file.unlink(missing_ok=True)
    store.remember(key, origin)
    return origin


def _strong_validator(file: Path) -> bool:
    """Whether a part was stored with an ETag that promises the same bytes."""
    return file.exists() and file.read_text().startswith('"') and file.with_suffix("").exists()


def _receive(
    response: httpx.Response, partial: Path, *, append: bool, params: DownloadVideos
) -> None:
    with partial.open("ab" if append else "wb") as file:
        for chunk in response.iter_bytes():
            file.write(chunk)
            _check_size(file.tell(), params)


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status < 400:
        return
    reason = _STATUS_REASONS.get(status, "network" if status >= 500 else "gone")
    raise ClipRejectedError(reason, f"the server answered {status} {response.reason_phrase}")


def _check_size(size: int, params: DownloadVideos) -> None:
    if size > params.max_bytes:
        raise ClipRejectedError(
            "too_large",
            f"more than {params.max_bytes} bytes (download_videos.max_bytes)",
        )


def _key(url: str) -> str:
    """What a source is remembered by; a loopback server's port changes with every start."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = "" if host in _LOOPBACK else str(parts.port or "")
    return f"http:{host}:{port}{parts.path}?{parts.query}"
