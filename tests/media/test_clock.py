"""Picture and sound of files whose truth is known: a flash and a click at the same moment."""

import subprocess
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg
from mssync.media.sound import read_sound
from mssync.timing import SAMPLE_RATE_HZ, frame_time_s

HALF_A_FRAME_S = 0.02
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12")
AAC = ("-c:a", "aac")
NTSC = Fraction(1000, 1001)


@dataclass(frozen=True)
class Case:
    """A file: its frame rate, when its streams start, and what ffmpeg makes of it."""

    name: str
    fps: Fraction = Fraction(25)
    options: tuple[str, ...] = (*H264, *AAC)
    filters: str = "null"
    video_late_s: float = 0.0
    audio_late_s: float = 0.0
    rate_hz: int = 44_100
    layout: str = "mono"


def make(path, case, seconds=2):
    """A flash of one frame, and a click that begins with it; returns when, in the file's time."""
    flash = round(case.fps)
    flash_s = float(flash / case.fps)
    moment_s = flash_s + case.video_late_s
    click_s = moment_s - case.audio_late_s
    picture = (
        f"color=black:s=64x48:r={case.fps}:d={seconds},"
        f"drawbox=c=white:t=fill:enable='eq(n,{flash})',{case.filters}"
    )
    click = f"0.9*between(t,{click_s},{click_s + 0.005})"
    channels = "|".join([click] * {"mono": 1, "stereo": 2, "5.1": 6}[case.layout])
    sound = f"aevalsrc='{channels}':s={case.rate_hz}:c={case.layout}:d={seconds}"
    inputs = []
    for late_s, source in ((case.video_late_s, picture), (case.audio_late_s, sound)):
        inputs += ["-itsoffset", str(late_s), "-f", "lavfi", "-i", source]
    run(*inputs, "-map", "0", "-map", "1", "-fps_mode", "passthrough", *case.options, path)
    return moment_s


def run(*options):
    command = [ffmpeg.executable(), "-y", "-v", "error", *map(str, options)]
    subprocess.run(command, check=True)


def flash_s(path, clock):
    """The middle of the flash, of brightness put on the 25 Hz clock as landmarks are."""
    seen = [
        (frame.time_s, frame.picture_HWC.mean())
        for frame in decode.frames(path, clock, max_fps_hz=30.5, max_side_px=640)
    ]
    times_s, bright = np.array(seen).T
    ticks_s = np.array([frame_time_s(frame) for frame in range(clock.frames)])
    bright_T = np.interp(ticks_s, times_s, bright) - np.median(bright)
    assert bright_T.max() > 50
    return (ticks_s * bright_T).sum() / bright_T.sum()


def click_s(path, clock):
    """Where the click begins in the waveform."""
    loud = np.abs(read_sound(path, clock).waveform_N)
    return np.argmax(loud > loud.max() / 2) / SAMPLE_RATE_HZ


def residual_s(path):
    clock = decode.read_clock(path)
    return click_s(path, clock) - flash_s(path, clock)


CASES = [
    *(
        Case(f"{float(fps):.2f} fps.mp4", fps=fps)
        for fps in (
            Fraction(12),
            Fraction(15),
            24 * NTSC,
            Fraction(24),
            Fraction(25),
            30 * NTSC,
            Fraction(30),
            Fraction(50),
            60 * NTSC,
        )
    ),
    Case("variable rate.mp4", filters="select='eq(n,25)+not(eq(mod(n,3),1))'"),
    Case("picture late.mp4", video_late_s=0.32),
    Case("picture late.mkv", video_late_s=0.32),
    Case("sound late.mp4", audio_late_s=0.3),
    Case("sound late.mkv", audio_late_s=0.3),
    Case("sound late.ts", audio_late_s=0.3),
    Case("stream.ts"),
    Case("wrapped.ts", options=(*H264, *AAC, "-output_ts_offset", "95441.8")),
    Case("stream.mpg", options=("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2")),
    Case("opus.webm", options=("-c:v", "libvpx", "-c:a", "libopus"), rate_hz=48_000),
    Case("vorbis.webm", options=("-c:v", "libvpx", "-c:a", "libvorbis")),
    Case("mp3.avi", options=("-c:v", "mpeg4", "-c:a", "libmp3lame")),
    Case("b-frames.avi", options=("-c:v", "mpeg4", "-bf", "2", "-c:a", "pcm_s16le")),
    Case("picture late.avi", options=("-c:v", "mpeg4", "-c:a", "pcm_s16le"), video_late_s=0.32),
    Case("h264.avi", options=("-c:v", "libx264", "-bf", "3", "-c:a", "pcm_s16le")),
    Case("wmv.asf", options=("-c:v", "wmv2", "-c:a", "wmav2")),
    Case("flash.flv", options=("-c:v", "flv1", "-c:a", "libmp3lame")),
    Case("pcm.mkv", options=(*H264, "-c:a", "pcm_s24le")),
    Case("flac.mkv", options=(*H264, "-c:a", "flac")),
    Case("mpeg4.mov", options=("-c:v", "mpeg4", "-bf", "2", "-c:a", "pcm_s16be")),
    Case("8 kHz.mkv", options=(*H264, "-c:a", "pcm_u8"), rate_hz=8_000),
    Case("48 kHz.mp4", rate_hz=48_000, layout="stereo"),
    Case("five channels.mp4", rate_hz=48_000, layout="5.1"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_flash_and_a_click_are_at_the_same_moment(tmp_path, case):
    path = tmp_path / case.name
    make(path, case)
    assert abs(residual_s(path)) <= HALF_A_FRAME_S


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.ts"])
@pytest.mark.parametrize("fps", [12, 25, 30])
@pytest.mark.parametrize("start_s", [0.52, 0.54, 0.6])
def test_a_part_cut_without_encoding_again_keeps_them_together(tmp_path, name, fps, start_s):
    """An edit list may hide frames of the picture at its start, and begin amid one of them."""
    source, cut = tmp_path / "source.mp4", tmp_path / name
    make(source, Case("source.mp4", fps=Fraction(fps)))
    run("-ss", start_s, "-i", source, "-c", "copy", cut)
    assert abs(residual_s(cut)) <= 0.01
    clock = decode.read_clock(cut)
    seen = list(decode.frames(cut, clock, max_fps_hz=30.5, max_side_px=64))
    assert len(seen) == clock.source_frames
    assert seen[0].time_s == 0


def packets_of(path):
    """The packets of an MPEG transport stream, 188 bytes each."""
    content = path.read_bytes()
    return [content[start : start + 188] for start in range(0, len(content), 188)]


def test_a_stream_that_begins_between_key_frames_starts_at_the_first(tmp_path):
    source, late = tmp_path / "source.ts", tmp_path / "late.ts"
    make(source, Case("source.ts"))
    late.write_bytes(b"".join(packets_of(source)[20:]))
    clock, whole = decode.read_clock(late), decode.read_clock(source)
    assert clock.start_s - whole.start_s == pytest.approx(12 / 25, abs=1e-3)
    assert next(decode.frames(late, clock, max_fps_hz=30.5, max_side_px=64)).time_s == 0
    assert abs(residual_s(late)) <= HALF_A_FRAME_S


def test_what_was_lost_on_the_way_moves_nothing(tmp_path):
    source, holed = tmp_path / "source.ts", tmp_path / "holed.ts"
    make(source, Case("source.ts"))
    packets = packets_of(source)
    holed.write_bytes(b"".join(packets[: len(packets) // 4] + packets[len(packets) // 3 :]))
    assert decode.read_clock(holed).source_frames < 50
    assert abs(residual_s(holed)) <= HALF_A_FRAME_S


@pytest.mark.parametrize(("later_s", "message"), [(0, "go back by 2"), (100, "no picture for 9")])
def test_recordings_that_were_joined_are_refused(tmp_path, later_s, message):
    parts = []
    for offset_s in (0, later_s):
        options = (*H264, *AAC, "-output_ts_offset", str(offset_s))
        make(tmp_path / "part.ts", Case("part.ts", options=options))
        parts.append((tmp_path / "part.ts").read_bytes())
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(parts))
    with pytest.raises(ClipRejectedError, match=message) as error:
        decode.read_clock(path)
    assert error.value.reason == "bad_timestamps"


def test_a_video_of_more_than_six_hours_is_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    picture = "color=red:s=16x16:r=1/50:d=25000"
    run("-f", "lavfi", "-i", picture, "-c:v", "mpeg4", path)
    with pytest.raises(ClipRejectedError, match="the timestamps span") as error:
        decode.read_clock(path)
    assert error.value.reason == "bad_timestamps"


@pytest.mark.parametrize(("coder", "b_frames"), [("mpeg4", 0), ("mpeg4", 2), ("libx264", 3)])
def test_the_frames_of_avi_come_one_by_one(tmp_path, coder, b_frames):
    """AVI does not say when frames are shown: the first is shown at the start."""
    path = tmp_path / "clip.avi"
    picture = "color=black:s=64x48:r=25:d=2,geq=lum='20+4*N':cb=128:cr=128"
    run("-f", "lavfi", "-i", picture, "-c:v", coder, "-bf", b_frames, path)
    clock = decode.read_clock(path)
    assert (clock.start_s, clock.frames, clock.source_frames) == (0, 50, 50)
    for threads in (0, 1):
        seen = list(decode.frames(path, clock, max_fps_hz=30.5, max_side_px=64, threads=threads))
        np.testing.assert_allclose([frame.time_s for frame in seen], np.arange(50) / 25, atol=1e-6)
        bright = [frame.picture_HWC.mean() for frame in seen]
        assert (np.diff(bright) > 2).all()


@pytest.mark.parametrize(("coder", "b_frames"), [("mpeg4", 2), ("libx264", 3)])
def test_an_avi_that_does_not_say_when_its_frames_are_shown_is_refused(tmp_path, coder, b_frames):
    path = tmp_path / "clip.avi"
    options = ("-c:v", coder, "-bf", str(b_frames), "-c:a", "pcm_s16le")
    make(path, Case("clip.avi", video_late_s=0.32, options=options))
    with pytest.raises(ClipRejectedError, match="another order") as error:
        decode.read_clock(path)
    assert error.value.reason == "bad_timestamps"


@pytest.mark.parametrize(
    "file", ["vfr_real.mp4", "fps_5.mp4", "crowd_outdoor_speech.mp4", "tiny_face_stage_es.webm"]
)
def test_frames_of_real_files_are_on_the_clock(real_clips, file):
    path = real_clips / "awkward" / file
    clock = decode.read_clock(path)
    frames = decode.frames(path, clock, max_fps_hz=30.5, max_side_px=64, threads=1)
    times_s = np.array([frame.time_s for frame in frames])
    assert len(times_s) == clock.source_frames
    assert times_s[0] == 0
    assert (np.diff(times_s) > 0).all()
    assert 0 <= times_s[-1] - frame_time_s(clock.frames - 1) < 0.04
