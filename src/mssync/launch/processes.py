"""Several processes on this machine, by `torchrun`."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from mssync import log
from mssync.workers import die_with

POLL_S = 0.1
# torchrun gives its processes 30 s to end.
GRACE_S = 60.0


def run(order_file: Path, *, processes: int, stop: Callable[[], bool]) -> int:
    """Work on an order in several processes; on Linux none of them outlives this one.

    What they say goes to this process's log. A request to stop is passed on and waited for.

    Args:
        order_file: The order.
        processes: How many.
        stop: Whether this process was asked to stop.

    Returns:
        Exit code of `torchrun`.
    """
    command = [
        *(sys.executable, "-m", __name__, str(os.getpid()), "--standalone"),
        *("--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)),
        *("-m", "mssync.launch.rank", str(order_file)),
    ]
    # a container without a network has no other address
    environment = {"GLOO_SOCKET_IFNAME": "lo"} | os.environ
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    assert child.stdout is not None
    reader = threading.Thread(target=_pass_on, args=(child.stdout,), daemon=True)
    reader.start()
    try:
        while child.poll() is None and not stop():
            time.sleep(POLL_S)
    finally:
        _end(child)
        reader.join(GRACE_S)
    return child.returncode


def _end(child: "subprocess.Popen[str]") -> None:
    """Ask it to end, where it has not; by force in the end."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _pass_on(said: TextIO) -> None:
    with said:
        for line in said:
            log.pass_on(line.rstrip("\n"))


def main(parent: str, *arguments: str) -> None:
    """Run `torchrun`, as long as the process is there that started it.

    Args:
        parent: Number of that process.
        arguments: Of `torchrun`.
    """
    from torch.distributed.run import main as torchrun

    die_with(int(parent))
    torchrun(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
