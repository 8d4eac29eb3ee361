import gzip
import http.server
import struct
import subprocess
import threading
from functools import partial

import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg
from mssync.media.probe import probe
from mssync.media.sandbox import Sandbox

MAX_PIXELS = 1_000_000

NOT_USABLE = {
    "audio_only.mp4": "no_video",
    "audio_with_cover_art.m4a": "no_video",
    "html_error_page.mp4": "not_a_video",
    "lfs_pointer.mp4": "not_a_video",
    "random_bytes.mp4": "not_a_video",
    "truncated_no_moov.mp4": "corrupt",
    "zero_bytes.mp4": "not_a_video",
}
FORMATS = {
    "audio_44k_pcm.mkv": "matroska,webm",
    "audio_mp3.avi": "avi",
    "container_mpg.mpg": "mpeg",
    "gif_no_audio.gif": "gif",
    "vp9_opus.webm": "matroska,webm",
}
SIZES = {
    "anamorphic_sar.mp4": (360, 512),
    "odd_size_yuv444.mp4": (251, 331),
    "rotation_90_metadata.mp4": (384, 512),
    "zoom_hand_2997fps.mp4": (1920, 1080),
}


def make(path, *options, source="color=red:s=64x48:r=25:d=1"):
    """A small video of ffmpeg's making."""
    command = [ffmpeg.executable(), "-y", "-v", "error", "-f", "lavfi", "-i", source, *options]
    subprocess.run([*command, str(path)], check=True)
    return path


def refusal(path, max_pixels=MAX_PIXELS):
    with pytest.raises(ClipRejectedError) as error:
        probe(path, max_pixels=max_pixels)
    assert str(path.parent) not in str(error.value)
    return error.value


def test_a_video_is_described(tmp_path):
    found = probe(make(tmp_path / "clip.mp4"), max_pixels=64 * 48)
    assert (found.width_px, found.height_px) == (64, 48)
    assert (found.format, found.video_codec) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264")
    assert (found.clock.frames, found.clock.fps_hz) == (25, 25)


@pytest.mark.parametrize(
    ("content", "reason", "kind"),
    [
        (b"", "not_a_video", "empty"),
        (b"\n<!DOCTYPE html>\n<title>404</title>", "not_a_video", "HTML"),
        (b'<?xml version="1.0"?>\n<!-- x --><html xmlns="x">', "not_a_video", "HTML"),
        ("\ufeff<html>Zugriff verweigert für".encode(), "not_a_video", "HTML"),
        ("<html>é".encode("latin-1"), "not_a_video", "HTML"),
        ("<html>".encode("utf-16"), "not_a_video", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_a_video", "git-lfs"),
        (b"#EXTM3U\nhttp://example.org/a.ts\n", "not_a_video", "playlist"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "not_a_video", "ffconcat"),
        (b'<?xml version="1.0"?><MPD xmlns="x">', "not_a_video", "DASH"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "not_a_video", "SDP"),
        (b'{"error": "expired"}', "not_a_video", "JSON"),
        (b"<Error><Code>AccessDenied</Code></Error>", "not_a_video", "XML"),
        ("Доступ закрыт".encode(), "not_a_video", "text"),
        (gzip.compress(b"<html>", mtime=0), "not_a_video", "gzip"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "not_a_video", "JPEG"),
        (b"PK\x03\x04\x14\0\0\0", "not_a_video", "archive"),
        (bytes(1000), "not_a_video", "no known kind"),
        (b"ID3\x04\0\0\0\0\0\0", "no_video", "sound"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "corrupt", "not a readable"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", "corrupt", "not a readable"),
    ],
)
def test_what_is_no_video_is_named(tmp_path, content, reason, kind):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    error = refusal(path)
    assert error.reason == reason
    assert kind in str(error)


def test_a_page_that_never_ends_is_named_at_once(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"<!-- -->" * 100_000)
    assert "XML" in str(refusal(path))


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    assert refusal(tmp_path / "clip.mp4").reason == "unreadable"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mkv", "png"), ("clip.gif", "gif"), ("clip.ts", "libx264"), ("clip.mp4", "libx264")],
)
def test_a_picture_that_is_too_large_is_not_decoded(tmp_path, name, codec):
    path = make(tmp_path / name, "-c:v", codec, source="color=red:s=1600x1200:r=1:d=1")
    for max_pixels in (100_000, 1600 * 1200 - 1):
        assert refusal(path, max_pixels).reason == "too_costly"
    assert probe(path, max_pixels=1600 * 1200).width_px == 1600


def gif_bomb(path, side=16_000):
    """A picture of 256 million pixels in 37 bytes."""
    colours = b"\0\0\0\xff\xff\xff"
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    path.write_bytes(b"GIF89a" + screen + colours + image + b"\x3b")
    return path


def test_a_bomb_is_too_costly(tmp_path):
    bomb = gif_bomb(tmp_path / "bomb.gif")
    assert probe(gif_bomb(tmp_path / "small.gif", side=100), max_pixels=10_000).width_px == 100
    error = refusal(bomb)
    assert error.reason == "too_costly"
    assert "the decoder refuses" in str(error)  # so it is not tried


def test_a_bomb_that_the_size_does_not_tell_ends_at_the_limit_of_memory(tmp_path):
    bomb = gif_bomb(tmp_path / "bomb.gif")
    with Sandbox(memory_bytes=1_000_000_000) as sandbox:
        with pytest.raises(ClipRejectedError, match="bytes of memory") as error:
            sandbox.call(partial(probe, max_pixels=10**9), bomb, wall_s=60)
        assert error.value.reason == "too_costly"
        clip = make(tmp_path / "clip.mp4")
        found = sandbox.call(partial(probe, max_pixels=MAX_PIXELS), clip, wall_s=60)
    assert found == probe(clip, max_pixels=MAX_PIXELS)


def test_a_video_of_which_nothing_can_be_decoded_is_corrupt(tmp_path):
    path = make(tmp_path / "clip.avi", "-c:v", "mpeg4")
    content = path.read_bytes()
    start, end = content.index(b"movi") + 12, content.index(b"idx1")
    path.write_bytes(content[:start] + bytes([0x55]) * (end - start) + content[end:])
    assert refusal(path).reason == "corrupt"


@pytest.fixture
def server():
    """A server on loopback and what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


PLAYLISTS = {
    "hls of a file": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
    "hls of a url": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "concat of a file": "ffconcat version 1.0\nfile secret.ts\nduration 1\n",
    "concat of a url": "ffconcat version 1.0\nfile {url}/a.ts\nduration 1\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}/a.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "mpd", ""])
def test_a_playlist_reads_no_file_and_asks_no_host(tmp_path, server, kind, suffix):
    url, asked = server
    secret = make(tmp_path / "secret.ts")
    path = tmp_path / f"clip.{suffix}"
    path.write_text(PLAYLISTS[kind].format(secret=secret, url=url))
    assert refusal(path).reason == "not_a_video"
    # nor do the tools themselves open it, where nobody has looked at it before
    with pytest.raises(ClipRejectedError, match="not a readable media file"):
        decode.read_clock(path)
    with pytest.raises(ClipRejectedError, match="not a readable media file"):
        ffmpeg.cut(path, tmp_path / "cut.mp4", start_s=0, end_s=None)
    assert asked == []


def run(path, options):
    """Whether ffmpeg itself, with these options, reads something from a path."""
    listed = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    command = [ffmpeg.executable(), "-nostdin", "-v", "error", "-xerror", *listed, "-i", str(path)]
    return not subprocess.run([*command, "-f", "null", "-"], stderr=subprocess.DEVNULL).returncode


def test_ffmpeg_itself_follows_playlists_but_not_with_our_options(tmp_path, server):
    url, asked = server
    make(tmp_path / "secret.ts")
    path = tmp_path / "clip.mp4"
    path.write_text(PLAYLISTS["concat of a file"])
    assert run(path, {})
    assert not run(path, ffmpeg.INPUT_OPTIONS)
    path.write_text(PLAYLISTS["concat of a url"].format(url=url))
    open_to_all = {"safe": 0, "protocol_whitelist": "file,http,tcp"}
    assert not run(path, open_to_all)
    assert asked == ["/a.ts"]
    for name in ("protocol_whitelist", "format_whitelist"):  # each of them alone
        assert not run(path, {"safe": 0, name: ffmpeg.INPUT_OPTIONS[name]})
    assert asked == ["/a.ts"]


def test_every_awkward_file_is_what_it_is(real_clips):
    found = {}
    for path in sorted((real_clips / "awkward").iterdir()):
        try:
            found[path.name] = probe(path, max_pixels=36_000_000)
        except ClipRejectedError as error:
            found[path.name] = error.reason
    refused = {name: why for name, why in found.items() if isinstance(why, str)}
    assert refused == NOT_USABLE
    assert len(found) > 60
    assert {name: found[name].format for name in FORMATS} == FORMATS
    assert {name: (found[name].width_px, found[name].height_px) for name in SIZES} == SIZES
    for name, result in found.items():
        if name not in refused and name not in FORMATS:
            assert result.format == "mov,mp4,m4a,3gp,3g2,mj2" or name.endswith("webm")
            assert result.clock.frames >= 7
