"""Which speakers are trained on and which are held out: no speaker is ever in two splits."""

import logging
from collections.abc import Mapping

from mssync.records import digest

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def split_speakers(
    pinned: Mapping[str, str], *, seed: int, val_ratio: float, test_ratio: float
) -> dict[str, str]:
    """A split for every speaker.

    A speaker's place is drawn from a hash of seed and name, so that speakers who join later move
    nobody. In small lists a wanted split may be left empty: the speaker nearest to it is moved, and
    goes back when a newcomer falls into it. Pin the speakers of small lists.

    Args:
        pinned: Speaker -> split, empty where the split is free.
        seed: Seed of the draw.
        val_ratio: Share of the free speakers for validation.
        test_ratio: Share of the free speakers for the test.

    Raises:
        ValueError: If there are too few speakers for every wanted split to have one.
    """
    splits = {speaker: split for speaker, split in pinned.items() if split}
    free = sorted((_draw(seed, speaker), speaker) for speaker, split in pinned.items() if not split)
    for place, speaker in free:
        splits[speaker] = (
            "test" if place < test_ratio else "val" if place < test_ratio + val_ratio else "train"
        )
    wanted = ["train"] + ["test"] * (test_ratio > 0) + ["val"] * (val_ratio > 0)
    for split in wanted:
        if split not in splits.values():
            _move_one(splits, free, split)
    return splits


def _move_one(splits: dict[str, str], free: list[tuple[float, str]], split: str) -> None:
    """Give an empty split the free speaker who is nearest and whom another split can spare."""
    nearest = reversed(free) if split == "train" else iter(free)
    for _, speaker in nearest:
        if list(splits.values()).count(splits[speaker]) > 1:
            logger.warning(
                "%s would be empty: %s is moved there from %s; pin speakers (column split) to keep "
                "them in place as the list grows",
                split,
                speaker,
                splits[speaker],
            )
            splits[speaker] = split
            return
    raise ValueError(
        f"{len(splits)} speakers are too few for disjoint splits: {split} would be empty"
    )


def _draw(seed: int, speaker: str) -> float:
    return int(digest(str(seed), speaker)[:16], 16) / 16**16
