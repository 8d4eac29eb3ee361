"""The governor against a clock of the test's own."""

import math
import random
from threading import Thread

import pytest

from mssync.download.governor import Governor
from mssync.errors import ClipRejectedError
from mssync.params import HostLimits


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def govern(tiny, clock):
    def make(**changes):
        limits = HostLimits(requests_per_s=2.0, burst=3, connections=10)
        settings = {
            "per_host": limits,
            "breaker_failures": 3,
            "breaker_pause_s": 10.0,
            "breaker_pauses": 2,
            "max_wait_s": 60.0,
        }
        params = tiny.download_videos.model_copy(update=settings | changes)
        return Governor(params, clock=clock, rng=random.Random(0))

    return make


def go(governor, host, error=None):
    assert governor.ready_in(host) == 0
    governor.start(host)
    governor.finish(host, error)


def refusal(reason="rate_limit", wait_s=None):
    return ClipRejectedError(reason, f"the server said {reason}", wait_s=wait_s)


def test_after_a_burst_requests_go_out_at_the_rate(govern, clock):
    governor = govern()
    for _ in range(3):
        go(governor, "a")
    assert governor.ready_in("a") == pytest.approx(0.5)
    clock.now += 0.5
    go(governor, "a")
    assert governor.ready_in("a") == pytest.approx(0.5)


def test_hosts_do_not_wait_for_each_other(govern):
    governor = govern()
    for _ in range(3):
        go(governor, "a")
    assert governor.ready_in("b") == 0


def test_a_host_of_its_own_limits_has_them(govern):
    slow = HostLimits(requests_per_s=0.1, burst=1, connections=1)
    governor = govern(hosts={"youtube": slow})
    go(governor, "youtube")
    assert governor.ready_in("youtube") == pytest.approx(10.0)


def test_what_the_store_has_costs_no_request_and_ends_no_row_of_refusals(govern):
    governor = govern()
    for _ in range(30):
        assert governor.ready_in("a") == 0
        governor.start("a")
        governor.finish("a", None, asked=False)
    for _ in range(3):
        go(governor, "a", refusal())
        governor.start("a")
        governor.finish("a", None, asked=False)
    assert governor.ready_in("a") >= 10.0


def test_local_files_wait_for_nobody(govern):
    governor = govern()
    for _ in range(100):
        governor.start("")
        assert governor.ready_in("") == 0


def test_no_more_connections_than_allowed(govern):
    limits = HostLimits(requests_per_s=100.0, burst=100, connections=2)
    governor = govern(per_host=limits)
    governor.start("a")
    governor.start("a")
    assert governor.ready_in("a") == math.inf
    governor.finish("a", None)
    assert governor.ready_in("a") == 0


def test_retry_after_holds_for_all_requests_to_the_host(govern, clock):
    governor = govern()
    go(governor, "a", refusal(wait_s=20.0))
    assert governor.ready_in("a") == pytest.approx(20.0)
    assert governor.ready_in("b") == 0
    clock.now += 20.0
    assert governor.ready_in("a") == 0


def test_a_host_that_asks_for_too_much_patience_is_left_for_a_later_run(govern):
    governor = govern()
    go(governor, "a", refusal(wait_s=3600.0))
    error = governor.given_up("a")
    assert error.reason == "host_paused"
    assert "the server said rate_limit" in str(error)


@pytest.mark.parametrize("reason", ["rate_limit", "forbidden", "timeout", "connection"])
def test_refusals_in_a_row_open_the_breaker(govern, clock, reason):
    governor = govern()
    for _ in range(2):
        go(governor, "a", refusal(reason))
    assert governor.ready_in("a") == 0
    go(governor, "a", refusal(reason))
    assert governor.ready_in("a") == pytest.approx(10.0)


def test_other_answers_end_a_row(govern):
    governor = govern(per_host=HostLimits(requests_per_s=9.0, burst=9, connections=9))
    for error in (refusal(), refusal(), ClipRejectedError("gone", "404"), refusal(), refusal()):
        go(governor, "a", error)
    assert governor.ready_in("a") == 0


def test_one_bot_check_is_enough(govern):
    governor = govern()
    go(governor, "a", refusal("bot_check"))
    assert governor.ready_in("a") == pytest.approx(10.0)


def test_after_a_pause_one_request_tries_alone_and_success_closes_the_breaker(govern, clock):
    governor = govern()
    go(governor, "a", refusal("bot_check"))
    clock.now += 10.0
    governor.start("a")
    assert governor.ready_in("a") == math.inf
    governor.finish("a", None)
    governor.start("a")
    assert governor.ready_in("a") == 0


def test_pauses_double_and_then_the_host_is_left_for_a_later_run(govern, clock):
    governor = govern()
    go(governor, "a", refusal("bot_check"))
    clock.now += 10.0
    go(governor, "a", refusal("bot_check"))
    assert governor.ready_in("a") == pytest.approx(20.0)
    clock.now += 20.0
    assert governor.given_up("a") is None
    go(governor, "a", refusal("bot_check"))
    assert "the server said bot_check" in str(governor.given_up("a"))


def test_a_trial_that_is_told_when_to_come_back_counts(govern, clock):
    governor = govern()
    go(governor, "a", refusal("bot_check"))
    for _ in range(2):
        clock.now += 60.0
        go(governor, "a", refusal(wait_s=5.0))
    assert governor.given_up("a")


def test_answers_to_what_went_out_before_the_pause_do_not_lengthen_it(govern):
    governor = govern()
    for _ in range(3):
        governor.start("a")
    for _ in range(3):
        governor.finish("a", refusal("bot_check"))
    assert governor.given_up("a") is None
    assert governor.ready_in("a") == pytest.approx(10.0)


def test_backoff_doubles_is_jittered_and_bounded(govern):
    governor = govern(backoff_s=1.0)
    waits = [governor.backoff_s(1) for _ in range(50)]
    assert 0.5 <= min(waits) < 0.7 < 1.3 < max(waits) <= 1.5
    assert 2.0 <= governor.backoff_s(3) <= 6.0
    assert governor.backoff_s(30) == 60.0


def test_a_redirect_takes_a_token_of_where_it_leads(tiny):
    limits = HostLimits(requests_per_s=20.0, burst=1, connections=4)
    governor = Governor(tiny.download_videos.model_copy(update={"per_host": limits}))
    threads = [Thread(target=governor.admit, args=("cdn",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5.0)
    assert 0 < governor.ready_in("cdn") <= 0.05


def test_a_redirect_to_a_host_that_is_left_alone_is_not_followed(govern):
    governor = govern()
    go(governor, "cdn", refusal(wait_s=3600.0))
    with pytest.raises(ClipRejectedError) as error:
        governor.admit("cdn")
    assert error.value.reason == "host_paused"
