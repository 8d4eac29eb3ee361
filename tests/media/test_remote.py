import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg, remote
from mssync.media.remote import remote_frames
from mssync.media.sandbox import Sandbox

LIMITS = {"max_fps_hz": 30.5, "max_side_px": 128, "max_pixels": 1_000_000}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    picture = "testsrc2=size=320x180:rate=25:duration=4"
    command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", picture, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def sandbox():
    with Sandbox(memory_bytes=2_000_000_000) as sandbox:
        yield sandbox


def read(sandbox, path, *, wall_s=60.0, window=32, **limits):
    clock = decode.read_clock(path)
    return remote_frames(sandbox, path, clock, wall_s=wall_s, window=window, **(LIMITS | limits))


@pytest.mark.parametrize("window", [1, 7, 25, 32, 1000])
def test_the_frames_are_those_that_are_decoded_here(sandbox, video, window):
    here = list(decode.frames(video, decode.read_clock(video), **LIMITS))
    there = list(read(sandbox, video, window=window))
    assert len(there) == 100
    for one, other in zip(here, there, strict=True):
        assert (one.time_s, one.scale, one.interlaced) == (
            other.time_s,
            other.scale,
            other.interlaced,
        )
        np.testing.assert_array_equal(one.picture_HWC, other.picture_HWC)
    assert held(sandbox) == []


def test_frames_outlive_the_child_and_may_be_written_to(sandbox, video):
    frames = list(read(sandbox, video))
    sandbox.close()
    first = frames[0].picture_HWC
    copy = first.copy()
    first[:] = 0
    assert copy.any()
    assert not first.any()
    assert frames[-1].picture_HWC.any()


def test_windows_of_large_frames_are_short(sandbox, video, monkeypatch):
    monkeypatch.setattr(remote, "_WINDOW_BYTES", 3 * 320 * 180 * 3)
    frames = list(read(sandbox, video, max_side_px=320, window=1000))
    assert len(frames) == 100
    assert len({id(frame.picture_HWC.base) for frame in frames}) == 34


def test_a_reading_that_is_given_up_leaves_the_sandbox_free(sandbox, video):
    frames = read(sandbox, video, window=5)
    next(frames)
    frames.close()
    assert held(sandbox) == []
    assert len(list(read(sandbox, video))) == 100


def test_two_readings_one_after_the_other_do_not_mix(sandbox, video):
    child = sandbox.call(os.getpid, wall_s=30)
    for side in (128, 64):
        frames = list(read(sandbox, video, max_side_px=side))
        assert {max(frame.picture_HWC.shape) for frame in frames} == {side}
    assert sandbox.call(os.getpid, wall_s=30) == child


def test_what_the_decoder_says_is_handed_on(sandbox, video):
    clock = decode.read_clock(video)
    with pytest.raises(ClipRejectedError) as here:
        list(decode.frames(video, clock, **(LIMITS | {"max_pixels": 20_000})))
    with pytest.raises(ClipRejectedError) as there:
        list(read(sandbox, video, max_pixels=20_000))
    assert (there.value.reason, str(there.value)) == (here.value.reason, str(here.value))
    assert len(list(read(sandbox, video))) == 100


def test_a_child_that_is_killed_meanwhile_rejects_the_clip(sandbox, video):
    child = sandbox.call(os.getpid, wall_s=30)
    frames = read(sandbox, video, window=2)
    for _ in range(4):
        next(frames)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ClipRejectedError, match="was killed") as error:
        list(frames)
    assert error.value.reason == "too_costly"
    assert len(list(read(sandbox, video))) == 100


def test_the_time_for_all_windows_together_is_limited(sandbox, video):
    sandbox.call(os.getpid, wall_s=30)
    with pytest.raises(ClipRejectedError, match=r"more than 0\.02 s") as error:
        list(read(sandbox, video, wall_s=0.02, window=1))
    assert error.value.reason == "too_costly"


def test_a_call_of_another_reading_is_refused(sandbox, video):
    frames = read(sandbox, video)
    next(frames)
    frames.close()
    with pytest.raises(ClipRejectedError, match="was killed"):
        sandbox.call(remote._next, "another", wall_s=30)


def held(sandbox):
    """What the child keeps of a reading."""
    files = Path(f"/proc/{sandbox.call(os.getpid, wall_s=30)}/fd").iterdir()
    names = [str(file.readlink()) for file in files]
    return [name for name in names if "memfd" in name or name.endswith(".mp4")]
