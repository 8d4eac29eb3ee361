"""Which speakers are trained on and which are held out: no speaker is ever in two splits."""

from collections import Counter
from collections.abc import Iterable, Mapping

from mssync.records import digest

SPLITS = ("train", "val", "test")
_SALTS_TRIED = 200


def split_speakers(
    pinned: Mapping[str, str], *, salt: str, val_ratio: float, test_ratio: float
) -> dict[str, str]:
    """A split for every speaker.

    A free speaker's place is a threshold on SHA-256 of salt and name, so that nobody moves when
    others join or leave.

    Args:
        pinned: Speaker -> split, empty where the split is free.
        salt: Another one draws other places.
        val_ratio: Share of the free speakers for validation.
        test_ratio: Share of the free speakers for the test.

    Raises:
        ValueError: If a wanted split is left empty. The message names the salt, and one that fills
            every split where there is one.
    """
    splits = {
        speaker: split or _place(salt, speaker, val_ratio, test_ratio)
        for speaker, split in pinned.items()
    }
    empty = _empty(splits.values(), val_ratio, test_ratio)
    if empty:
        raise ValueError(_explain(empty[0], pinned, salt, val_ratio, test_ratio))
    return splits


def _place(salt: str, speaker: str, val_ratio: float, test_ratio: float) -> str:
    place = int(digest(salt, speaker)[:16], 16) / 16**16
    return "test" if place < test_ratio else "val" if place < test_ratio + val_ratio else "train"


def _empty(splits: Iterable[str], val_ratio: float, test_ratio: float) -> list[str]:
    """Wanted splits that nobody is in."""
    ratios = {"train": 1.0, "val": val_ratio, "test": test_ratio}
    taken = set(splits)
    return [split for split in SPLITS if ratios[split] and split not in taken]


def _explain(
    empty: str, pinned: Mapping[str, str], salt: str, val_ratio: float, test_ratio: float
) -> str:
    def drawn(salt: str) -> Counter[str]:
        return Counter(
            split or _place(salt, name, val_ratio, test_ratio) for name, split in pinned.items()
        )

    places = drawn(salt)
    message = (
        f"with the salt {salt!r} no speaker of {len(pinned)} falls into {empty} ("
        + ", ".join(f"{split} {places[split]}" for split in SPLITS)
        + ")"
    )
    for number in range(_SALTS_TRIED):
        other = drawn(str(number))
        if not _empty(other, val_ratio, test_ratio):
            shares = ", ".join(f"{split} {other[split]}" for split in SPLITS)
            return f"{message}; the salt '{number}' gives {shares}"
    return f"{message}, nor with {_SALTS_TRIED} others"
