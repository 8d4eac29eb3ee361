"""Finding pairs among made-up fingerprints."""

import numpy as np
import pytest

from mssync.selection.duplicates import MOTION, SOUND, find
from mssync.selection.fingerprints import NO_WORD

VALID = np.uint32(1 << 31)


def clip(rng, kind, ticks=150):
    return rng.integers(0, 1 << kind.bits, ticks, dtype=np.uint32) | VALID


def spoiled(rng, words, kind, share):
    """The same words with a share of their bits turned."""
    turned = rng.random((len(words), kind.bits)) < share
    flips = (turned << np.arange(kind.bits)).sum(axis=1).astype(np.uint32)
    return np.where(words == NO_WORD, words, words ^ flips)


def everyone(clips):
    return np.ones(len(clips), bool)


def pairs(matches):
    return [(match.first, match.second) for match in matches]


@pytest.mark.parametrize("kind", [SOUND, MOTION], ids=lambda kind: kind.name)
def test_a_spoiled_piece_is_found_with_its_length_and_error(kind):
    rng = np.random.default_rng(0)
    clips = [clip(rng, kind) for _ in range(20)]
    clips[7] = np.concatenate([clip(rng, kind, 30), spoiled(rng, clips[3][20:110], kind, 0.05)])
    (match,) = find(clips, everyone(clips), kind)
    assert (match.first, match.second) == (3, 7)
    # around the piece the rest of both is compared too: it has 0.5
    assert match.ticks == 110
    assert 0.05 < match.error < 0.15


def test_too_short_a_piece_and_too_many_errors_are_no_match():
    rng = np.random.default_rng(0)
    one = clip(rng, SOUND)
    for other in (one[:15], spoiled(rng, one, SOUND, 0.4)):
        assert find([one, other], everyone([one, other]), SOUND) == []


def test_a_short_piece_must_fit_better():
    rng = np.random.default_rng(0)
    one = clip(rng, MOTION)
    for ticks, expected in ((25, []), (150, [(0, 1)])):
        both = [one, spoiled(rng, one[:ticks], MOTION, 0.13)]
        assert pairs(find(both, everyone(both), MOTION)) == expected


def test_pairs_found_in_two_runs_are_those_of_one():
    rng = np.random.default_rng(0)
    clips = [clip(rng, SOUND) for _ in range(30)]
    for copy, original in ((11, 2), (25, 2), (26, 25), (12, 20)):
        clips[copy] = spoiled(rng, clips[original], SOUND, 0.02)
    first = np.arange(30) < 15
    at_once = find(clips, everyone(clips), SOUND)
    before = find(clips[:15], everyone(clips[:15]), SOUND)
    after = find(clips, ~first, SOUND)
    assert pairs(at_once) == sorted({*pairs(before), *pairs(after)})
    assert {(2, 11), (2, 25), (25, 26), (12, 20), (11, 25)} <= set(pairs(at_once))


def test_nothing_new_asks_for_nothing():
    clips = [clip(np.random.default_rng(0), SOUND)] * 2
    assert find(clips, np.zeros(2, bool), SOUND) == []
    assert find([], np.zeros(0, bool), SOUND) == []


def test_the_order_of_the_clips_changes_nothing():
    rng = np.random.default_rng(0)
    clips = [clip(rng, MOTION) for _ in range(10)]
    clips[8] = spoiled(rng, clips[1], MOTION, 0.05)
    (there,) = find(clips, everyone(clips), MOTION)
    (back,) = find(clips[::-1], everyone(clips), MOTION)
    assert (there.ticks, there.error) == (back.ticks, back.error)


def test_a_word_that_very_many_clips_share_is_passed_over():
    rng = np.random.default_rng(0)
    hum = np.full(60, 5, np.uint32) | VALID
    clips = [np.concatenate([clip(rng, SOUND, 20), hum]) for _ in range(40)]
    assert find(clips, everyone(clips), SOUND) == []


def test_clips_without_words_match_nothing():
    empty = [np.full(100, NO_WORD, np.uint32), np.full(100, NO_WORD, np.uint32)]
    assert find(empty, everyone(empty), SOUND) == []
