"""Killing a program at every change that it makes to the disk, one after the other."""

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
