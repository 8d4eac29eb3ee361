from mssync.selection.footage import Pair
from mssync.selection.leaks import settle

SPLITS = {"a": "train", "b": "test", "c": "train", "d": "val", "e": "train"}


def pair(first, second):
    return Pair(first, second, "audio", 3.0, 0.9)


def test_a_newcomer_gives_way_to_a_clip_of_the_version_before():
    for known, expected in (({"a"}, "b"), ({"b"}, "a")):
        leaks = settle([pair("a", "b")], SPLITS, known)
        assert leaks.quarantined == {expected: pair("a", "b")}
        assert leaks.standing == []


def test_pairs_in_one_split_are_no_leak():
    assert settle([pair("a", "c")], SPLITS, {"a"}) == ({}, [])


def test_clips_that_are_not_kept_do_not_count():
    assert settle([pair("a", "x"), pair("x", "b")], SPLITS, set()) == ({}, [])


def test_two_clips_of_the_version_before_are_told_and_none_is_dropped():
    leaks = settle([pair("a", "b"), pair("c", "d")], SPLITS, {"a", "b", "c"})
    assert leaks.standing == [pair("a", "b")]
    assert set(leaks.quarantined) == {"d"}


def test_a_newcomer_that_bridges_two_splits_is_left_out():
    """It is like a clip that is trained on, and like one that is held out."""
    leaks = settle([pair("a", "e"), pair("b", "e")], SPLITS, {"a", "b"})
    assert set(leaks.quarantined) == {"e"}
    assert leaks.standing == []


def test_between_newcomers_the_one_with_most_partners_gives_way_then_the_one_trained_on():
    pairs = [pair("a", "b"), pair("b", "c"), pair("b", "e")]
    assert set(settle(pairs, SPLITS, set()).quarantined) == {"b"}
    assert set(settle(pairs[:1], SPLITS, set()).quarantined) == {"a"}


def test_nothing_across_splits_is_left():
    pairs = [pair(x, y) for x in "abcde" for y in "abcde" if x < y]
    gone = set(settle(pairs, SPLITS, set()).quarantined)
    left = {SPLITS[clip] for clip in SPLITS if clip not in gone}
    assert len(left) == 1


def test_a_newcomer_that_gives_way_to_an_old_clip_is_no_cause_for_another():
    pairs = [pair("a", "b"), pair("b", "c")]
    assert set(settle(pairs, SPLITS, {"a"}).quarantined) == {"b"}
