"""Work shared by real processes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_info

from mssync.errors import WorkerLostError
from mssync.workers import in_order


def slow_square(number):
    time.sleep(0.05 * (number % 3))
    return number**2, os.getpid()


def threads(_):
    np.zeros((8, 8)) @ np.zeros((8, 8))
    return max(found["num_threads"] for found in threadpool_info())


def stumble(number):
    raise ValueError(f"{number} is none")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    found = list(in_order(slow_square, range(12), workers=workers))
    assert [square for square, _ in found] == [number**2 for number in range(12)]
    assert len({process for _, process in found}) <= workers
    assert ({process for _, process in found} == {os.getpid()}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_has_one_thread(workers):
    assert set(in_order(threads, range(4), workers=workers)) == {1}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_through(workers):
    with pytest.raises(ValueError, match="0 is none"):
        list(in_order(stumble, range(4), workers=workers))


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_is_killed_is_one_clear_error():
    with pytest.raises(WorkerLostError, match=r"expected 2 worker processes.*Lower run\.workers"):
        list(in_order(die, range(8), workers=2))


def test_no_process_outlives_the_one_that_started_it():
    started = subprocess.Popen([sys.executable, "-c", SLEEPERS], stdout=subprocess.PIPE, text=True)
    children = [psutil.Process(int(number)) for number in started.stdout.readline().split()]
    assert len(children) == 2
    started.send_signal(signal.SIGKILL)
    started.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    started.stdout.close()
    assert len(gone) == 2, alive


SLEEPERS = """
import time, psutil
from mssync.workers import pool
with pool(2) as processes:
    waiting = [processes.submit(time.sleep, 60) for _ in range(2)]
    while not all(future.running() for future in waiting):
        time.sleep(0.05)
    mine = [c.pid for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
    print(*mine, flush=True)
    time.sleep(60)
"""
