"""Pairs of clips that show the same footage, found once for each clip and kept."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mssync import records, versions
from mssync.selection import duplicates
from mssync.selection.evidence import Evidence
from mssync.timing import frame_time_s

_CODE = ("selection/duplicates.py", "selection/fingerprints.py")
_COMPARED = "compared.parquet"


class Pair(NamedTuple):
    """Two clips with a stretch in common.

    Attributes:
        first: Id of one.
        second: Id of the other; later in the alphabet.
        kind: `audio`, or `motion` where the faces move alike.
        overlap_s: How long the stretch is.
        similarity: Share of the fingerprints' bits that agree over it.
    """

    first: str
    second: str
    kind: str
    overlap_s: float
    similarity: float

    def other(self, clip: str) -> str:
        """The clip that it is not."""
        return self.second if clip == self.first else self.first

    def __str__(self) -> str:
        what = "sound" if self.kind == "audio" else "movement"
        return (
            f"{self.first} and {self.second} share {self.overlap_s:.1f} s of {what} "
            f"({self.similarity:.0%} alike)"
        )


def pairs(evidence: Mapping[str, Evidence], *, cache: Path) -> list[Pair]:
    """All pairs, sorted; only clips that were not compared before are looked up.

    Args:
        evidence: Of every clip.
        cache: Folder of what was found before; written to.
    """
    clips = sorted(evidence)
    numbers = {evidence[clip].content: number for number, clip in enumerate(clips)}
    key = versions.source_digest(*_CODE)
    path = cache / _COMPARED
    found = list[Pair]()
    new_N = np.ones(len(clips), bool)
    if records.read_metadata(path).get("key") == key:
        rows = records.read(path, records.COMPARED)
        new_N[[numbers[row["content"]] for row in rows if row["content"] in numbers]] = False
        found += _known(rows, {content: clips[number] for content, number in numbers.items()})
    if not new_N.any():
        return sorted(found)
    found = sorted({*found, *_found(clips, evidence, new_N)})
    records.write(path, _rows(clips, evidence, found), records.COMPARED, metadata={"key": key})
    return found


def _found(
    clips: list[str], evidence: Mapping[str, Evidence], new_N: NDArray[np.bool_]
) -> Iterator[Pair]:
    for kind, words in (
        (duplicates.SOUND, [evidence[clip].sound_words_T for clip in clips]),
        (duplicates.MOTION, [evidence[clip].motion_words_T for clip in clips]),
    ):
        for match in duplicates.find(words, new_N, kind):
            yield Pair(
                clips[match.first],
                clips[match.second],
                kind.name,
                frame_time_s(match.ticks),
                1 - match.error,
            )


def _known(rows: list[records.Row], clips: Mapping[str, str]) -> Iterator[Pair]:
    for row in rows:
        for other, kind, overlap_s, similarity in zip(
            row["others"], row["kinds"], row["overlaps_s"], row["similarities"], strict=True
        ):
            if row["content"] in clips and other in clips:
                first, second = sorted((clips[row["content"]], clips[other]))
                yield Pair(first, second, kind, overlap_s, similarity)


def _rows(
    clips: list[str], evidence: Mapping[str, Evidence], found: list[Pair]
) -> Iterator[records.Row]:
    by_first = dict[str, list[Pair]]()
    for pair in found:
        by_first.setdefault(pair.first, []).append(pair)
    for clip in clips:
        mine = by_first.get(clip, [])
        yield {
            "content": evidence[clip].content,
            "others": [evidence[pair.second].content for pair in mine],
            "kinds": [pair.kind for pair in mine],
            "overlaps_s": [pair.overlap_s for pair in mine],
            "similarities": [pair.similarity for pair in mine],
        }
