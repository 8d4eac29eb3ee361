import subprocess

import av
import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg


def grey(value):
    return np.full((64, 64, 3), value, np.uint8)


@pytest.fixture
def video(tmp_path):
    """A clip whose brightness is its time, and whose sound is a click at 0.5 s."""

    def make(fps=25, seconds=2, start_s=0.0, name="clip.mp4"):
        waveform = np.zeros(seconds * 16_000, np.float32)
        waveform[8000:8080] = 0.9
        count = int(fps * seconds)
        path = tmp_path / name
        ffmpeg.encode(
            (grey(int(200 * k / count) + 20) for k in range(count)),
            path,
            fps_hz=fps,
            waveform=waveform,
        )
        return path

    return make


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50])
def test_the_clock_counts_25_hz_ticks_whatever_the_rate(video, fps):
    clock = decode.read_clock(video(fps))
    assert clock.fps_hz == pytest.approx(fps, rel=1e-3)
    assert clock.frames in (49, 50)
    assert clock.has_audio


def test_frames_come_with_their_time(video):
    path = video(30)
    clock = decode.read_clock(path)
    for time_s, frame in decode.frames(path, clock, max_fps_hz=100):
        assert frame.mean() == pytest.approx(20 + 100 * time_s, abs=6)


def test_above_the_limit_only_the_frames_nearest_to_the_ticks_come(video):
    path = video(50)
    clock = decode.read_clock(path)
    times_s = [time_s for time_s, _ in decode.frames(path, clock, max_fps_hz=30.5)]
    np.testing.assert_allclose(times_s, np.arange(len(times_s)) / 25, atol=1e-6)
    assert len(times_s) == 50


def test_the_sound_is_on_the_clock_of_the_video(video):
    path = video()
    clock = decode.read_clock(path)
    sound = decode.read_sound(path, clock)
    assert len(sound.waveform_N) == clock.frames * 640
    assert np.argmax(np.abs(sound.waveform_N)) == pytest.approx(8040, abs=120)
    assert sound.end_s - clock.duration_s == pytest.approx(0, abs=0.1)


def test_sound_that_starts_late_stays_late(video, tmp_path):
    source, late = video(), tmp_path / "late.mkv"
    with av.open(str(source)) as read, av.open(str(late), "w") as write:
        streams = {stream.index: write.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                shift = round(0.4 / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            write.mux(packet)
    sound = decode.read_sound(late, decode.read_clock(late))
    assert np.argmax(np.abs(sound.waveform_N)) == pytest.approx(8040 + 6400, abs=400)
    assert sound.start_s == pytest.approx(0.4, abs=0.08)  # less the coder's priming


def test_a_cut_keeps_picture_and_sound_together(video, tmp_path):
    target = tmp_path / "cut.mp4"
    ffmpeg.cut(video(), target, start_s=0.24, end_s=1.24)
    clock = decode.read_clock(target)
    assert clock.frames == 25
    first = next(frame for _, frame in decode.frames(target, clock, max_fps_hz=30))
    assert first.mean() == pytest.approx(20 + 100 * 0.24, abs=6)
    click = np.argmax(np.abs(decode.read_sound(target, clock).waveform_N))
    assert click == pytest.approx(8040 - 0.24 * 16_000, abs=200)


def test_frames_that_an_edit_list_hides_are_not_on_the_clock(video, tmp_path):
    """A part cut without re-encoding begins with frames that are decoded but never shown."""
    cut = tmp_path / "cut.mp4"
    command = [ffmpeg.executable(), "-v", "error", "-ss", "0.52", "-i", str(video()), "-c", "copy"]
    subprocess.run([*command, str(cut)], check=True)
    clock = decode.read_clock(cut)
    times_s = [time_s for time_s, _ in decode.frames(cut, clock, max_fps_hz=30)]
    assert times_s[0] == pytest.approx(0, abs=0.02)
    assert clock.frames == len(times_s) == 37
    click = np.argmax(np.abs(decode.read_sound(cut, clock).waveform_N))
    assert click < 640  # at 0.5 s of the source, just before the cut: at most its tail is heard


def test_the_first_frame_tells_the_size(video):
    path = video()
    picture = decode.read_picture(path, max_pixels=64 * 64)
    assert (picture.width_px, picture.height_px, picture.video_codec) == (64, 64, "h264")
    with pytest.raises(ClipRejectedError, match="64 x 64 px, at most 4095 px") as error:
        decode.read_picture(path, max_pixels=64 * 64 - 1)
    assert error.value.reason == "too_costly"


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(1000)])
def test_what_is_no_video_is_called_corrupt(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipRejectedError) as error:
        decode.read_clock(path)
    assert error.value.reason == "corrupt"
    assert str(tmp_path) not in str(error.value)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    ffmpeg.write_wav(path, np.zeros(1600, np.float32), 16_000)
    with pytest.raises(ClipRejectedError) as error:
        decode.read_clock(path)
    assert error.value.reason == "no_video"


def test_a_video_without_sound_says_so(tmp_path):
    path = tmp_path / "mute.mp4"
    ffmpeg.encode((grey(100) for _ in range(10)), path, fps_hz=25)
    with pytest.raises(ClipRejectedError) as error:
        decode.read_sound(path, decode.read_clock(path))
    assert error.value.reason == "no_audio"


@pytest.mark.parametrize(
    ("file", "portrait"), [("rotation_90_metadata.mp4", True), ("fps_60.mp4", False)]
)
def test_real_files_are_decoded_upright(real_clips, file, portrait):
    path = real_clips / "awkward" / file
    clock = decode.read_clock(path)
    frame = next(frame for _, frame in decode.frames(path, clock, max_fps_hz=30.5))
    assert (frame.shape[0] > frame.shape[1]) == portrait
