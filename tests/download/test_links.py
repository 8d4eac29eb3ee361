from mssync.download.links import DEAD, UNSURE, decay
from mssync.ledger import Attempt
from mssync.reasons import DOWNLOAD


def attempt(run, clip, outcome):
    return Attempt(clip, 0.0, 0.1, outcome, run=run)


def test_decay_is_told_run_by_run():
    attempts = [
        attempt("1", "a", "done"),
        attempt("1", "b", "done"),
        attempt("1", "c", "timeout"),
        attempt("2", "c", "not_a_video"),
        attempt("3", "a", "gone"),
        attempt("3", "b", "private"),
    ]
    first, second, third = decay(attempts, ["a", "b", "c"])
    assert (first.run, first.asked, first.alive, first.unsure, first.dead) == ("1", 3, 2, 1, {})
    assert (second.asked, second.alive, second.unsure) == (1, 3, 0)
    assert (third.alive, third.dead, third.known) == (1, {"gone": 1, "private": 1}, 3)


def test_a_failure_that_passes_does_not_bury_a_link():
    attempts = [attempt("1", "a", "done"), attempt("2", "a", "timeout")]
    assert [census.alive for census in decay(attempts, ["a"])] == [1, 1]


def test_clips_that_are_not_listed_any_more_do_not_count():
    attempts = [attempt("1", "a", "gone"), attempt("1", "b", "done")]
    (census,) = decay(attempts, ["b"])
    assert (census.known, census.dead) == (1, {})


def test_a_link_is_dead_or_unsure_by_known_reasons():
    assert set(DOWNLOAD) >= DEAD | UNSURE
    assert not DEAD & UNSURE
