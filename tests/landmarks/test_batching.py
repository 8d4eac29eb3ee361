import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mssync.landmarks.batching import Batcher


class Doubler:
    """Doubles numbers, remembers its batches, refuses negative numbers; may be held up."""

    def __init__(self):
        self.batches = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def begin(self, items):
        if min(items) < 0:
            raise ValueError(f"cannot double {min(items)}")
        self.batches.append(items)
        self.begun.release()

        def finish():
            self.go_on.wait(30)
            return [2 * item for item in items]

        return finish


@pytest.fixture
def doubler():
    return Doubler()


@pytest.mark.parametrize("max_items", [1, 7, 1000])
def test_every_thread_gets_its_own_results_in_order(doubler, max_items):
    with (
        Batcher(doubler.begin, max_items=max_items, patience_s=0.001) as batcher,
        ThreadPoolExecutor(16) as threads,
    ):
        requests = [list(range(1000 * n, 1000 * n + n % 23)) for n in range(200)]
        answers = list(threads.map(batcher.submit, requests))
    assert answers == [[2 * item for item in request] for request in requests]
    assert max(map(len, doubler.batches)) <= max_items
    assert sum(map(len, doubler.batches)) == sum(map(len, requests))


def test_what_is_asked_for_meanwhile_goes_through_together(doubler):
    doubler.go_on.clear()
    with (
        Batcher(doubler.begin, max_items=100) as batcher,
        ThreadPoolExecutor(9) as threads,
    ):
        first = threads.submit(batcher.submit, [0])
        doubler.begun.acquire()
        others = [threads.submit(batcher.submit, [n, n]) for n in range(1, 9)]
        wait_for(lambda: len(batcher._queue) == 16)
        doubler.go_on.set()
        assert [first.result(30), *(other.result(30) for other in others)] == [
            [0],
            *([2 * n, 2 * n] for n in range(1, 9)),
        ]
    assert [len(batch) for batch in doubler.batches] == [1, 16]


def test_a_full_batch_is_begun_while_another_runs(doubler):
    doubler.go_on.clear()
    with Batcher(doubler.begin, max_items=2) as batcher, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(batcher.submit, [1, 2, 3, 4])
        assert doubler.begun.acquire(timeout=30)
        assert doubler.begun.acquire(timeout=30)
        assert not answer.done()
        doubler.go_on.set()
        assert answer.result(30) == [2, 4, 6, 8]


def test_a_batch_waits_for_a_thread_that_was_served_a_moment_ago(doubler):
    with (
        Batcher(doubler.begin, max_items=3, patience_s=60, recent_s=60) as batcher,
        ThreadPoolExecutor(1) as other,
    ):
        assert other.submit(batcher.submit, [1]).result(30) == [2]
        with ThreadPoolExecutor(1) as this:
            answer = this.submit(batcher.submit, [2])
            wait_for(lambda: batcher._queue)
            assert other.submit(batcher.submit, [3, 4]).result(30) == [6, 8]
            assert answer.result(30) == [4]
    assert doubler.batches == [[1], [2, 3, 4]]


def test_a_lone_thread_is_never_kept_waiting(doubler):
    with Batcher(doubler.begin, max_items=100, patience_s=3600, recent_s=3600) as batcher:
        assert [batcher.submit([n]) for n in range(5)] == [[0], [2], [4], [6], [8]]


def test_an_error_reaches_those_whose_batch_it_was_and_nobody_else(doubler):
    with Batcher(doubler.begin, max_items=4) as batcher, ThreadPoolExecutor(1) as threads:
        with pytest.raises(ValueError, match="cannot double -1"):
            batcher.submit([1, 2, -1, 4, 5, 6])
        assert batcher.submit([7]) == [14]
        assert threads.submit(batcher.submit, [8]).result(30) == [16]


def test_a_wrong_number_of_results_is_an_error_of_the_batch():
    with Batcher(lambda items: lambda: [0], max_items=4) as batcher:
        with pytest.raises(ValueError, match="1 results for 2 items"):
            batcher.submit([1, 2])
        assert batcher.submit([1]) == [0]


def test_nothing_is_asked_of_a_closed_batcher(doubler):
    doubler.go_on.clear()
    with ThreadPoolExecutor(3) as threads:
        batcher = Batcher(doubler.begin, max_items=2)
        running = threads.submit(batcher.submit, [1])
        doubler.begun.acquire()
        waiting = threads.submit(batcher.submit, [2])
        wait_for(lambda: batcher._queue)
        closing = threads.submit(batcher.close)
        with pytest.raises(RuntimeError, match="the batcher was closed"):
            waiting.result(30)
        doubler.go_on.set()
        closing.result(30)
        assert running.result(30) == [2]
    with pytest.raises(RuntimeError, match="is closed"):
        batcher.submit([1])
    assert batcher.submit([]) == []


def wait_for(true):
    for _ in range(3000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")
