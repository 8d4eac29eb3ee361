import gc
import subprocess

import av
import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg


def grey(value):
    return np.full((64, 64, 3), value, np.uint8)


def run(*options):
    command = [ffmpeg.executable(), "-y", "-v", "error", *map(str, options)]
    subprocess.run(command, check=True)


def make(path, source, *options):
    """A video of one of ffmpeg's own sources, without loss where nothing else is said."""
    lossless = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")
    run("-f", "lavfi", "-i", source, *(options or lossless), path)
    return path


def frames(path, max_side_px=1000, max_fps_hz=100, **options):
    clock = decode.read_clock(path)
    seen = decode.frames(path, clock, max_fps_hz=max_fps_hz, max_side_px=max_side_px, **options)
    return list(seen)


def first(path, max_side_px=1000):
    return frames(path, max_side_px)[0]


@pytest.fixture
def video(tmp_path):
    """A clip whose brightness is its time."""

    def make(fps=25, seconds=2, name="clip.mp4"):
        count = int(fps * seconds)
        path = tmp_path / name
        pictures = (grey(int(200 * k / count) + 20) for k in range(count))
        ffmpeg.encode(pictures, path, fps_hz=fps, waveform=np.zeros(seconds * 16_000, np.float32))
        return path

    return make


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50])
def test_the_clock_counts_25_hz_ticks_whatever_the_rate(video, fps):
    clock = decode.read_clock(video(fps))
    assert clock.fps_hz == pytest.approx(fps, rel=1e-3)
    assert clock.frames in (49, 50)
    assert clock.has_audio


@pytest.mark.parametrize("threads", [0, 1])
def test_frames_come_with_their_time(video, threads):
    seen = frames(video(30), threads=threads)
    assert len(seen) == 60
    for frame in seen:
        assert frame.picture_HWC.mean() == pytest.approx(20 + 100 * frame.time_s, abs=6)


def test_above_the_limit_only_the_frames_nearest_to_the_ticks_come(video):
    times_s = [frame.time_s for frame in frames(video(50), max_fps_hz=30.5)]
    np.testing.assert_allclose(times_s, np.arange(len(times_s)) / 25, atol=1e-6)
    assert len(times_s) == 50


def test_a_single_frame_is_a_clip_of_one_tick(tmp_path):
    path = make(tmp_path / "clip.mp4", "color=red:s=64x48:d=0.04")
    clock = decode.read_clock(path)
    assert (clock.frames, clock.source_frames, clock.fps_hz) == (1, 1, 0)
    assert [frame.time_s for frame in frames(path)] == [0]


def test_a_frame_is_an_array_that_may_be_written_to(video):
    picture = first(video()).picture_HWC
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.flags.writeable


def test_no_frame_stays_in_memory(video):
    path = video()
    gc.collect()
    gc.disable()
    try:
        frames(path)
        left = sum(type(each) is av.VideoFrame for each in gc.get_objects())
    finally:
        gc.enable()
    assert left < 5


@pytest.fixture(scope="module")
def quadrants(tmp_path_factory):
    """Red and green above blue and red."""
    boxes = "drawbox=x=32:w=32:h=24:c=lime:t=fill,drawbox=y=24:w=32:h=24:c=blue:t=fill"
    return make(tmp_path_factory.mktemp("picture") / "clip.mp4", f"color=red:s=64x48:d=0.2,{boxes}")


TURNS = [
    *(("-display_rotation", degrees) for degrees in (90, 180, 270)),
    ("-display_hflip",),
    ("-display_vflip",),
    ("-display_rotation", 90, "-display_hflip"),
    ("-display_rotation", 270, "-display_hflip"),
]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_picture_is_turned_as_ffmpeg_turns_it(quadrants, tmp_path, turn):
    path, shown = tmp_path / "turned.mp4", tmp_path / "shown.mkv"
    run(*turn, "-i", quadrants, "-c", "copy", path)
    run("-i", path, "-c:v", "ffv1", "-pix_fmt", "bgr0", shown)
    picture = first(path).picture_HWC
    np.testing.assert_allclose(picture, first(shown).picture_HWC, atol=12)
    assert picture.flags.c_contiguous
    size = decode.read_picture(path)
    assert (size.height_px, size.width_px) == picture.shape[:2]


@pytest.mark.parametrize(("degrees", "turned"), [(30, 0), (-40, 0), (50, 90), (130, 90)])
def test_any_other_angle_is_rounded_to_a_quarter_turn(quadrants, tmp_path, degrees, turned):
    pictures = []
    for angle in (degrees, turned):
        path = tmp_path / f"{angle}.mp4"
        run("-display_rotation", angle, "-i", quadrants, "-c", "copy", path)
        pictures.append(first(path).picture_HWC)
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize(
    ("source", "aspect", "max_side_px", "shape", "scale"),
    [
        ((64, 48), "1", 1000, (48, 64), 1),
        ((64, 48), "1", 64, (48, 64), 1),
        ((640, 480), "1", 160, (120, 160), 4),
        ((480, 640), "1", 160, (160, 120), 4),
        ((64, 48), "2", 1000, (48, 128), 1),
        ((64, 48), "1/2", 1000, (48, 32), 1),
        ((64, 48), "2", 64, (24, 64), 2),
        ((720, 576), "64/45", 512, (288, 512), 2),
        ((64, 48), "12", 1000, (48, 64), 1),
        ((64, 48), "1/12", 1000, (48, 64), 1),
    ],
)
def test_pixels_are_square_and_not_too_many(tmp_path, source, aspect, max_side_px, shape, scale):
    width, height = source
    box = f"drawbox=x={width // 4}:y={height // 2}:w={width // 8}:h={height // 8}:c=white:t=fill"
    filters = f"{box},setsar={aspect}"
    path = make(tmp_path / "clip.mkv", f"color=black:s={width}x{height}:d=0.1,{filters}")
    frame = first(path, max_side_px)
    assert frame.picture_HWC.shape[:2] == shape
    assert frame.scale == scale

    white_HW = frame.picture_HWC.mean(axis=-1)
    middle = [(white_HW.sum(axis) @ np.arange(0.5, white_HW.shape[1 - axis])) for axis in (0, 1)]
    found = np.array(middle) / white_HW.sum() * frame.scale
    across = shape[1] * scale / width
    np.testing.assert_allclose(found, (width * 5 / 16 * across, height * 9 / 16), atol=0.5)


def test_an_upright_picture_has_square_pixels_too(tmp_path):
    path, turned = tmp_path / "clip.mp4", tmp_path / "turned.mp4"
    make(path, "color=red:s=64x48:d=0.1,setsar=2")
    run("-display_rotation", 90, "-i", path, "-c", "copy", turned)
    frame = first(turned, max_side_px=64)
    assert (frame.picture_HWC.shape[:2], frame.scale) == ((64, 24), 2)


INTERLACED = ("-c:v", "libx264", "-qp", "10", "-flags", "+ildct+ilme")
BAR = "color=black:s=160x120:r=50:d=1[a];color=white:s=20x120:r=50:d=1[b];[a][b]overlay=x=n*2"


def combing(picture):
    """How much rows differ from the mean of those above and below."""
    rows = picture.mean(axis=-1)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


def middle(picture):
    """Where, from left to right, the bar is."""
    bright = picture.mean((0, 2))
    return bright @ np.arange(len(bright)) / bright.sum()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv"])
def test_interlaced_frames_lose_their_combs_and_keep_their_times(tmp_path, name):
    path = make(tmp_path / name, f"{BAR},interlace=lowpass=off", *INTERLACED)
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    seen = frames(path)
    assert all(frame.interlaced for frame in seen)
    assert len(seen) == len(stored) == 25
    np.testing.assert_allclose([frame.time_s for frame in seen], np.arange(25) / 25, atol=1e-4)
    combs = np.median([combing(picture) for picture in stored])
    assert combs > 5
    assert np.median([combing(frame.picture_HWC) for frame in seen]) < combs / 4
    # A frame shows the first of its two fields: what was seen at its time.
    found = [middle(frame.picture_HWC) for frame in seen[2:20]]
    np.testing.assert_allclose(found, [middle(picture[::2]) for picture in stored[2:20]], atol=0.5)
    assert middle(stored[2][1::2]) - found[0] > 1.5


def test_progressive_frames_are_not_touched(tmp_path):
    path = make(tmp_path / "clip.mp4", "testsrc2=s=160x120:r=25:d=0.4", *INTERLACED[:4])
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    seen = frames(path)
    assert not any(frame.interlaced for frame in seen)
    np.testing.assert_array_equal([frame.picture_HWC for frame in seen], stored)


def joined(tmp_path, name, *sources):
    """Recordings of a second each, one after the other in one stream."""
    content = b""
    for second, source in enumerate(sources):
        later = ("-output_ts_offset", second, "-muxdelay", 0, "-x264opts", "bframes=0")
        part = make(tmp_path / "part.ts", source, "-c:v", "libx264", *later)
        content += part.read_bytes()
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("threads", [0, 1])
def test_a_picture_that_changes_its_size_is_shown_in_that_of_the_first(tmp_path, threads):
    path = joined(tmp_path, "clip.ts", "color=red:s=64x48:d=1", "color=red:s=320x240:d=1")
    seen = frames(path, max_side_px=64, threads=threads)
    found = {(frame.picture_HWC.shape[:2], frame.scale) for frame in seen}
    assert found == {((48, 64), 1)}
    assert len(seen) == 50
    for limit in (320 * 240 - 1, 64 * 48):
        with pytest.raises(ClipRejectedError) as error:
            frames(path, max_pixels=limit, threads=threads)
        assert error.value.reason == "too_costly"


def test_interlaced_pictures_may_change_their_size(tmp_path):
    path = tmp_path / "clip.ts"
    parts = []
    for second, size in enumerate(("64x48", "160x120")):
        source = f"testsrc2=s={size}:r=50:d=1,interlace"
        options = (*INTERLACED, "-bf", "0", "-output_ts_offset", second, "-muxdelay", "0")
        parts.append(make(tmp_path / "part.ts", source, *options).read_bytes())
    path.write_bytes(b"".join(parts))
    seen = frames(path, threads=1)
    assert [frame.picture_HWC.shape[1] for frame in seen] == [64] * 50
    np.testing.assert_allclose(np.diff([frame.time_s for frame in seen]), 0.04, atol=1e-4)


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


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("rotation_90_metadata.mp4", (512, 384)),
        ("anamorphic_sar.mp4", (512, 512)),
        ("odd_size_yuv444.mp4", (331, 331)),
        ("zoom_hand_2997fps.mp4", (562, 1000)),
    ],
)
def test_real_files_are_upright_and_of_square_pixels(real_clips, file, shape):
    path = real_clips / "awkward" / file
    clock = decode.read_clock(path)
    frame = next(decode.frames(path, clock, max_fps_hz=30.5, max_side_px=1000, threads=1))
    assert frame.picture_HWC.shape[:2] == shape
