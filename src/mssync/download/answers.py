"""What does an answer of a web server mean?

Pure functions of status and headers (RFC 9110): which reason code, how long to wait, which bytes.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from mssync.errors import ClipRejectedError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
NOT_MODIFIED = 304
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206
_CONTENT = frozenset({200, 203, PARTIAL_CONTENT})

_REASONS = {
    401: "auth",
    403: "forbidden",
    407: "auth",
    408: "timeout",
    425: "rate_limit",
    429: "rate_limit",
    451: "geo",
}
# What guards against robots say of an answer that they gave instead of the site.
_BOT_CHECKS = (
    ("cf-mitigated", re.compile("challenge")),
    ("x-vercel-mitigated", re.compile("challenge")),
    ("x-amzn-waf-action", re.compile("challenge|captcha")),
)
_LONGEST_WAIT_S = 7 * 24 * 3600.0
_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)", re.ASCII)
_SECONDS = re.compile(r"\d+(\.\d*)?", re.ASCII)
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/(ecma|java)script")


@dataclass(frozen=True)
class ContentRange:
    """The bytes that an answer holds.

    Attributes:
        start: First byte.
        total: Size of the whole file; -1 where it is not said.
    """

    start: int
    total: int


def check_status(response: httpx.Response) -> None:
    """Let pass what brings content.

    Raises:
        ClipRejectedError: With the reason of any other status, and the wait it asks for.
    """
    status = response.status_code
    if _is_bot_check(response):
        raise _rejected("bot_check", response, ": the site wants proof that no robot is asking")
    if status in _CONTENT:
        return
    if status in (401, 407):
        raise _rejected("auth", response, ": a login is missing, or not accepted; secrets hold it")
    if 400 <= status < 500:
        raise _rejected(_REASONS.get(status, "gone"), response)
    if status >= 500:
        raise _rejected("server_error", response)
    raise _rejected("server_error", response, ", which is no answer to this request")


def check_type(response: httpx.Response) -> None:
    """Let pass what may be a video by its Content-Type; most servers know little of theirs.

    Raises:
        ClipRejectedError: `not_a_video`.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if _TEXT.fullmatch(kind):
        raise ClipRejectedError(
            "not_a_video",
            f"the server sent a web page or text ({kind}); "
            "a page of a video site is listed as yt-dlp+URL",
        )


def coding(response: httpx.Response) -> str:
    """How the content is packed although it was asked for as it is: ``, `gzip` or `deflate`.

    Raises:
        ClipRejectedError: `not_a_video`, if it is packed in another way.
    """
    header = response.headers.get("Content-Encoding", "").lower()
    names = [name.strip() for name in header.split(",")]
    codings: list[str] = [name.removeprefix("x-") for name in names if name not in ("", "identity")]
    if not codings:
        return ""
    if codings not in (["gzip"], ["deflate"]):
        raise ClipRejectedError(
            "not_a_video",
            f"the server packed it as {', '.join(codings)} (Content-Encoding), unasked; "
            "gzip and deflate can be unpacked",
        )
    return codings[0]


def length(response: httpx.Response) -> int:
    """Bytes of the body as announced; -1 where they are not."""
    announced = response.headers.get("Content-Length", "")
    if "Transfer-Encoding" in response.headers or not announced.isdecimal():
        return -1
    return int(announced)


def content_range(response: httpx.Response) -> ContentRange | None:
    """What part of the file a 206 holds; None where it does not say so."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return match and ContentRange(int(match[1]), -1 if match[3] == "*" else int(match[3]))


def validator(response: httpx.Response) -> str:
    """What proves that later bytes belong to the same file: a strong ETag, or Last-Modified."""
    etag: str = response.headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    modified: str = response.headers.get("Last-Modified", "")
    return modified


def wait_s(response: httpx.Response, *, clock: Callable[[], float] = time.time) -> float | None:
    """What `Retry-After` asks for, in both of its forms; None where it asks for nothing.

    A date is taken relative to the server's own, since its clock may be wrong.
    """
    header = response.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(header):
        wanted_s = float(header)
    else:
        until = _seconds(header)
        if until is None:
            return None
        now = _seconds(response.headers.get("Date", ""))
        wanted_s = until - (clock() if now is None else now)
    return min(max(wanted_s, 0.0), _LONGEST_WAIT_S)


def _seconds(date: str) -> float | None:
    with suppress(ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(date).timestamp()
    return None


def _is_bot_check(response: httpx.Response) -> bool:
    if any(form.search(response.headers.get(name, "").lower()) for name, form in _BOT_CHECKS):
        return True
    return response.status_code == 403 and "x-datadome" in response.headers


def _rejected(reason: str, response: httpx.Response, more: str = "") -> ClipRejectedError:
    status = response.status_code
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    message = f"the server answered {status}{phrase}{more}"
    return ClipRejectedError(reason, message, wait_s=wait_s(response))
