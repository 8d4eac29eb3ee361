import shutil

import pytest

from mssync.download.budget import Budget
from mssync.errors import ClipRejectedError


@pytest.fixture
def budget(tiny, tmp_path):
    def make(**changes):
        settings = {"min_free_bytes": 0, "max_bytes": 1000}
        params = tiny.download_videos.model_copy(update=settings | changes)
        return Budget(params, tmp_path)

    return make


def reason(function, *args, **named):
    with pytest.raises(ClipRejectedError) as error:
        function(*args, **named)
    return error.value.reason


def test_one_that_is_too_large_is_refused_before_and_while_it_comes(budget):
    spend = budget()
    assert reason(spend.expect, 1001) == "too_large"
    spend.expect(-1)
    spend.receive(600, total=600)
    assert reason(spend.receive, 600, total=1200) == "too_large"
    assert spend.spent is None


def test_a_run_stops_at_its_bytes_and_says_so(budget):
    spend = budget(run_bytes=1500)
    spend.item().receive(1000, total=1000)
    assert reason(spend.expect, 600) == "budget"
    spend.expect(500)
    item = spend.item()
    assert reason(item.receive, 600, total=600) == "budget"
    assert spend.spent.reason == "budget"
    assert (budget().left, budget(run_bytes=9).item().left, spend.left) == (0, 9, 1)
    assert item.received == 600
    assert spend.received == 1600


def test_a_run_stops_at_its_seconds_of_media(budget):
    spend = budget(run_media_s=10.0)
    spend.keep(9.0)
    assert spend.spent is None
    spend.keep(2.0)
    assert "10 s of media" in str(spend.spent)
    assert reason(spend.item().expect, 1) == "budget"


def test_a_disk_that_would_fill_up_stops_the_run_before_it_is_full(budget, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    roomy = budget(min_free_bytes=free // 2, max_bytes=free)
    roomy.expect(1)
    assert reason(roomy.expect, free - free // 4) == "disk"
    assert roomy.spent is None
    full = budget(min_free_bytes=free * 2)
    assert reason(full.receive, 10, total=10) == "disk"
    assert full.spent.reason == "disk"
