"""What is to do and what was decided, across runs and kills."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mssync.download.state import Result, State
from mssync.errors import InputError
from mssync.ledger import Attempt
from mssync.lists.sources import read_sources
from mssync.media.store import Origin, Provenance

KEPT = Result(
    sha256="aa",
    scores={"bytes": 3.0},
    origin=Origin("bb", 3, '"v"', Provenance(url="https://a.org/1.mp4", tool="httpx 1")),
)
GONE = Result("gone", "404")
LATE = Result("timeout", "no answer")


@pytest.fixture
def opened(tmp_path):
    """Open the state and put a list down: `opened(text)` is a context manager."""

    def make(text, *, base="/", refuse=lambda _: None, **settings):
        listed = tmp_path / "list.csv"
        listed.write_text(text)
        settings = {"key": "k", "present": lambda _: True} | settings
        state = State(tmp_path / "l" / "state.sqlite", **settings)
        state.add(read_sources(listed, base=base), refuse=refuse)
        state.check_list()
        return closing(state)

    return make


def work(state, results):
    """Do everything that waits; the locations, in order."""
    done = []
    while hosts := state.stirred():
        for host in sorted(hosts):
            while state.ready_at(host) is not None:
                job = state.take(host)
                done.append(job.location)
                found = {clip.clip_id: results[clip.location] for clip in job.clips}
                attempts = [Attempt(clip.clip_id, 1.0, 0.1, "x") for clip in job.clips]
                state.finish(job, found, attempts)
    return done


URLS = "source,start_s,end_s\nhttps://a.org/1.mp4,,\nhttps://b.org/2.mp4,1,2\nhttps://b.org/2.mp4,3,4\n"
WORDS = {"https://a.org/1.mp4": KEPT, "https://b.org/2.mp4": GONE}


def test_a_location_waits_once_however_many_clips_are_made_of_it(opened):
    with opened(URLS) as state:
        assert state.waiting == 2
        job = state.take("b.org")
        assert [clip.clip_id[-9:] for clip in job.clips] == ["1000-2000", "3000-4000"]
        assert (job.kind, job.tries, state.waiting) == ("web", 1, 1)


def test_outcomes_come_sorted_and_whole(opened):
    with opened(URLS) as state:
        work(state, WORDS)
        found = list(state.outcomes())
    assert [source.clip_id for source, _ in found] == [
        "https://a.org/1.mp4",
        "https://b.org/2.mp4#1000-2000",
        "https://b.org/2.mp4#3000-4000",
    ]
    assert [result for _, result in found] == [KEPT, GONE, GONE]


def test_what_is_decided_for_good_is_not_asked_for_again(opened):
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS) as state:
        assert work(state, {}) == []
        assert [result for _, result in state.outcomes()] == [KEPT, GONE, GONE]


def test_what_may_have_passed_is_asked_for_again_and_nothing_else(opened):
    with opened(URLS) as state:
        work(state, {**WORDS, "https://a.org/1.mp4": LATE})
    with opened(URLS) as state:
        assert work(state, WORDS) == ["https://a.org/1.mp4"]


def test_a_reason_can_be_asked_for_again(opened):
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS, again=["gone"]) as state:
        assert work(state, WORDS) == ["https://b.org/2.mp4"]


def test_what_is_gone_from_the_store_is_fetched_again(opened):
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS, present=lambda _: False) as state:
        assert work(state, WORDS) == ["https://a.org/1.mp4"]


def test_other_parameters_decide_anew(opened):
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS, key="other") as state:
        assert work(state, WORDS) == ["https://a.org/1.mp4", "https://b.org/2.mp4"]


def test_a_local_file_is_looked_at_in_every_run_with_what_is_known_of_it(opened):
    with opened("source\n/a.mp4\n") as state:
        work(state, {"/a.mp4": KEPT})
    with opened("source\n/a.mp4\n") as state:
        assert state.take("").before == {"a.mp4": KEPT}


def test_a_killed_run_goes_on_where_it_was(opened):
    with opened(URLS) as state:
        job = state.take("a.org")
        state.finish(job, {job.clips[0].clip_id: KEPT}, [Attempt("a", 1.0, 0.1, "done")])
        state.take("b.org")  # and never comes back
    with opened(URLS) as state:
        assert work(state, WORDS) == ["https://b.org/2.mp4"]
        assert [attempt.outcome for attempt in state.attempts()] == ["done", "x", "x"]


def test_a_failure_that_passes_waits_for_its_time(opened):
    with opened("source\nhttps://a.org/1.mp4\n") as state:
        job = state.take("a.org")
        state.finish(job, {}, [])
        state.retry(job, not_before=50.0, received=7)
        assert state.ready_at("a.org") == 50.0
        again = state.take("a.org")
        assert (again.tries, state.received(again)) == (2, 7)


def test_clips_listed_while_their_location_is_fetched_wait_for_its_end(opened, tmp_path):
    with opened("source,start_s\nhttps://a.org/1.mp4,1\n") as state:
        job = state.take("a.org")
        (tmp_path / "more.csv").write_text("source,start_s\nhttps://a.org/1.mp4,2\n")
        state.add(read_sources(tmp_path / "more.csv", base="/"), refuse=lambda _: None)
        assert state.waiting == 1
        assert state.ready_at("a.org") is None
        state.finish(job, {job.clips[0].clip_id: KEPT}, [])
        assert "a.org" in state.stirred()
        assert [clip.start_s for clip in state.take("a.org").clips] == [2.0]


def test_what_waits_can_be_given_up_by_host_or_altogether(opened):
    paused = Result("host_paused", "too often")
    with opened(URLS + "https://c.org/3.mp4,,\n") as state:
        state.give_up(paused, host="b.org")
        assert state.waiting == 2
        state.take("a.org")
        state.give_up(Result("budget", "spent"))
        assert state.waiting == 0
        state._decide("https://a.org/1.mp4", KEPT)
        reasons = [result.reason for _, result in state.outcomes()]
    assert reasons == ["", "host_paused", "host_paused", "budget"]


def test_of_equal_contents_the_first_name_is_kept(opened):
    text = "source\nhttps://b.org/2.mp4\nhttps://a.org/1.mp4\n"
    with opened(text) as state:
        work(state, {"https://a.org/1.mp4": KEPT, "https://b.org/2.mp4": KEPT})
        kept, repeated = (result for _, result in state.outcomes())
        assert kept == KEPT
        assert (repeated.reason, repeated.detail) == (
            "duplicate",
            "the same bytes as https://a.org/1.mp4",
        )
    with opened("source\nhttps://b.org/2.mp4\n") as state:
        assert [result.kept for _, result in state.outcomes()] == [True]


def test_what_is_listed_no_more_is_forgotten(opened):
    with opened(URLS) as state:
        work(state, WORDS)
        state.end()
    with opened("source\nhttps://a.org/1.mp4\n") as state:
        state.end()
    with opened(URLS) as state:
        assert work(state, WORDS) == ["https://b.org/2.mp4"]


def test_a_row_that_must_not_be_asked_for_is_decided_at_once(opened):
    refuse = {"https://b.org/2.mp4": Result("taken_down", "asked to")}
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS, refuse=lambda source: refuse.get(source.written)) as state:
        assert work(state, WORDS) == []
        reasons = [result.reason for _, result in state.outcomes()]
    assert reasons == ["", "taken_down", "taken_down"]
    with opened(URLS) as state:  # the takedown was withdrawn
        assert state.waiting == 1


def test_a_kept_clip_whose_content_is_banned_is_looked_at_again(opened):
    with opened(URLS) as state:
        work(state, WORDS)
    with opened(URLS, banned=lambda sha256, _: sha256 == KEPT.origin.sha256) as state:
        assert work(state, WORDS) == ["https://a.org/1.mp4"]


def test_a_pin_holds_for_all_of_a_speaker_and_two_pins_are_an_error(opened):
    text = "source,speaker_id,split\n/a.mp4,x,test\n/b.mp4,x,\n"
    with opened(text) as state:
        work(state, {"/a.mp4": KEPT, "/b.mp4": GONE})
        assert [source.split for source, _ in state.outcomes()] == ["test", "test"]
    with pytest.raises(InputError, match="pins speaker x to test and to train"):
        opened(text + "/c.mp4,x,train\n")


def test_a_second_run_in_the_same_folder_is_refused(opened, tmp_path):
    with opened(URLS), pytest.raises(InputError, match="another download works in this folder"):
        State(tmp_path / "l" / "state.sqlite", key="k", present=lambda _: True)


@pytest.mark.parametrize("garbage", [b"no database at all" * 100, b""])
def test_a_file_that_cannot_be_read_is_begun_anew(opened, tmp_path, garbage, caplog):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "state.sqlite").write_bytes(garbage)
    with opened(URLS) as state:
        assert state.waiting == 2
    assert ("begun anew" in caplog.text) == bool(garbage)


def test_a_file_of_another_version_is_begun_anew(opened, tmp_path):
    with opened(URLS) as state:
        work(state, WORDS)
    file = Path(tmp_path / "l" / "state.sqlite")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE meta SET value = '0' WHERE name = 'version'")
    with opened(URLS) as state:
        assert state.waiting == 2


def test_what_failed_before_waits_behind_what_was_never_asked_for(opened):
    """Or links that are refused for ever would keep a host's good ones from their turn."""
    text = "source\nhttps://a.org/1.mp4\nhttps://a.org/2.mp4\nhttps://a.org/3.mp4\n"
    first, second, third = (f"https://a.org/{number}.mp4" for number in (1, 2, 3))
    paused = Result("host_paused", "too often")
    with opened(text) as state:
        work(state, {first: Result("forbidden", "403"), second: paused, third: paused})
    with opened(text) as state:
        assert work(state, {first: KEPT, second: KEPT, third: KEPT}) == [second, third, first]


def test_a_time_to_wait_for_does_not_outlive_the_run(opened):
    with opened("source\nhttps://a.org/1.mp4\n") as state:
        job = state.take("a.org")
        state.finish(job, {}, [])
        state.retry(job, not_before=1e12, received=0)
    with opened("source\nhttps://a.org/1.mp4\n") as state:
        assert state.ready_at("a.org") == 0.0


def test_a_failure_under_another_base_is_asked_for_again(opened, tmp_path):
    text = "source\na.mp4\nb.mp4\n"
    with opened(text, base="https://wrong.org") as state:
        work(state, {"https://wrong.org/a.mp4": GONE, "https://wrong.org/b.mp4": KEPT})
    with opened(text, base="https://right.org") as state:
        assert work(state, {"https://right.org/a.mp4": KEPT}) == ["https://right.org/a.mp4"]


def test_a_folder_that_cannot_hold_the_file_is_told_and_nothing_is_deleted(opened, tmp_path):
    (tmp_path / "l" / "state.sqlite").mkdir(parents=True)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        opened(URLS)
