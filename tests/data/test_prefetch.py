import threading
import time

import pytest

from mssync.data.prefetch import prefetched


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 40])
def test_every_step_comes_once_and_in_order_whatever_the_number_of_threads(threads, count):
    def draw(step):
        time.sleep(0.001 * (step % 3))
        return step * step

    steps = range(7, 7 + count)
    assert list(prefetched(draw, steps, threads=threads)) == [step * step for step in steps]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_where_the_batch_would(threads):
    def draw(step):
        if step == 3:
            raise OSError("gone")
        return step

    batches = prefetched(draw, range(9), threads=threads)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(batches)


def test_no_thread_is_left_and_little_is_made_that_nobody_asked_for():
    made = []
    batches = prefetched(lambda step: made.append(step) or step, range(1000), threads=2)
    assert next(batches) == 0
    batches.close()
    assert len(made) < 10
    assert not [each for each in threading.enumerate() if each.name.startswith("batches")]
