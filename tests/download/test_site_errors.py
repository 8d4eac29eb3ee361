"""What yt-dlp's own exceptions mean, raised as its extractors raise them."""

import errno
import io

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    IncompleteRead,
    ProxyError,
    TransportError,
)
from yt_dlp.utils import ExtractorError, RegexNotFoundError, UnsupportedError, UserNotLive

from mssync.download.proxy import REFUSED
from mssync.download.site_errors import clean, explain
from mssync.errors import ClipRejectedError


class VideoIE(InfoExtractor):
    """An extractor that fails as it is told to."""

    _VALID_URL = r"https?://video\.example/(?P<id>\w+)"
    IE_NAME = "video"
    fail = None

    def _real_extract(self, url):
        self.fail()


@pytest.fixture
def explained():
    """What comes out when an extractor fails in some way, through all of yt-dlp."""
    with YoutubeDL({"quiet": True, "logger": _Silent()}, auto_init=False) as ydl:

        def explained(fail):
            extractor = VideoIE()
            extractor.fail = lambda: fail(extractor)
            ydl.add_info_extractor(extractor)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - any of yt-dlp's
                ydl.extract_info("https://video.example/abc", download=False)
            return explain(caught.value).error

        yield explained


class _Silent:
    def debug(self, _):
        pass

    info = warning = error = debug


# Words of YouTube's servers and of yt-dlp's extractors (youtube, vimeo, twitch, niconico, ...).
WORDS = {
    "bot_check": [
        "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the "
        "authentication. See  https://github.com/yt-dlp/yt-dlp/wiki/FAQ",
        "Sign in to confirm you're not a bot",
        "Video unavailable. YouTube is requiring a captcha challenge before playback",
        "Got HTTP Error 403 caused by Cloudflare anti-bot challenge; try again with  "
        '--extractor-args "generic:impersonate"',
    ],
    "rate_limit": [
        "Video unavailable. This content isn't available, try again later. The current session has "
        "been rate-limited by YouTube for up to an hour.",
        "You have exceeded the rate limit. Try again later",
    ],
    "age": [
        "Sign in to confirm your age. This video may be inappropriate for some users.",
        "Login is required to access age-restricted content",
        "Adult verification is required for this stream",
    ],
    "private": [
        "Private video. Sign in if you've been granted access to this video",
        "Join this channel to get access to members-only content like this video, and other perks.",
        "This video is available to this channel's members on level: Gold",
        "Password protected video, use --video-password <password>",
        "This video is only available for registered users with the appropriate subscription",
        "This video requires payment to watch",
        "This VOD is for subscribers only",
    ],
    "gone": [
        "Video unavailable",
        "Video unavailable. This video has been removed by the uploader",
        "Video unavailable. This video is no longer available because the YouTube account "
        "associated with this video has been terminated.",
        "Video unavailable. This video contains content from SME, who has blocked it on copyright "
        "grounds",
        "This video has been removed for violating YouTube's Terms of Service",
        "This live stream recording is not available.",
        "The VOD does not exist",
        "Content not found; it has most likely expired",
        "Livestream has ended.",
    ],
    "geo": [
        "Video unavailable. The uploader has not made this video available in your country",
        "This video contains content from X, who has blocked it in your country on copyright "
        "grounds",
        "This song is blocked in this region",
    ],
    "live": [
        "This live event will begin in 3 hours.",
        "Premieres in 2 hours",
        "Premiere will begin shortly",
        "This live broadcast has not yet started",
        "Streamer is not live",
    ],
    "drm": ["This video is DRM protected"],
    "auth": [
        "Login required to access this video",
        "Unable to log in: Invalid username or password",
        "An account is needed to access this media",
        "Please sign in",
    ],
    "site": [
        "Requested format is not available. Use --list-formats for a list of available formats",
        "No video formats found!",
        "Unable to extract player version",
        "Video data not found in the page",
        "Signature extraction failed: Some formats may be missing",
        "PhantomJS not found, Please download it",
    ],
}


@pytest.mark.parametrize(
    ("reason", "words"), [(reason, words) for reason, all_ in WORDS.items() for words in all_]
)
def test_words_of_sites_have_their_reasons(reason, words, explained):
    error = explained(lambda ie: ie.raise_no_formats(words, expected=True, video_id="abc"))
    assert error.reason == reason
    assert str(error)[:20] == words[:20]


@pytest.mark.parametrize(
    ("reason", "fail"),
    [
        ("geo", lambda ie: ie.raise_geo_restricted(countries=["DE"])),
        ("geo", lambda ie: ie.raise_geo_restricted("Not for you")),
        ("auth", lambda ie: ie.raise_login_required()),
        ("drm", lambda ie: ie.report_drm("abc")),
        ("live", lambda _: _raise(UserNotLive(video_id="abc"))),
        ("site", lambda _: _raise(UnsupportedError("https://private.example/captcha/DRM"))),
        ("connection", lambda _: _raise(_lost("a private members-only.example"))),
        ("site", lambda ie: ie._search_regex("a", "b", "title")),
        ("site", lambda _: _raise(RegexNotFoundError("Unable to extract title"))),
        ("site", lambda _: _raise(KeyError("videoDetails"))),
        ("site", lambda _: _raise(TypeError("'NoneType' object is not subscriptable"))),
    ],
)
def test_kinds_of_exceptions_have_their_reasons(reason, fail, explained):
    assert explained(fail).reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "auth"),
        (403, "forbidden"),
        (404, "gone"),
        (410, "gone"),
        (429, "rate_limit"),
        (451, "geo"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_a_status_means_what_it_means_on_the_web(status, reason, explained):
    def fail(ie):
        ie._downloader.urlopen = lambda _: _raise(_status(status, {"Retry-After": "9"}))
        ie._download_webpage("https://video.example/abc", "abc")

    error = explained(fail)
    assert (error.reason, error.wait_s) == (reason, 9.0)
    assert str(error).startswith(f"Unable to download webpage: HTTP Error {status}: ")


def test_what_a_page_says_counts_more_than_the_status_it_came_with(explained):
    def fail(ie):
        try:
            raise _status(403)
        except HTTPError as error:
            raise ExtractorError("This video is private", cause=error, expected=True) from error

    error = explained(fail)
    assert (error.reason, str(error)) == ("private", "This video is private")


def test_too_many_redirects_are_told():
    assert explain(_status(302, redirect_loop=True)).error.reason == "redirects"


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (
            TransportError(cause=TimeoutError("timed out")),
            "timeout",
            "the server was silent for too long (timeout_s)",
        ),
        (IncompleteRead(5, 10), "connection", "the connection ended early"),
        (
            TransportError(cause=ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
            "connection",
            "connection refused",
        ),
        (
            CertificateVerifyError("CERTIFICATE_VERIFY_FAILED"),
            "connection",
            "the server's certificate is not valid",
        ),
    ],
)
def test_a_connection_fails_in_words_that_do_not_change(error, reason, message, explained):
    bare = explain(error).error
    assert (bare.reason, str(bare)) == (reason, message)
    wrapped = explained(
        lambda ie: _raise(ExtractorError(f"Unable to download webpage: {error}", cause=error))
    )
    assert wrapped.reason == reason


def test_what_our_own_proxy_refused_is_left_to_it():
    tunnel = ProxyError("Tunnel connection failed: 403 Forbidden")
    assert explain(tunnel, host="a.example").host == "a.example"
    assert explain(_status(403, {REFUSED: "refused"}), host="a.example").host == "a.example"
    assert explain(_status(403), host="a.example").host == ""


def test_our_own_errors_pass_through_yt_dlp(explained):
    error = explained(lambda _: _raise(ClipRejectedError("opt_out", "the server said 'noai'")))
    assert (error.reason, str(error)) == ("opt_out", "the server said 'noai'")


def test_messages_keep_the_true_words_alone(explained):
    assert clean("\x1b[0;31mERROR:\x1b[0m [youtube] aB-_1: Private video") == "Private video"
    assert clean("No key at https://u:p@a.example/v?sig=1 here") == (
        "No key at https://a.example/v?... here"
    )
    bug = explained(lambda _: _raise(ExtractorError("Unable to parse JSON", video_id="abc")))
    assert str(bug) == "Unable to parse JSON"


def _raise(error):
    raise error


def _lost(host):
    error = TransportError(f"{host}: the connection was lost")
    return ExtractorError(f"Unable to download webpage: {error}", cause=error)


def _status(status, headers=(), *, redirect_loop=False):
    response = Response(io.BytesIO(b""), Request("http://a.example/").url, dict(headers), status)
    return HTTPError(response, redirect_loop=redirect_loop)
