"""How strangers' files are read: in a child process with limits of memory, time and CPU.

A crash, a decompression bomb or an endless stream ends the child, and becomes a reason code; the
next call starts a new child. The child has this user's rights: it stops accidents and what costs
too much, not a decoder that an attacker has taken over.
"""

import contextlib
import logging
import math
import os
import pickle
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn, Self, TypeVar, cast

from mssync import log
from mssync.errors import ClipRejectedError, MsSyncError, ToolError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Nothing else of the environment reaches the child: no secret, no proxy, no key of a cloud.
_ENVIRONMENT = (
    *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"),
    *("IMAGEIO_FFMPEG_EXE", "MSSYNC_DLIB_MODEL", "MSSYNC_LOG", "PYTHONHASHSEED"),
)
# A child decodes one file at a time: threads of linear algebra would only take address space.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_START_S = 60.0  # on a loaded machine with a cold disk
_DIE_S = 10.0
# Address space: 0.22 GB for a probe, 0.5 GB to cut a small picture, 0.7 GB to cut one of 1080p.
LEAST_BYTES = 500_000_000


class Sandbox:
    """One child process, which runs one function after another.

    The first call starts it. One thread at a time may use it.

    Args:
        memory_bytes: Address space that the child, and each process it starts, may take.
        death: Reason code of a clip on which the child dies by itself.

    Raises:
        ValueError: If that is less than Python, PyAV and ffmpeg themselves take.
    """

    def __init__(self, *, memory_bytes: int, death: str = "corrupt") -> None:
        if memory_bytes < LEAST_BYTES:
            raise ValueError(
                f"memory_bytes must be at least {LEAST_BYTES}, which the tools themselves take, "
                f"found {memory_bytes}"
            )
        self._memory_bytes = memory_bytes
        self._death = death
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, function: Callable[..., T], *args: object, wall_s: float, cpu_s: float | None = None
    ) -> T:
        """Run a function in the child.

        Args:
            function: Something that pickles: a function of a module, or a partial of one.
            *args: What it is called with.
            wall_s: Longest time it may take.
            cpu_s: Most CPU time that the child, and each process it starts, may take, rounded up
                to whole seconds; None: `wall_s`.

        Returns:
            What it returned.

        Raises:
            ClipRejectedError: `too_costly` if it hit a limit, `death` if the child crashed.
            ToolError: If the child cannot start.
            Exception: Whatever the function raised.
        """
        cpu_s = wall_s if cpu_s is None else cpu_s
        try:
            done, value = self._ask((function, args, cpu_s), wall_s)
        except ConnectionError:  # killed while it waited: it did not take up this call
            done, value = self._ask((function, args, cpu_s), wall_s)
        if done:
            return cast(T, value)
        if isinstance(value, MemoryError):
            self._end()  # what is left of its address space is in pieces
            raise ClipRejectedError(
                "too_costly", f"reading it takes more than {self._memory_bytes} bytes of memory"
            ) from value
        raise cast(Exception, value)

    def kill(self) -> None:
        """Kill the child from another thread: the call under way fails."""
        child = self._child
        if child and child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the child, and whatever it has started."""
        self._end()

    def _ask(
        self, request: tuple[Callable[..., object], tuple[object, ...], float], wall_s: float
    ) -> tuple[bool, object]:
        """Whether it went well, and the result or the error."""
        pipe = self._started()
        try:
            pipe.send(request)
            if pipe.poll(wall_s):
                return cast(tuple[bool, object], pipe.recv())
        except EOFError:
            _explain(self._end(), cpu_s=request[-1], death=self._death)
        except BaseException:
            self._end()  # its answer would be taken for that of the next call
            raise
        self._end()
        raise ClipRejectedError("too_costly", _too_long(wall_s))

    def _started(self) -> Connection:
        """The pipe to a child that waits for work."""
        if self._pipe:
            return self._pipe
        self._pipe, theirs = Pipe()
        with theirs:
            self._child = _start(theirs, self._memory_bytes)
        try:
            if self._pipe.poll(_START_S):
                self._pipe.recv()
                return self._pipe
        except (EOFError, ConnectionError):
            pass
        except BaseException:
            self._end()
            raise
        raise ToolError(
            f"the process that reads media did not start within {_START_S:g} s (exit code "
            f"{self._end()}), see its own words above"
        )

    def _end(self) -> int:
        """Kill the child and what it has started: its exit code."""
        child, self._child = self._child, None
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        if not child:
            return 0
        # It is not reaped before, so its number is still its own; a code it died with stays.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        try:
            return child.wait(_DIE_S)
        except subprocess.TimeoutExpired:
            logger.warning("a process that reads media hangs in the kernel: a broken disk?")
            return -signal.SIGKILL


class SandboxPool:
    """Sandboxes for several threads: each call takes a free one, or waits for it.

    Args:
        count: How many there are.
        memory_bytes: Of each.
        death: See `Sandbox`.
    """

    def __init__(self, count: int, *, memory_bytes: int, death: str = "corrupt") -> None:
        self._sandboxes = [Sandbox(memory_bytes=memory_bytes, death=death) for _ in range(count)]
        # Last in, first out: no more children are started than calls are made at a time.
        self._free = queue.LifoQueue[Sandbox]()
        for sandbox in self._sandboxes:
            self._free.put(sandbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, function: Callable[..., T], *args: object, wall_s: float, cpu_s: float | None = None
    ) -> T:
        """Run a function in a free child: see `Sandbox.call`."""
        with self.lend() as sandbox:
            return sandbox.call(function, *args, wall_s=wall_s, cpu_s=cpu_s)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Sandbox]:
        """A free sandbox, for several calls to the same child."""
        sandbox = self._free.get()
        try:
            yield sandbox
        finally:
            self._free.put(sandbox)

    def kill(self) -> None:
        """Kill all children, whatever they are doing: calls under way fail."""
        for sandbox in self._sandboxes:
            sandbox.kill()

    def close(self) -> None:
        """End all children. No call may be under way."""
        for sandbox in self._sandboxes:
            sandbox.close()


def _too_long(limit_s: float) -> str:
    return f"reading it takes more than {limit_s:g} s"


def _explain(code: int, *, cpu_s: float, death: str) -> NoReturn:
    """Say why a child died."""
    if code == -signal.SIGXCPU:
        raise ClipRejectedError("too_costly", _too_long(cpu_s))
    if code == -signal.SIGKILL:
        raise ClipRejectedError(
            "too_costly", "the process that read it was killed, most likely for want of memory"
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise ClipRejectedError(death, f"the process that read it died ({how})")


def _start(pipe: Connection, memory_bytes: int) -> subprocess.Popen[bytes]:
    # Not by multiprocessing: it would run the program's main module again, and hand over the
    # whole environment.
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(folder or str(os.curdir) for folder in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(pipe.fileno()), str(memory_bytes)],
        env=kept | _ONE_THREAD | {"PYTHONPATH": path},
        pass_fds=[pipe.fileno()],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _serve(descriptor: int, memory_bytes: int) -> None:
    """The child: run what comes through the pipe until it is closed."""
    log.set_up("WARNING")
    threading.Thread(target=_die_with_parent, args=(descriptor,), daemon=True).start()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory_bytes)
    with Connection(descriptor) as pipe:
        pipe.send(None)
        while True:
            try:
                request = pipe.recv_bytes()
            except EOFError:
                return
            _answer(pipe, request)


def _answer(pipe: Connection, request: bytes) -> None:
    try:
        function, args, cpu_s = pickle.loads(request)
        used_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _limit(resource.RLIMIT_CPU, math.ceil(used_s + cpu_s))
        pipe.send((True, function(*args)))
    except Exception as error:  # it is raised in the parent
        if not isinstance(error, MsSyncError):
            error.add_note(f"In the process that reads media:\n{traceback.format_exc()}")
        try:
            pipe.send((False, error))
        except (pickle.PicklingError, TypeError, AttributeError):
            pipe.send((False, RuntimeError(traceback.format_exc())))


def _limit(kind: int, value: int) -> None:
    """Lower a soft limit, or raise it as far as the hard one lets it."""
    _, hard = resource.getrlimit(kind)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (soft, hard))


def _die_with_parent(descriptor: int) -> None:
    """Kill this process and what it has started when the other end of the pipe is gone."""
    hung_up = select.poll()
    hung_up.register(descriptor, 0)  # its end is always reported; messages are not asked for
    hung_up.poll()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
