"""Killing a program at every change that it makes to the disk, and stopping it at one."""

import signal
import subprocess
import sys

# Names that the program does not use.
_HOOK = """
import os, signal, sys
_changes, _last, _watched = 0, {last}, {folder!r}

def _count(event, arguments):
    global _changes
    if event in ("os.rename", "os.remove", "os.mkdir") and _watched in str(arguments[0]):
        _changes += 1
        if _changes == _last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(_count)
"""


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
    source = _HOOK.format(last=at, folder=str(folder)) + program
    found = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    return found.returncode != 0
