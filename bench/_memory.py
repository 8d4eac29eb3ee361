"""How much memory a process and its children hold."""

import subprocess
import time

import psutil


def watch(process: "subprocess.Popen[str]", *, every_s: float = 0.1) -> float:
    """Largest resident memory of a process and its children, in MB, until it ends."""
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, held(root))
        time.sleep(every_s)
    return peak / 1e6


def held(root: psutil.Process) -> int:
    """Resident bytes of a process and its children.

    Pages that they share count for each of them: it is an upper bound.
    """
    return sum(_resident(one) for one in tree(root))


def tree(root: psutil.Process) -> list[psutil.Process]:
    """A process and its children; none where it has ended."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
