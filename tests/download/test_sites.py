"""Sections of videos, fetched by the real yt-dlp from servers on this machine.

The video shows its frame's number as two grey levels, and clicks at each whole second.
"""

import re
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import psutil
import pytest

from mssync.download import sites
from mssync.download.addresses import Policy
from mssync.download.budget import Budget
from mssync.download.secrets import Secrets
from mssync.download.site_streams import Key, Resource, parse_playlist
from mssync.download.sites import fetch_sections, section_key
from mssync.errors import ClipRejectedError
from mssync.media import ffmpeg
from mssync.media.sandbox import Sandbox
from mssync.media.store import Origin

FPS_HZ, LENGTH_S, RATE_HZ = 25, 60, 16_000
LOCAL = Policy(("127.0.0.1",))
NO_SECRETS = Secrets()


def _frames():
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 12, (8, 96, 160, 3), dtype=np.uint8)
    for number in range(FPS_HZ * LENGTH_S):
        frame = grain[number % 8].copy()
        frame[:, :80] += np.uint8(number % 25 * 8 + 20)
        frame[:, 80:] += np.uint8(number // 25 * 3 + 20)
        yield frame


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """The same video as one file, and as playlists of several kinds."""
    folder = tmp_path_factory.mktemp("footage")
    clicks = np.zeros(RATE_HZ * LENGTH_S, np.float32)
    for second in range(LENGTH_S):
        start = second * RATE_HZ
        clicks[start : start + 320] = 0.5 * np.sin(np.arange(320))
    ffmpeg.encode(_frames(), folder / "v.mp4", fps_hz=FPS_HZ, waveform=clicks, crf=8)
    (folder / "key").write_bytes(b"0123456789abcdef")
    (folder / "key.info").write_text(f"key\n{folder / 'key'}\n")
    whole = ["-hls_time", "4", "-hls_playlist_type", "vod"]
    _copy(folder, *whole, "ts.m3u8")
    _copy(
        folder, *whole, "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "i.mp4", "mp4.m3u8"
    )
    _copy(folder, *whole, "-hls_key_info_file", folder / "key.info", "aes.m3u8")
    _copy(folder, *whole, "-hls_flags", "single_file", "single.m3u8")
    one_clock = ["-copyts", "-output_ts_offset", "8", "-avoid_negative_ts", "disabled"]
    _copy(folder, *one_clock, *whole, "-map", "0:v", "picture.m3u8")
    _copy(folder, *one_clock, *whole, "-map", "0:a", "sound.m3u8")
    _copy(folder, "-f", "dash", "dash.mpd")
    (folder / "apart.m3u8").write_text(
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="sound.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.64000b,mp4a.40.2",RESOLUTION=160x96,'
        'AUDIO="a"\npicture.m3u8\n'
    )
    return folder


def _copy(folder, *options):
    command = [ffmpeg.executable(), "-v", "error", "-i", "v.mp4", "-c", "copy", *options]
    subprocess.run([str(each) for each in command], cwd=folder, check=True)


class Web:
    """What a server was asked, and how many bytes of media it sent."""

    def __init__(self, port, folder):
        self.port, self.folder = port, folder
        self.asked = []
        self.headers = []
        self.sent_bytes = 0
        self.answers = {}
        self.short = self.silent = ""  # paths whose answers end early, or do not come
        self.released = threading.Event()
        self.pause_s = 0.003  # after each 64 KiB: a fast line, not the speed of memory

    def url(self, path):
        return f"yt-dlp+http://127.0.0.1:{self.port}/{path}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self):
        connection, address = super().get_request()
        # what waits in the kernel has been sent, but nobody has asked for it
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        return connection, address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        web, path = self.server.web, self.path.partition("?")[0].strip("/")
        web.asked.append(path)
        web.headers.append(dict(self.headers))
        if path in web.answers:
            status, headers, body = web.answers[path]
        else:
            status, headers, body = self._file(web.folder / path)
        if path == web.silent:
            web.released.wait()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if path == web.short:
            body, self.close_connection = body[: len(body) // 2], True
        try:
            for start in range(0, len(body), 65536):
                self.wfile.write(body[start : start + 65536])
                web.sent_bytes += len(body[start : start + 65536])
                time.sleep(web.pause_s)
        except OSError:
            self.close_connection = True

    def _file(self, file):
        if not file.is_file():
            return 404, {}, b"no such file"
        kinds = {
            ".mp4": "video/mp4",
            ".m3u8": "application/vnd.apple.mpegurl",
            ".mpd": "application/dash+xml",
        }
        headers = {"Content-Type": kinds.get(file.suffix, "application/octet-stream")}
        content = file.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not span:
            return 200, headers | {"Accept-Ranges": "bytes"}, content
        first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, headers, content[first : last + 1]


@contextmanager
def _serving(folder):
    server = _Server(("127.0.0.1", 0), _Handler)
    server.web = Web(server.server_address[1], folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.web
    finally:
        server.web.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web(footage):
    with _serving(footage) as web:
        yield web


@pytest.fixture(scope="module")
def processes(tiny):
    with (
        Sandbox(memory_bytes=sites.MEMORY_BYTES) as sandbox,
        Sandbox(memory_bytes=tiny.download_videos.probe_bytes) as cutter,
    ):
        yield {"sandbox": sandbox, "cutter": cutter}


@pytest.fixture
def fetch(tiny, store, processes):
    store.folder.mkdir(parents=True, exist_ok=True)

    def fetch(url, *sections, secrets=NO_SECRETS, policy=LOCAL, **changes):
        params = tiny.download_videos.model_copy(update=changes)
        return fetch_sections(
            url,
            sections,
            store,
            params=params,
            secrets=secrets,
            policy=policy,
            budget=Budget(params, store.folder),
            **processes,
        )

    return fetch


@pytest.fixture
def rejection(fetch):
    def rejection(url, *sections, **options):
        found = fetch(url, *(sections or [(10.0, 12.0)]), **options)
        assert isinstance(found[0], ClipRejectedError), found[0]
        return found[0].reason, str(found[0])

    return rejection


def _look(path):
    """Frame numbers with their times, and times of the clicks, in seconds from the first frame."""
    numbers, times, sound = [], [], []
    with av.open(str(path)) as clip:
        rate_hz = clip.streams.audio[0].rate
        for frame in clip.decode():
            if isinstance(frame, av.VideoFrame):
                grey = frame.to_ndarray(format="gray").astype(float)
                low, high = grey[:, 8:72].mean() - 25.5, grey[:, 88:152].mean() - 25.5
                numbers.append(round(high / 3) * 25 + round(low / 8))
                times.append(frame.time)
            else:
                sound.append((frame.time, np.abs(frame.to_ndarray()).mean(axis=0)))
    loud = np.concatenate([level for _, level in sound]) > 0.1
    starts = np.flatnonzero(loud & ~np.roll(loud, 1))
    onsets = [n / rate_hz + sound[0][0] for n in starts if not loud[max(0, n - 400) : n].any()]
    return numbers, np.array(times), np.array(onsets)


def _assert_exact(store, origin, start_s, end_s):
    assert isinstance(origin, Origin), origin
    numbers, times, onsets = _look(store.path(origin.sha256))
    assert numbers == list(range(round(start_s * 25), round(end_s * 25)))
    shown_s = times[[number % 25 == 0 for number in numbers]]
    assert len(onsets) == len(shown_s)
    np.testing.assert_allclose(onsets, shown_s, atol=0.02)


@pytest.mark.parametrize(
    "path",
    ["v.mp4", "ts.m3u8", "mp4.m3u8", "aes.m3u8", "single.m3u8", "apart.m3u8", "dash.mpd"],
)
def test_a_section_begins_at_its_frame_in_sync_and_little_else_is_fetched(
    path, web, fetch, store, footage
):
    (origin,) = fetch(web.url(path), (17.0, 19.48))
    _assert_exact(store, origin, 17.0, 19.48)
    assert web.sent_bytes < 0.5 * (footage / "v.mp4").stat().st_size


def test_sections_of_one_video_are_looked_up_once_and_fail_alone(web, fetch, store):
    found = fetch(web.url("v.mp4"), (3.0, 3.4), (99.0, 100.0), (41.04, 41.64))
    _assert_exact(store, found[0], 3.0, 3.4)
    assert found[1].reason == "empty_cut"
    _assert_exact(store, found[2], 41.04, 41.64)
    assert sum("Range" not in headers for headers in web.headers) == 1


def test_a_whole_video_is_stored_as_it_comes_with_its_origin(web, fetch, store, tiny):
    url = web.url("apart.m3u8")
    (origin,) = fetch(url, (0.0, None))
    _assert_exact(store, origin, 0.0, 60.0)
    assert origin.bytes > 0.9 * (web.folder / "v.mp4").stat().st_size
    provenance = origin.provenance
    assert provenance.tool.startswith("yt-dlp 20")
    assert provenance.final_url == url.removeprefix("yt-dlp+")
    assert store.recall(section_key(url, (0.0, None), tiny.download_videos)) == origin
    assert not list((store.folder / "partial").iterdir())


def test_a_server_that_sends_only_whole_files_is_asked_for_no_section(web, fetch):
    web.answers["plain"] = 200, {"Content-Type": "video/mp4"}, (web.folder / "v.mp4").read_bytes()
    (section,) = fetch(web.url("plain"), (17.0, 18.0))
    assert (section.reason, "no Range" in str(section)) == ("site", True)
    (whole,) = fetch(web.url("plain"), (0.0, None))
    assert isinstance(whole, Origin)


def _playlist(*segments, end="#EXT-X-ENDLIST\n", before=""):
    lines = "".join(f"#EXTINF:10.0,\n{segment}\n" for segment in segments)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{before}{lines}{end}"
    return 200, {"Content-Type": "application/vnd.apple.mpegurl"}, text.encode()


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "http://127.0.0.2:1/x.ts"],
)
def test_a_playlist_leads_nowhere_that_is_not_allowed(target, web, rejection):
    web.answers["crafted.m3u8"] = _playlist("ts0.ts", target)
    assert rejection(web.url("crafted.m3u8"))[0] == "refused"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_leads_nowhere_that_is_not_allowed(scheme, web, rejection):
    web.answers["away"] = 302, {"Location": f"{scheme}://169.254.169.254/v.mp4"}, b""
    reason, message = rejection(web.url("away"))
    assert (reason, "169.254.169.254 is not a public address" in message) == ("refused", True)


def test_redirects_in_a_circle_end(web, rejection):
    web.answers["circle"] = 302, {"Location": "/circle"}, b""
    assert rejection(web.url("circle"))[0] == "redirects"
    assert web.asked.count("circle") < 10


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        ((404, {}, b""), "gone", "Unable to download webpage: HTTP Error 404: Not Found"),
        ((503, {}, b""), "server_error", "HTTP Error 503"),
        ((200, {"Content-Type": "text/html"}, b"<html><p>words"), "site", "Unsupported URL"),
        ((200, {"X-Robots-Tag": "noai", "Content-Type": "video/mp4"}, b""), "opt_out", "noai"),
        (
            (
                200,
                {},
                b'<rss version="2.0"><channel><item><link>http://a.example/</link></item></channel></rss>',
            ),
            "site",
            "a list of videos",
        ),
        (_playlist("ts0.ts", "ts1.ts", end=""), "live", ""),
        (_playlist("ts0.ts", "ts1.ts", before="#EXT-X-KEY:METHOD=SAMPLE-AES,URI=key\n"), "drm", ""),
        (_playlist("gone.ts", "ts1.ts"), "gone", "HTTP Error 404: Not Found"),
        (_playlist("words.ts", "words.ts"), "not_a_video", ""),
    ],
)
def test_the_first_true_cause_is_told(answer, reason, message, web, rejection):
    web.answers |= {"page": answer, "words.ts": (200, {}, b"words" * 9999)}
    found = rejection(web.url("page"))
    assert found[0] == reason
    assert message in found[1]
    assert str(web.port) not in found[1] or "Unsupported" in found[1]


def test_a_site_that_asks_to_wait_is_heard(web, fetch):
    web.answers["busy"] = 429, {"Retry-After": "7"}, b""
    (error,) = fetch(web.url("busy"), (0.0, 1.0))
    assert (error.reason, error.wait_s) == ("rate_limit", 7.0)


@pytest.mark.parametrize(
    ("limit", "section", "reason"),
    [
        ({"max_bytes": 200_000}, (17.0, 19.0), "too_large"),
        ({"run_bytes": 200_000}, (17.0, 19.0), "budget"),
        ({"min_free_bytes": 1 << 60}, (17.0, 19.0), "disk"),
        ({"max_duration_s": 50.0}, (0.0, None), "too_long"),
    ],
)
def test_limits_hold_while_media_come(limit, section, reason, web, rejection):
    assert rejection(web.url("v.mp4"), section, **limit)[0] == reason
    assert web.sent_bytes < 3_000_000  # the system holds some in its buffers


def test_a_host_that_is_not_there_is_a_connection_error(rejection):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert rejection(f"http://127.0.0.1:{port}/v.mp4")[0] == "connection"


def test_a_connection_that_ends_early_is_told(web, rejection):
    web.short = "ts1.ts"
    assert rejection(web.url("ts.m3u8"), (17.0, 19.0)) == (
        "connection",
        "the connection ended early",
    )


def test_secrets_reach_their_host_and_nothing_else(web, fetch, caplog):
    caplog.set_level("DEBUG")
    secrets = Secrets(
        cookies="# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\tcookie-value\n",
        headers={"127.0.0.1": {"X-Key": "header-value"}},
        extractor_args={"generic": {"variant": ["argument-value"]}},
    )
    web.answers["away"] = 302, {"Location": f"http://localhost:{web.port}/ts.m3u8"}, b""
    web.pause_s = 0.05
    done = threading.Event()
    lines = set()

    def watch():
        while not done.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                try:
                    lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        policy = Policy(("127.0.0.1", "localhost"))
        (origin,) = fetch(web.url("ts.m3u8?sig=signature"), (17.0, 19.0), secrets=secrets)
        asked = list(web.headers)
        fetch(web.url("away"), (17.0, 17.4), secrets=secrets, policy=policy)
    finally:
        done.set()
        watching.join()
    assert isinstance(origin, Origin)
    assert all("cookie-value" in headers["Cookie"] for headers in asked)
    assert all(headers["X-Key"] == "header-value" for headers in asked)
    elsewhere = [headers for headers in web.headers if headers["Host"].startswith("localhost")]
    assert elsewhere
    assert not any("X-Key" in headers or "Cookie" in headers for headers in elsewhere)
    assert any("ffmpeg" in line for line in lines)
    told = "\n".join([*lines, caplog.text, repr(origin)])
    for secret in ("cookie-value", "header-value", "argument-value", "signature"):
        assert secret not in told


def test_a_silent_site_times_out(web, rejection):
    web.silent = "page"
    assert rejection(web.url("page"), timeout_s=0.5) == (
        "timeout",
        "the server was silent for too long (timeout_s)",
    )


def test_a_site_that_takes_too_long_is_killed_with_all_it_started(
    web, rejection, monkeypatch, processes
):
    processes["cutter"].close()
    before = set(psutil.Process().children(recursive=True))  # of other tests
    monkeypatch.setattr(sites, "_PAGES", 0)
    monkeypatch.setattr(sites, "_START_S", 1.0)
    monkeypatch.setattr(sites, "_GRACE_S", 0.0)
    web.silent = "page"
    assert rejection(web.url("page"), (0.0, 0.01), timeout_s=60.0)[0] == "timeout"
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_stream_put_together_anew_is_not_cut_across(web, rejection):
    web.answers["ads.m3u8"] = _playlist("ts0.ts", "#EXT-X-DISCONTINUITY\nts1.ts", "ts2.ts")
    assert "anew" in rejection(web.url("ads.m3u8"), (5.0, 15.0))[1]


def test_a_playlist_says_where_its_segments_are():
    first, second = parse_playlist(
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n"
        '#EXT-X-MAP:URI="init.mp4",BYTERANGE="100@0"\n'
        '#EXT-X-KEY:METHOD=AES-128,URI="/key"\n'
        "#EXTINF:4.5,\n#EXT-X-BYTERANGE:50@100\nall.mp4\n"
        "#EXTINF:3,\n#EXT-X-BYTERANGE:70\nall.mp4\n#EXT-X-ENDLIST\n",
        "https://a.example/x/p.m3u8?sig=1",
    )
    key = Key("https://a.example/key", (7).to_bytes(16))
    assert first.media == Resource("https://a.example/x/all.mp4", 100, 149, key)
    assert (second.media.first, second.media.last, second.start_s) == (150, 219, 4.5)
    assert second.init == Resource("https://a.example/x/init.mp4", 0, 99)
    assert second.media.key.iv == (8).to_bytes(16)


@pytest.mark.parametrize(
    "line", ["#EXTINF:long,", "#EXT-X-BYTERANGE:x@1", '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xzz']
)
def test_a_playlist_that_is_not_understood_is_no_crash(line):
    with pytest.raises(ClipRejectedError, match="not understood"):
        parse_playlist(f"#EXTM3U\n{line}\na.ts\n#EXT-X-ENDLIST", "https://a.example/")
