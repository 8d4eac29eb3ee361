"""The same footage on both sides of a split: who gives way?

A newcomer never displaces a clip of an earlier version. Between newcomers the clip with the most
partners across splits gives way, then one that is trained on before one that is held out.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from mssync.selection.footage import Pair

_GIVES_WAY = {"train": 0, "val": 1, "test": 2}


class Leaks(NamedTuple):
    """What to do about pairs across splits.

    Attributes:
        quarantined: Newcomers that give way, each with the pair that is the cause.
        standing: Pairs of which both clips were in an earlier version.
    """

    quarantined: dict[str, Pair]
    standing: list[Pair]


def settle(pairs: Iterable[Pair], splits: Mapping[str, str], known: Collection[str]) -> Leaks:
    """Decide which clips give way.

    Args:
        pairs: Clips with footage in common; those that `splits` lacks do not count.
        splits: Split of each clip that is kept.
        known: Clips of the version before.
    """
    across = [
        pair
        for pair in pairs
        if pair.first in splits
        and pair.second in splits
        and splits[pair.first] != splits[pair.second]
    ]
    standing = [pair for pair in across if pair.first in known and pair.second in known]
    quarantined = dict[str, Pair]()
    for pair in across:
        old = [clip for clip in (pair.first, pair.second) if clip in known]
        if len(old) == 1:
            quarantined.setdefault(pair.other(old[0]), pair)
    fresh = [pair for pair in across if not {pair.first, pair.second} & {*known, *quarantined}]
    return Leaks(quarantined | _between_newcomers(fresh, splits), standing)


def _between_newcomers(pairs: Iterable[Pair], splits: Mapping[str, str]) -> dict[str, Pair]:
    partners = defaultdict[str, dict[str, Pair]](dict)
    for pair in pairs:
        partners[pair.first][pair.second] = pair
        partners[pair.second][pair.first] = pair
    quarantined = dict[str, Pair]()
    while partners:
        clip = min(partners, key=lambda c: (-len(partners[c]), _GIVES_WAY[splits[c]], c))
        causes = partners.pop(clip)
        quarantined[clip] = causes[min(causes)]
        for other in causes:
            del partners[other][clip]
            if not partners[other]:
                del partners[other]
    return quarantined
