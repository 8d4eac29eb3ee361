"""Killing a program at every change that it makes to the disk, one after the other.

A program starts by a fork of a process that has its libraries: forty starts of Python that load
them would take minutes.
"""

import multiprocessing
import os
import signal
import sys

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["mssync.stages.build_dataset", "mssync.stages._takedown"])

# Names that Python's audit hooks know.
_CHANGES = ("os.rename", "os.remove", "os.mkdir")


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
