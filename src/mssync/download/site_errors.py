"""Why did yt-dlp not bring a video? Its own exceptions, as the ledger knows them.

The first true cause is kept, in the site's own words: what a page said is worth more than the
status of the request that brought it, and both more than what failed after it.
"""

import http.client
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    IncompleteRead,
    ProxyError,
    RequestError,
    SSLError,
)
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UserNotLive

from mssync.download import answers
from mssync.download.proxy import REFUSED
from mssync.errors import ClipRejectedError

_MOST_CHARACTERS = 500

# Often dressed as a status, or as a country: looked for before anything else.
_BOT_CHECK = re.compile(
    r"not a (ro)?bot\b|\banti-?bot\b|captcha|unusual traffic|client challenge|you are (a )?human",
    re.IGNORECASE,
)
# The words of sites and of yt-dlp's extractors, in the order in which they are looked for: what
# says the most comes first ("Sign in to confirm your age" is not about signing in).
_WORDS = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        ("rate_limit", r"rate[- ]?limit|too many requests"),
        ("drm", r"\bDRM\b"),
        (
            "geo",
            r"\b(in|from) (your|this) (current )?(country|region|location|area|territory)"
            r"|\bgeo[- ]?(restrict|block|fenc)|not available from your location"
            r"|ip address is (blocked|not allowed)",
        ),
        (
            "age",
            r"confirm your age|\bage[- ](restrict|verif|gat)|\badult (content|verification)"
            r"|inappropriate for some users|\bNSFW\b",
        ),
        (
            "live",
            r"live event (will|is|has not)|premieres? (in|will|shortly)|will begin (in|at|shortly)"
            r"|not (yet )?(been )?started|not (currently )?(live|online|broadcasting)\b"
            r"|\bis offline\b|scheduled (for|at)|not available yet",
        ),
        (
            "gone",
            r"copyright|terminated|(been|was) ((re)?moved|deleted|taken down|suspended|disabled)"
            r"|account .{0,40}(closed|suspended|deleted)|no longer (available|exists?)"
            r"|(does|do)(es)?(n.t| not) exist|\b(has|is|was|most likely) expired|\bhas ended\b"
            r"|(video|clip|channel|track|stream|content|post|page|episode|show) (was )?not found"
            r"|recording is not available",
        ),
        ("auth", r"(unable to|could not|cannot) log ?in|log ?in failed|invalid (username|login)"),
        (
            "private",
            r"\bprivate\b|\bmembers?[- ]only|\bfor (channel )?(members|subscribers)"
            r"|channel.s members|join this channel|\bpremium\b|subscri(ption|bed|bers? only)"
            r"|\bpassword|\bpurchase|requires? payment|\bpaid\b|\brent(al|ed)?\b"
            r"|not have access|\btickets?\b",
        ),
        (
            "auth",
            r"\blog(ged)?[- ]?in\b|\bsign(ed)?[- ]?in\b|registered users|authenticat"
            r"|account is needed|--cookies",
        ),
        # last of all: the heading over every other cause
        (
            "gone",
            r"(video|content|media) (is )?(currently )?(un|not )available|content isn.t available",
        ),
    )
)
# What yt-dlp adds for those who use its command line.
_NOISE = (
    re.compile(r"\x1b\[[0-9;]*m"),
    re.compile(r"^ERROR: "),
    re.compile(r"^\[[\w:.+-]+\] ([^\s:]{1,100}: )?"),
)
_BOILERPLATE = re.compile(
    r"[;.]?\s*(please report this issue|\(caused by |Use --(cookies|username|list-formats)"
    r"|Call yt-dlp like this|For more information, refer to|see\s+https://github\.com/yt-dlp"
    r"|This helps protect our community|Learn more).*",
    re.DOTALL | re.IGNORECASE,
)
_ADDRESS = re.compile(r"\bhttps?://\S+")
_QUERY = re.compile(r"(https?://)([^\s/?#@]*@)?([^\s?#]*)[?#][^\s'\"]*")


@dataclass(frozen=True)
class Failure:
    """What a fetch came to, other than media.

    Attributes:
        error: Why.
        host: Where our own proxy refused or did not reach; it knows the true cause. Empty where
            the site itself answered.
    """

    error: ClipRejectedError
    host: str = ""


def explain(error: BaseException, *, host: str = "") -> Failure:
    """What an exception out of yt-dlp, or out of its connections, means.

    Args:
        error: As it was caught.
        host: The host that was asked last.

    Returns:
        The reason with the first cause's own message; `site` for what is not known.
    """
    known = next((e for e in _walk(error) if isinstance(e, ClipRejectedError)), None)
    if known:
        return Failure(known)
    network = next((e for e in _walk(error) if isinstance(e, RequestError)), None)
    if isinstance(network, ProxyError):
        return Failure(ClipRejectedError("connection", "the host cannot be reached"), host)
    raw = _message(error)
    message = clean(raw)
    if isinstance(network, HTTPError):
        if network.response.headers.get(REFUSED):
            return Failure(ClipRejectedError("connection", "the host cannot be reached"), host)
        if f"HTTP Error {network.status}" in message:
            return Failure(_status(network, message))
    elif network and str(network) in raw:
        return Failure(transport(network))
    reason = _reason(error, message)
    if reason:
        return Failure(ClipRejectedError(reason, message))
    if isinstance(network, HTTPError):
        return Failure(_status(network, message))
    if network:
        return Failure(transport(network))
    return Failure(ClipRejectedError("site", message))


def transport(error: BaseException) -> ClipRejectedError:
    """What an exception of a connection means, in words that do not change between runs."""
    if isinstance(error, HTTPError):
        return _status(error, clean(str(error)))
    causes = list(_walk(error, _found))
    if any(_is_timeout(cause) for cause in causes):
        return ClipRejectedError("timeout", "the server was silent for too long (timeout_s)")
    if any(isinstance(cause, IncompleteRead | http.client.IncompleteRead) for cause in causes):
        return ClipRejectedError("connection", "the connection ended early")
    if isinstance(error, CertificateVerifyError):
        return ClipRejectedError("connection", "the server's certificate is not valid")
    if isinstance(error, SSLError):
        return ClipRejectedError("connection", "no encrypted connection can be agreed on")
    system = next((e for e in causes if isinstance(e, OSError) and e.strerror), None)
    words = system.strerror if system else "the connection was lost"
    return ClipRejectedError("connection", str(words).lower())


def clean(message: str) -> str:
    """The true words of a message: without colour, prefixes, advice, and what URLs may hide."""
    for noise in _NOISE:
        message = noise.sub("", message.strip())
    message = _BOILERPLATE.sub("", message)
    message = _QUERY.sub(r"\1\3?...", message)
    message = " ".join(message.split()).rstrip(" ;")
    return message[:_MOST_CHARACTERS] or "no message"


def _reason(error: BaseException, message: str) -> str:
    words = _ADDRESS.sub("", message)
    if _BOT_CHECK.search(words):
        return "bot_check"
    for kind, reason in ((GeoRestrictedError, "geo"), (UserNotLive, "live")):
        if any(isinstance(cause, kind) for cause in _walk(error)):
            return reason
    return next((reason for reason, pattern in _WORDS if pattern.search(words)), "")


def _status(error: Any, message: str) -> ClipRejectedError:  # noqa: ANN401 - yt-dlp's HTTPError
    if error.redirect_loop:
        return ClipRejectedError("redirects", "too many redirects (max_redirects)")
    try:
        answers.check_status(
            httpx.Response(error.status, headers=list(error.response.headers.items()))
        )
    except ClipRejectedError as known:
        reason = "bot_check" if _BOT_CHECK.search(message) else known.reason
        return ClipRejectedError(reason, message, wait_s=known.wait_s)
    return ClipRejectedError("server_error", message)


def _message(error: BaseException) -> str:
    """The words of the innermost error of an extractor."""
    extractor = [e for e in _walk(error) if isinstance(e, ExtractorError)]
    return extractor[0].orig_msg if extractor else str(error)


def _stated(error: BaseException) -> list[object]:
    """What an error says that it was caused by."""
    info = getattr(error, "exc_info", None)
    told = info[1] if info and isinstance(error, DownloadError | ExtractorError) else None
    return [told, getattr(error, "cause", None), error.__cause__]


def _found(error: BaseException) -> list[object]:
    """What led to an error, also where it does not say so."""
    return [*_stated(error), getattr(error, "reason", None), error.__context__, *error.args]


def _walk(
    error: BaseException, causes: Callable[[BaseException], list[object]] = _stated
) -> Iterator[BaseException]:
    """An error and its causes, the nearest first."""
    seen = set[int]()
    left: list[object] = [error]
    while left:
        cause = left.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            left += causes(cause)


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or "timed out" in str(error)
