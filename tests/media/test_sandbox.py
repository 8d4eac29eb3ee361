import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg
from mssync.media.sandbox import LEAST_BYTES, Sandbox, SandboxPool

SCRIPT = """
import os, time
from mssync.media.sandbox import Sandbox
sandbox = Sandbox(memory_bytes=10**9)
print(sandbox.call(os.getpid, wall_s=30), flush=True)
sandbox.call(os.system, "sleep 90; true", wall_s=60)
"""


@pytest.fixture
def sandbox():
    with Sandbox(memory_bytes=1_000_000_000) as sandbox:
        yield sandbox


def group(leader):
    """The processes of a process group that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def wait_until(true, within_s=20):
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_function_runs_in_another_process_and_its_result_comes_back(sandbox):
    child = sandbox.call(os.getpid, wall_s=30)
    assert child != os.getpid()
    assert sandbox.call(os.getpid, wall_s=30) == child
    assert sandbox.call(divmod, 7, 2, wall_s=30) == (3, 1)


@pytest.mark.parametrize(
    ("function", "argument", "limits", "reason", "message"),
    [
        (bytearray, 10**10, {"wall_s": 30}, "too_costly", "1000000000 bytes of memory"),
        (time.sleep, 60, {"wall_s": 0.2}, "too_costly", "more than 0.2 s"),
        (sum, itertools.count(), {"wall_s": 30, "cpu_s": 0.1}, "too_costly", "more than 0.1 s"),
        (os.system, "sleep 60; true", {"wall_s": 0.2}, "too_costly", "more than 0.2 s"),
        (ctypes.string_at, 0, {"wall_s": 30}, "corrupt", r"that read it died \(SIGSEGV\)"),
        (os._exit, 3, {"wall_s": 30}, "corrupt", r"that read it died \(exit code 3\)"),
    ],
    ids=["memory", "wall", "cpu", "child of the child", "crash", "exit"],
)
def test_what_goes_too_far_ends_with_its_reason_and_the_next_call_is_served(
    sandbox, function, argument, limits, reason, message
):
    child = sandbox.call(os.getpid, wall_s=30)
    with pytest.raises(ClipRejectedError, match=message) as error:
        sandbox.call(function, argument, **limits)
    assert error.value.reason == reason
    wait_until(lambda: not group(child))
    assert sandbox.call(os.getpid, wall_s=30) not in (child, os.getpid())


def test_cpu_time_is_counted_for_each_call_alone(sandbox):
    for _ in range(3):
        sandbox.call(sum, range(20_000_000), wall_s=30, cpu_s=1)


def test_a_child_that_is_killed_while_it_waits_is_replaced(sandbox):
    child = sandbox.call(os.getpid, wall_s=30)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not group(child))
    assert sandbox.call(os.getpid, wall_s=30) != child


def test_a_child_that_is_killed_at_work_was_out_of_memory(sandbox):
    child = sandbox.call(os.getpid, wall_s=30)
    with pytest.raises(ClipRejectedError, match="killed") as error:
        sandbox.call(os.kill, child, signal.SIGKILL, wall_s=30)
    assert error.value.reason == "too_costly"


def test_a_rejection_travels_unchanged(sandbox, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(ClipRejectedError, match="not a readable media file") as error:
        sandbox.call(decode.read_clock, empty, wall_s=30)
    assert error.value.reason == "corrupt"


def test_a_bug_travels_with_the_place_it_happened(sandbox):
    child = sandbox.call(os.getpid, wall_s=30)
    with pytest.raises(TypeError, match="must be str") as error:
        sandbox.call(json.loads, None, wall_s=30)
    assert "in loads" in error.value.__notes__[0]
    assert sandbox.call(os.getpid, wall_s=30) == child


def test_a_result_that_cannot_travel_is_an_error(sandbox):
    with pytest.raises((TypeError, RuntimeError), match="pickle"):
        sandbox.call(open, os.devnull, wall_s=30)
    assert sandbox.call(divmod, 7, 2, wall_s=30) == (3, 1)


def test_closing_ends_the_child_and_what_it_started():
    with Sandbox(memory_bytes=LEAST_BYTES) as sandbox:
        child = sandbox.call(os.getpid, wall_s=30)
        sandbox.call(os.system, "sleep 60 &", wall_s=30)
        assert len(group(child)) == 2
    wait_until(lambda: not group(child))


def test_a_parent_that_is_killed_leaves_no_child():
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    wait_until(lambda: len(group(child)) > 1)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not group(child))


def test_no_secret_reaches_the_child(monkeypatch, sandbox):
    for name in ("MSSYNC_SECRET_COOKIES", "https_proxy", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    child = sandbox.call(os.getpid, wall_s=30)
    environment = psutil.Process(child).environ()
    assert "hunter2" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]


def test_too_little_memory_to_start_with_is_refused():
    with pytest.raises(ValueError, match=f"at least {LEAST_BYTES}"):
        Sandbox(memory_bytes=LEAST_BYTES - 1)


def test_threads_share_a_pool_and_no_more_children_run_than_it_has():
    with SandboxPool(2, memory_bytes=LEAST_BYTES) as pool, ThreadPoolExecutor(4) as threads:
        children = set(
            threads.map(lambda _: pool.call(os.getpid, wall_s=60), range(40)),
        )
        slow = [threads.submit(pool.call, time.sleep, 0.3, wall_s=60) for _ in range(2)]
        for call in slow:
            call.result()
        children |= set(threads.map(lambda _: pool.call(os.getpid, wall_s=60), range(40)))
    assert 1 <= len(children) <= 2
    assert not any(group(child) for child in children)


def test_a_call_that_is_interrupted_does_not_answer_the_next(sandbox):
    def interrupt(*_):
        raise KeyboardInterrupt

    sandbox.call(os.getpid, wall_s=30)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            sandbox.call(time.sleep, 0.6, wall_s=30)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sandbox.call(divmod, 7, 2, wall_s=30) == (3, 1)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A second of 4K."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=s=3840x2160:r=30:d=1"]
    coder = ["-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([ffmpeg.executable(), "-v", "error", *source, *coder, str(path)], check=True)
    return path


def test_ffmpeg_is_stopped_with_the_child_that_runs_it(sandbox, large, tmp_path):
    never_read = tmp_path / "cut.mp4"
    os.mkfifo(never_read)
    child = sandbox.call(os.getpid, wall_s=30)
    cut = partial(ffmpeg.cut, large, never_read, start_s=0, end_s=1)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(sandbox.call, cut, wall_s=3)
        wait_until(lambda: len(group(child)) == 2)
        with pytest.raises(ClipRejectedError, match="more than 3 s") as error:
            call.result()
    assert error.value.reason == "too_costly"
    wait_until(lambda: not group(child))


@pytest.mark.parametrize(
    ("memory_bytes", "cpu_s"), [(LEAST_BYTES, 60), (4_000_000_000, 0)], ids=["memory", "cpu"]
)
def test_the_limits_hold_for_ffmpeg_too(large, tmp_path, memory_bytes, cpu_s):
    cut = partial(ffmpeg.cut, large, tmp_path / "cut.mp4", start_s=0, end_s=None)
    with Sandbox(memory_bytes=memory_bytes) as sandbox:
        sandbox.call(decode.read_picture, large, wall_s=30)  # imports cost CPU time too
        with pytest.raises(ClipRejectedError, match="ffmpeg took more") as error:
            sandbox.call(cut, wall_s=60, cpu_s=cpu_s)
    assert error.value.reason == "too_costly"


def test_a_video_is_cut_in_the_child(large, tmp_path):
    target = tmp_path / "cut.mp4"
    crop = ffmpeg.Crop(0, 0, 0.05, 0.1)
    cut = partial(ffmpeg.cut, large, target, start_s=0, end_s=0.1, crop=crop)
    with Sandbox(memory_bytes=2_000_000_000) as sandbox:
        sandbox.call(cut, wall_s=60)
        picture = sandbox.call(decode.read_picture, target, wall_s=60)
    assert (picture.width_px, picture.height_px) == (192, 216)
