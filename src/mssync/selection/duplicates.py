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

# These bound memory.
_NEW_AT_A_TIME = 500
_HITS_AT_A_TIME = 2_000_000
_COMPARED_AT_A_TIME = 20_000
# Words that lie nearer are nearly the same word.
_APART_TICKS = 4
# A glance at every so many ticks, and how much worse than the whole it may look.
_GLANCE_TICKS = 4
_GLANCE_ERROR = 0.1
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
SOUND = Kind("audio", SOUND_BITS, 20, (20, 50), (0.18, 0.27))
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
    """The words of all clips, and a sorted list of those that new clips have.

    Attributes:
        word_S: All words.
        start_N: Where each clip begins among them.
        length_N: Its length.
    """

    def __init__(
        self, words: Sequence[NDArray[np.uint32]], new_N: NDArray[np.bool_], kind: Kind
    ) -> None:
        self.length_N = np.array([len(clip) for clip in words], dtype=np.int64)
        self.start_N = np.cumsum(self.length_N) - self.length_N
        self.word_S = np.concatenate(words)
        self._new_N = new_N
        self._mask = np.uint32((1 << kind.lookup_bits) - 1)
        asked = np.zeros(1 << kind.lookup_bits, bool)
        new_S = np.repeat(new_N, self.length_N) & (self.word_S != NO_WORD)
        asked[self.word_S[new_S] & self._mask] = True
        place_S = np.flatnonzero((self.word_S != NO_WORD) & asked[self.word_S & self._mask])
        key_S = self.word_S[place_S] & self._mask
        self._place_S = place_S[np.argsort(key_S, kind="stable")].astype(np.int32)
        clip_S = np.repeat(np.arange(len(words), dtype=np.int32), self.length_N)
        self._clip_S = clip_S[self._place_S]
        # places of a word are those from its number in this table to the next
        count_K = np.bincount(key_S, minlength=len(asked))
        self._end_K = np.cumsum(count_K, dtype=np.int32)
        count_K[count_K > _COMMON] = 0
        self._count_K = count_K.astype(np.int16)

    def candidates(self) -> Iterator[_Candidates]:
        """Pairs of which a new clip shares words with another at one distance."""
        longest = int(self.length_N.max()) + 1
        # a clip, another, a distance and a tick are one number
        most = (1 << 62) // (len(self.length_N) * 2 * longest * longest)
        new = np.flatnonzero(self._new_N)
        for start in range(0, len(new), min(most, _NEW_AT_A_TIME)):
            some = new[start : start + min(most, _NEW_AT_A_TIME)]
            for clips in self._in_bounds(some):
                yield _agreeing(self._hits(clips, longest), clips, len(self.length_N), longest)

    def _in_bounds(self, clips: Numbers) -> Iterator[Numbers]:
        """The clips in groups that share few words with others."""
        among_Q, _, key_Q = self._spread(clips)
        hits = np.cumsum(np.bincount(among_Q, self._count_K[key_Q], len(clips)))
        yield from np.split(clips, np.flatnonzero(np.diff(hits // _HITS_AT_A_TIME)) + 1)

    def _hits(self, clips: Numbers, longest: int) -> Numbers:
        """Every word of some clips in every other clip, as a number each, sorted.

        A pair of new clips is found from the one with the larger number only.
        """
        among_Q, tick_Q, key_Q = self._spread(clips)
        count_Q = self._count_K[key_Q].astype(np.int64)
        query_H = np.repeat(np.arange(len(count_Q)), count_Q)
        within_H = np.arange(len(query_H)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
        at_H = (self._end_K[key_Q] - count_Q)[query_H] + within_H
        other_H, one_H = self._clip_S[at_H], clips[among_Q[query_H]]
        wanted = np.flatnonzero(((other_H < one_H) | ~self._new_N[other_H]) & (other_H != one_H))
        query_H, other_H = query_H[wanted], other_H[wanted].astype(np.int64)
        place_H, tick_H = self._place_S[at_H[wanted]], tick_Q[query_H]
        distance_H = place_H - self.start_N[other_H] - tick_H + longest
        pair_H = among_Q[query_H] * len(self.length_N) + other_H
        return np.sort((pair_H * (2 * longest) + distance_H) * longest + tick_H)

    def compare(self, pairs: _Candidates, *, step: int = 1) -> tuple[Numbers, Numbers]:
        """Words that both clips have over the common stretch, and bits in which they differ.

        Args:
            pairs: To compare.
            step: Look at every so many ticks.
        """
        one_C, other_C, distance_C = pairs
        first_C = np.maximum(0, -distance_C)
        end_C = np.minimum(self.length_N[one_C], self.length_N[other_C] - distance_C)
        length_C = -(np.minimum(0, first_C - end_C) // step)
        pair_S = np.repeat(np.arange(len(one_C)), length_C)
        within_S = np.arange(len(pair_S)) - np.repeat(np.cumsum(length_C) - length_C, length_C)
        tick_S = first_C[pair_S] + step * within_S
        a_S = self.word_S[self.start_N[one_C[pair_S]] + tick_S]
        b_S = self.word_S[self.start_N[other_C[pair_S]] + tick_S + distance_C[pair_S]]
        both_S = (a_S != NO_WORD) & (b_S != NO_WORD)
        wrong_S = np.where(both_S, np.bitwise_count(a_S ^ b_S), 0)
        ticks_C = np.bincount(pair_S, both_S, len(one_C)).astype(np.int64)
        return ticks_C, np.bincount(pair_S, wrong_S, len(one_C)).astype(np.int64)

    def _spread(self, clips: Numbers) -> tuple[Numbers, Numbers, NDArray[np.uint32]]:
        """Number of the clip among them, tick and what is looked up of every word of some clips."""
        length = self.length_N[clips]
        among_Q = np.repeat(np.arange(len(clips)), length)
        tick_Q = np.arange(len(among_Q)) - np.repeat(np.cumsum(length) - length, length)
        word_Q = self.word_S[self.start_N[clips[among_Q]] + tick_Q]
        said = np.flatnonzero(word_Q != NO_WORD)
        return among_Q[said], tick_Q[said], word_Q[said] & self._mask


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
    index = _Words(words, new_N, kind)
    best = dict[tuple[int, int], Match]()
    for candidates in index.candidates():
        for pairs in _in_pieces(_promising(index, candidates, kind)):
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


def _promising(index: _Words, candidates: _Candidates, kind: Kind) -> _Candidates:
    """The candidates that a glance does not rule out."""
    kept = list[NDArray[np.bool_]]()
    for pairs in _in_pieces(candidates):
        ticks_C, wrong_C = index.compare(pairs, step=_GLANCE_TICKS)
        worst = kind.bits * (max(kind.max_error) + _GLANCE_ERROR)
        kept.append((wrong_C <= worst * ticks_C) & (ticks_C > 0))
    chosen = np.concatenate(kept) if kept else np.zeros(0, bool)
    return _Candidates(*(column[chosen] for column in candidates))


def _agreeing(hits_H: Numbers, clips: Numbers, count: int, longest: int) -> _Candidates:
    """Pairs and distances that hits agree on, give or take a tick, which lie far enough apart."""
    at_H, tick_H = np.divmod(hits_H, longest)
    run_R = np.flatnonzero(np.diff(at_H, prepend=-2) > 1)
    if not len(run_R):
        return _Candidates(*np.zeros((3, 0), np.int64))
    span_R = np.maximum.reduceat(tick_H, run_R) - np.minimum.reduceat(tick_H, run_R)
    length_R = np.diff(run_R, append=len(at_H))
    chosen = np.unique(at_H[np.repeat(span_R >= _APART_TICKS, length_R)])
    pair_C, distance_C = np.divmod(chosen, 2 * longest)
    among_C, other_C = np.divmod(pair_C, count)
    return _Candidates(clips[among_C], other_C, distance_C - longest)


def _in_pieces(pairs: _Candidates) -> Iterator[_Candidates]:
    for start in range(0, len(pairs.one_C), _COMPARED_AT_A_TIME):
        piece = slice(start, start + _COMPARED_AT_A_TIME)
        yield _Candidates(*(column[piece] for column in pairs))
