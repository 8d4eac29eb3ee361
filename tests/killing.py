"""Killing a program at every change that it makes to the disk, and stopping it at one.

A program that is killed starts by a fork of a process that has its libraries: forty starts of
Python that load them would take minutes.
"""

import multiprocessing
import os
import signal
import subprocess
import sys

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["mssync.stages.build_dataset", "mssync.stages._takedown"])

# Names that Python's audit hooks know.
_CHANGES = ("os.rename", "os.remove", "os.mkdir")


_STOP = """
import os, signal, sys

def _stop(event, arguments):
    paths = [each for each in arguments if isinstance(each, (str, os.PathLike))]
    if event in ("os.rename", "os.mkdir") and str(paths[-1]) == {path!r}:
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(_stop)
"""


def stopped(program, path):
    """Run a program that gets SIGTERM just before a file or folder appears under its own name.

    Args:
        program: Python source.
        path: The file or folder.

    Returns:
        Exit code, and what it said.
    """
    found = subprocess.run(
        [sys.executable, "-c", _STOP.format(path=str(path)) + program],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stderr


def killed(program, folder, at):
    """Run a program, killed before its change number `at` to a folder; whether it was.

    Args:
        program: Python source.
        folder: What counts.
        at: Number of the change, from 1; 0: it runs to its end.
    """
    process = _PROCESSES.Process(target=_run, args=(program, str(folder), at))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)  # what else it said is in the output
    return process.exitcode != 0


def _run(program, folder, last):
    changes = 0

    def count(event, arguments):
        nonlocal changes
        if event in _CHANGES and folder in str(arguments[0]):
            changes += 1
            if changes == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    exec(program, {})
