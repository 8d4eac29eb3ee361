import math

import pytest

from mssync.errors import InputError
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Attempt,
    Decision,
    append_attempts,
    changes,
    funnel,
    read_decisions,
    write_decisions,
)
from mssync.records import read


def test_decisions_come_back_sorted_with_every_score(tmp_path):
    path = tmp_path / DECISIONS
    write_decisions(
        path, [Decision("b", "gone", "404"), Decision("a", scores={"frames": 3.0})], ["frames"]
    )
    first, second = read_decisions(path)
    assert (first.clip_id, first.kept, first.scores["frames"]) == ("a", True, 3.0)
    assert (second.clip_id, second.reason, second.detail) == ("b", "gone", "404")
    assert math.isnan(second.scores["frames"])


def test_the_same_decisions_make_the_same_file(tmp_path):
    decisions = [Decision("a"), Decision("b", "gone", "404")]
    write_decisions(tmp_path / "1", decisions, [])
    write_decisions(tmp_path / "2", decisions[::-1], [])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_clip_is_decided_once(tmp_path):
    with pytest.raises(ValueError, match="more than once"):
        write_decisions(tmp_path / DECISIONS, [Decision("a"), Decision("a")], [])


def test_attempts_grow(tmp_path):
    path = tmp_path / ATTEMPTS
    append_attempts(path, [Attempt("a", 1.0, 0.5, "connection", "refused")])
    append_attempts(path, [Attempt("a", 2.0, 0.5, "done")])
    assert [row["outcome"] for row in read(path, None)] == ["connection", "done"]


def test_the_funnel_counts_rejections_by_reason(tmp_path):
    decisions = [Decision("a"), Decision("b", "gone"), Decision("c", "gone"), Decision("d", "geo")]
    write_decisions(tmp_path / "download_videos" / DECISIONS, decisions, [])
    (step,) = funnel(tmp_path, ["download_videos", "extract_audio"])
    assert (step.clips_in, step.clips_out) == (4, 1)
    assert list(step.reasons.items()) == [("gone", 2), ("geo", 1)]


def test_a_missing_file_says_which_stage_to_run(tmp_path):
    with pytest.raises(InputError, match="does not exist: the stage before this one writes it"):
        read_decisions(tmp_path / DECISIONS)


def test_changes_are_clips_that_both_decide_on_otherwise():
    before = [Decision("a"), Decision("b", "blurred", "old"), Decision("c", "silent", "old")]
    after = [Decision("a", "noisy", "new"), Decision("b"), Decision("c", "silent", "new")]
    found = changes(before, [*after, Decision("d", "noisy", "not known before")])
    assert [(change.clip_id, change.before, change.after, change.detail) for change in found] == [
        ("a", "", "noisy", "new"),
        ("b", "blurred", "", ""),
    ]
