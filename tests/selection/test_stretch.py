import numpy as np
import pytest

from mssync.selection.stretch import Stretch, longest_stretch, shot_starts


def stretch(text, gap=2):
    """`x` found, `.` lost; `|` before a tick begins another piece."""
    found, breaks, split = [], [], False
    for letter in text:
        if letter == "|":
            split = True
            continue
        found.append(letter == "x")
        breaks.append(split)
        split = False
    return longest_stretch(np.array(found, bool), np.array(breaks, bool), max_gap_frames=gap)


@pytest.mark.parametrize(
    ("text", "first", "frames"),
    [
        ("xxxxx", 0, 5),
        ("..xxx..", 2, 3),
        ("xx..xx", 0, 6),
        ("xx...xxx", 5, 3),
        ("xx...xx", 0, 2),
        ("xx|xxxx|x", 2, 4),
        ("xx.|.xxxx", 4, 4),
        ("x..x..x", 0, 7),
        ("......", 0, 0),
        ("", 0, 0),
        (".x.", 1, 1),
    ],
)
def test_the_longest_piece_begins_and_ends_on_found_ticks(text, first, frames):
    assert stretch(text) == Stretch(first, frames)


def test_a_break_holds_though_the_ticks_at_it_are_lost():
    assert stretch("xxx.|.xx", gap=5) == Stretch(0, 3)


def test_without_any_gap_every_lost_tick_divides():
    assert stretch("xx.xxx", gap=0) == Stretch(3, 3)


def test_a_shot_starts_where_its_number_changes_and_never_at_the_first_tick():
    assert shot_starts(np.array([4, 4, 5, 5, 9], np.int16)).nonzero()[0].tolist() == [2, 4]
    assert not shot_starts(np.zeros(0, np.int16)).any()


def test_ticks_and_rows_of_a_stretch_begin_at_the_same_time():
    assert Stretch(3, 2).ticks() == slice(3, 5)
    assert Stretch(3, 2).ticks(4) == slice(12, 20)
