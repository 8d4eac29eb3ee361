import os
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from mssync.errors import ClipRejectedError, ToolError
from mssync.media import decode, ffmpeg
from mssync.media.ffmpeg import Crop
from mssync.media.sound import read_sound

RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)


def quadrants(width=128, height=96):
    """Red and green above blue and white."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    ffmpeg.encode((quadrants() for _ in range(25)), path, fps_hz=25)
    return path


@pytest.fixture(scope="module")
def turned(video):
    """The same, marked to be shown turned by a quarter, so 96 wide and 128 high."""
    path = video.with_name("turned.mp4")
    rotated = ["-display_rotation", "90", "-i", str(video), "-c", "copy", str(path)]
    subprocess.run([ffmpeg.executable(), "-v", "error", *rotated], check=True)
    return path


def first_frame(path):
    clock = decode.read_clock(path)
    return next(decode.frames(path, clock, max_fps_hz=100, max_side_px=1000)).picture_HWC


def cropped(source, tmp_path, crop):
    target = tmp_path / "cut.mp4"
    ffmpeg.cut(source, target, start_s=0, end_s=0.4, crop=crop)
    return first_frame(target)


@pytest.mark.parametrize(
    ("crop", "colour"),
    [
        (Crop(0, 0, 0.5, 0.5), RED),
        (Crop(0.5, 0, 1, 0.5), GREEN),
        (Crop(0, 48, 64, 96, fractions=False), BLUE),
        (Crop(64, 48, 128, 96, height_px=96, fractions=False), WHITE),
        (Crop(640, 0, 1280, 480, height_px=960, fractions=False), GREEN),
        (Crop(32, 24, 64, 48, height_px=48, fractions=False), WHITE),
    ],
)
def test_a_crop_shows_its_part_of_the_picture(video, tmp_path, crop, colour):
    frame = cropped(video, tmp_path, crop)
    assert frame.shape == (48, 64, 3)
    np.testing.assert_allclose(frame[4:-4, 4:-4].mean((0, 1)), colour, atol=12)


def test_a_crop_counts_in_the_picture_as_it_is_displayed(turned, tmp_path):
    whole = first_frame(turned)
    assert whole.shape == (128, 96, 3)
    for crop in (Crop(0.5, 0.5, 1, 1), Crop(480, 640, 960, 1280, 1280, fractions=False)):
        frame = cropped(turned, tmp_path, crop)
        assert frame.shape == (64, 48, 3)
        np.testing.assert_allclose(
            frame[4:-4, 4:-4].mean((0, 1)), whole[70:-6, 54:-6].mean((0, 1)), atol=12
        )


def test_a_crop_of_a_real_rotated_video_is_upright(real_clips, tmp_path):
    source = real_clips / "awkward" / "rotation_90_metadata.mp4"
    frame = cropped(source, tmp_path, Crop(96, 128, 288, 384, fractions=False))
    whole = first_frame(source)
    assert whole.shape == (512, 384, 3)
    np.testing.assert_allclose(frame, whole[128:384, 96:288], atol=60)
    assert np.abs(frame.astype(int) - whole[128:384, 96:288]).mean() < 4


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        (Crop(0, 0, 1, 1), (0, 0, 250, 330)),
        (Crop(-1, -1, 2, 2), (0, 0, 250, 330)),
        (Crop(0.1, 0.1, 0.5, 0.5), (24, 32, 102, 134)),
        (Crop(21, 33, 61, 99, fractions=False), (20, 32, 42, 68)),
        (Crop(20.4, 31.6, 60.4, 99.6, fractions=False), (20, 32, 40, 68)),
        (Crop(200, 0, 400, 100, fractions=False), (200, 0, 50, 100)),
    ],
)
def test_the_box_is_even_and_within_the_picture(crop, box):
    assert crop.box_px(251, 331) == box


@pytest.mark.parametrize(
    "crop",
    [
        Crop(1, 0, 2, 1),
        Crop(-1, 0, 0, 1),
        Crop(0.5, 0, 0.4, 1),
        Crop(0, 0, 0.1, 1),
        Crop(0, 0, float("nan"), 1),
        Crop(0, 0, float("inf"), 1),
        Crop(0, 500, 100, 600, fractions=False),
        Crop(0, 0, 100, 100, height_px=1000, fractions=False),
        Crop(1e300, 0, 1e308, 1, height_px=1, fractions=False),
    ],
)
def test_a_crop_that_leaves_nothing_is_refused(video, tmp_path, crop):
    with pytest.raises(ClipRejectedError, match="the crop") as error:
        cropped(video, tmp_path, crop)
    assert error.value.reason == "bad_crop"
    assert not (tmp_path / "cut.mp4").exists()


def test_an_odd_picture_is_cropped_to_an_even_one(tmp_path):
    source = tmp_path / "odd.mkv"
    make = ["-f", "lavfi", "-i", "testsrc=s=51x35:d=1", "-pix_fmt", "yuv444p", str(source)]
    subprocess.run([ffmpeg.executable(), "-v", "error", *make], check=True)
    assert cropped(source, tmp_path, None).shape == (34, 50, 3)
    assert cropped(source, tmp_path, Crop(0, 0, 0.7, 0.5)).shape == (18, 36, 3)


def test_a_cut_takes_the_streams_that_are_read_elsewhere(tmp_path):
    """Not the largest picture and the most channels, as ffmpeg chooses."""
    source, target = tmp_path / "two.mkv", tmp_path / "cut.mp4"
    inputs = []
    for media in ("color=red:s=64x48:d=1", "color=blue:s=128x96:d=1",
                  "anullsrc=cl=mono:d=1", "sine=d=1,aformat=channel_layouts=stereo"):  # fmt: skip
        inputs += ["-f", "lavfi", "-t", "1", "-i", media]
    streams = ["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-disposition", "0"]
    command = [
        ffmpeg.executable(),
        "-v",
        "error",
        *inputs,
        *streams,
        "-default_mode",
        "passthrough",
    ]
    subprocess.run([*command, str(source)], check=True)
    ffmpeg.cut(source, target, start_s=0, end_s=None)
    assert first_frame(target).shape == (48, 64, 3)
    sound = read_sound(target, decode.read_clock(target))
    assert np.abs(sound.waveform_N).max() < 0.01
    with av.open(str(target)) as container:
        assert len(container.streams) == 2


def test_equal_cuts_are_equal_bytes_whatever_the_number_of_cores(video, tmp_path):
    cores = os.sched_getaffinity(0)
    written = []
    try:
        for allowed in (cores, {min(cores)}):
            os.sched_setaffinity(0, allowed)
            target = tmp_path / f"{len(allowed)}.mp4"
            ffmpeg.cut(video, target, start_s=0.2, end_s=0.8, crop=Crop(0, 0, 0.5, 1))
            written.append(target.read_bytes())
    finally:
        os.sched_setaffinity(0, cores)
    assert written[0] == written[1]


def test_a_full_disk_is_told_from_a_broken_source(video):
    with pytest.raises(ClipRejectedError) as error:
        ffmpeg.cut(video, Path("/dev/full"), start_s=0, end_s=None)
    assert error.value.reason == "disk"


def test_a_cut_that_grows_too_large_is_too_costly(tmp_path):
    source, target = tmp_path / "noise.mp4", tmp_path / "cut.mp4"
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(150))
    ffmpeg.encode(noise, source, fps_hz=25)
    with pytest.raises(ClipRejectedError, match="more than 50000 bytes") as error:
        ffmpeg.cut(source, target, start_s=0, end_s=None, max_bytes=50_000)
    assert error.value.reason == "too_costly"
    stopped_bytes = target.stat().st_size
    ffmpeg.cut(source, target, start_s=0, end_s=None, max_bytes=50_000_000)
    assert stopped_bytes < target.stat().st_size / 2


def test_a_cut_decodes_no_picture_that_is_too_large(video, tmp_path):
    with pytest.raises(ClipRejectedError, match="128 x 96 px, at most 1000 px") as error:
        ffmpeg.cut(video, tmp_path / "cut.mp4", start_s=0, end_s=None, max_pixels=1000)
    assert error.value.reason == "too_costly"
    ffmpeg.cut(video, tmp_path / "cut.mp4", start_s=0, end_s=None, max_pixels=128 * 96)


@pytest.mark.parametrize("name", ["-dash.mp4", "a:b.mp4", "100%d 'é'.mp4", "concat:x|y.mp4"])
def test_a_name_is_a_name(video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    source = video.parent.joinpath(name)
    source.write_bytes(video.read_bytes())
    source.rename(tmp_path / name)
    path = (tmp_path / name).relative_to(tmp_path)
    assert decode.read_clock(path).frames == 25
    ffmpeg.cut(path, path.with_suffix(".cut"), start_s=0, end_s=None)
    assert decode.read_clock(path.with_suffix(".cut")).frames == 25


def test_a_span_without_a_frame_is_an_empty_cut(video, tmp_path):
    with pytest.raises(ClipRejectedError, match="no frame") as error:
        ffmpeg.cut(video, tmp_path / "cut.mp4", start_s=99, end_s=None)
    assert error.value.reason == "empty_cut"


def test_a_span_after_the_sound_has_ended_is_cut(tmp_path):
    source, target = tmp_path / "clip.mp4", tmp_path / "cut.mp4"
    sound = np.zeros(8000, np.float32)
    ffmpeg.encode((quadrants() for _ in range(50)), source, fps_hz=25, waveform=sound)
    ffmpeg.cut(source, target, start_s=1, end_s=None)
    assert decode.read_clock(target).frames == 25


def test_the_words_of_ffmpeg_are_the_same_in_every_run(tmp_path, video):
    words = set()
    for folder in ("a", "b"):
        with pytest.raises(ToolError) as error:
            ffmpeg.cut(video, tmp_path / folder / "cut.mp4", start_s=0, end_s=None)
        words.add(str(error.value))
        with pytest.raises(ToolError) as error:
            ffmpeg.cut(video, Path("/proc/version"), start_s=0, end_s=None)
        words.add(str(error.value))
    assert words == {
        "ffmpeg: Error opening output the cut: No such file or directory",
        "ffmpeg: Could not write header (incorrect codec parameters ?): Input/output error",
    }
