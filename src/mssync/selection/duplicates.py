"""Which clips show the same footage? Pairs of clips that share words at one distance in time.

Built for 100 000 clips of some seconds: one sorted array of all words, and only clips that are new
are looked up in it. Words that very many clips share are passed over.

Axes: N clips, S words of all clips end to end, H hits (one word in two clips), C candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mssync.selection.fingerprints import MOTION_BITS, NO_WORD, SOUND_BITS

_NEW_AT_A_TIME = 500
_COMPARED_AT_A_TIME = 20_000
_COMMON = 500  # a word in more places than these says little

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """How words of one kind are compared.

    Attributes:
        name: What they are of.
        bits: Bits of a word.
        lookup_bits: Bits of which all must be the same in two words of a pair: fewer find pairs
            that differ more, and take longer.
        ticks: Lengths of a common stretch; the first is the least.
        max_error: For each length the largest share of bits that differ, linear between them: a
            short stretch must fit better, because more of those are alike by chance.
    """

    name: str
    bits: int
    lookup_bits: int
    ticks: tuple[int, ...]
    max_error: tuple[float, ...]


# Measured on real clips that were encoded anew, trimmed, scaled and mirrored: docs/benchmarks.md.
SOUND = Kind("audio", SOUND_BITS, SOUND_BITS, (20, 50), (0.18, 0.27))
MOTION = Kind("motion", MOTION_BITS, 16, (20, 44, 75), (0.08, 0.15, 0.22))


class Match(NamedTuple):
    """Two clips with a stretch in common.

    Attributes:
        first: Number of one clip.
        second: Number of the other, larger.
        ticks: How long the common stretch is, in ticks that have a word in both.
        error: Share of bits in which the words of the stretch differ; 0.5 by chance.
    """

    first: int
    second: int
    ticks: int
    error: float


class _Candidates(NamedTuple):
    """Pairs to compare.

    Attributes:
        one_C: A new clip.
        other_C: Another clip.
        distance_C: Tick of the other less that of the new one, where they may show the same.
    """

    one_C: Numbers
    other_C: Numbers
    distance_C: Numbers


class _Words:
    """The words of all clips, and the sorted part of them that is looked up.

    Attributes:
        word_S: All words.
        start_N: Where each clip begins among them.
        length_N: Its length.
    """

    def __init__(self, words: Sequence[NDArray[np.uint32]], mask: int) -> None:
        self.length_N = np.array([len(clip) for clip in words], dtype=np.int64)
        self.start_N = np.cumsum(self.length_N) - self.length_N
        self.word_S = np.concatenate(words)
        self._mask = np.uint32(mask)
        place_S = np.flatnonzero(self.word_S != NO_WORD)
        key_S = self.word_S[place_S] & self._mask
        order = np.argsort(key_S, kind="stable")
        self._key_S, self._place_S = key_S[order], place_S[order].astype(np.int32)

    def hits(self, asked: Numbers, new_N: NDArray[np.bool_]) -> _Candidates:
        """Every word of some new clips in every other clip.

        A pair of new clips is found from the one with the larger number only.
        """
        clip_Q, tick_Q, place_Q = self._spread(asked)
        said = self.word_S[place_Q] != NO_WORD
        clip_Q, tick_Q, key_Q = clip_Q[said], tick_Q[said], self.word_S[place_Q[said]] & self._mask
        left_Q = np.searchsorted(self._key_S, key_Q, side="left")
        count_Q = np.searchsorted(self._key_S, key_Q, side="right") - left_Q
        count_Q[count_Q > _COMMON] = 0
        query_H = np.repeat(np.arange(len(count_Q)), count_Q)
        within_H = np.arange(len(query_H)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
        place_H = self._place_S[left_Q[query_H] + within_H].astype(np.int64)
        other_H = np.searchsorted(self.start_N, place_H, side="right") - 1
        one_H = clip_Q[query_H]
        wanted = ((other_H < one_H) | ~new_N[other_H]) & (other_H != one_H)
        place_H, query_H = place_H[wanted], query_H[wanted]
        one_H, other_H = one_H[wanted], other_H[wanted]
        distance_H = place_H - self.start_N[other_H] - tick_Q[query_H]
        return _Candidates(one_H, other_H, distance_H)

    def compare(self, pairs: _Candidates) -> tuple[Numbers, Numbers]:
        """Words that both clips have over the common stretch, and bits in which they differ."""
        one_C, other_C, distance_C = pairs
        first_C = np.maximum(0, -distance_C)
        end_C = np.minimum(self.length_N[one_C], self.length_N[other_C] - distance_C)
        length_C = np.maximum(0, end_C - first_C)
        pair_S = np.repeat(np.arange(len(one_C)), length_C)
        within_S = np.arange(len(pair_S)) - np.repeat(np.cumsum(length_C) - length_C, length_C)
        tick_S = first_C[pair_S] + within_S
        a_S = self.word_S[self.start_N[one_C[pair_S]] + tick_S]
        b_S = self.word_S[self.start_N[other_C[pair_S]] + tick_S + distance_C[pair_S]]
        both_S = (a_S != NO_WORD) & (b_S != NO_WORD)
        wrong_S = np.where(both_S, np.bitwise_count(a_S ^ b_S), 0)
        ticks_C = np.bincount(pair_S, both_S, len(one_C)).astype(np.int64)
        return ticks_C, np.bincount(pair_S, wrong_S, len(one_C)).astype(np.int64)

    def _spread(self, clips: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Clip, tick and place of every word of some clips."""
        length = self.length_N[clips]
        clip_Q = np.repeat(clips, length)
        tick_Q = np.arange(len(clip_Q)) - np.repeat(np.cumsum(length) - length, length)
        return clip_Q, tick_Q, self.start_N[clip_Q] + tick_Q


def find(
    words: Sequence[NDArray[np.uint32]],
    new_N: NDArray[np.bool_],
    kind: Kind,
) -> list[Match]:
    """Pairs of clips of which at least one is new, sorted.

    Args:
        words: Words of each clip, as `mssync.selection.fingerprints` gives them.
        new_N: Clips to look up.
        kind: What the words are of.
    """
    if len(words) < 2 or not new_N.any():
        return []
    index = _Words(words, (1 << kind.lookup_bits) - 1)
    best = dict[tuple[int, int], Match]()
    numbers = np.flatnonzero(new_N)
    for start in range(0, len(numbers), _NEW_AT_A_TIME):
        hits = index.hits(numbers[start : start + _NEW_AT_A_TIME], new_N)
        for pairs in _in_pieces(_agreeing(hits)):
            ticks_C, wrong_C = index.compare(pairs)
            error_C = wrong_C / np.maximum(1, kind.bits * ticks_C)
            allowed_C = np.interp(ticks_C, kind.ticks, kind.max_error)
            good = np.flatnonzero((ticks_C >= kind.ticks[0]) & (error_C <= allowed_C))
            for c in good:
                one, other = sorted((int(pairs.one_C[c]), int(pairs.other_C[c])))
                match = Match(one, other, int(ticks_C[c]), float(error_C[c]))
                before = best.get((one, other))
                if before is None or match.error < before.error:
                    best[one, other] = match
    return sorted(best.values())


def _agreeing(hits: _Candidates) -> _Candidates:
    """Pairs and distances that two hits or more agree on, give or take a tick."""
    order = np.lexsort((hits.distance_C, hits.other_C, hits.one_C))
    one_H, other_H, distance_H = (column[order] for column in hits)
    agree_H = (
        (one_H[1:] == one_H[:-1])
        & (other_H[1:] == other_H[:-1])
        & (distance_H[1:] - distance_H[:-1] <= 1)
    )
    chosen = np.flatnonzero(agree_H)
    unique = np.unique(
        np.stack([one_H[chosen], other_H[chosen], distance_H[chosen]]), axis=1
    ).astype(np.int64)
    return _Candidates(*unique)


def _in_pieces(pairs: _Candidates) -> Iterator[_Candidates]:
    for start in range(0, len(pairs.one_C), _COMPARED_AT_A_TIME):
        piece = slice(start, start + _COMPARED_AT_A_TIME)
        yield _Candidates(*(column[piece] for column in pairs))
