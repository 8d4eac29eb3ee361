"""Versions of a dataset, and what tells two of them apart, as text."""

from collections.abc import Mapping, Sequence
from typing import Protocol

_TITLES = {
    "added": "added",
    "removed": "removed",
    "decided": "decided otherwise",
    "changed": "of other content",
    "moved": "MOVED TO ANOTHER SPLIT",
}


class Entry(Protocol):
    """A clip and what became of it."""

    @property
    def clip_id(self) -> str:
        """The clip."""

    @property
    def what(self) -> str:
        """One sentence."""


def listing(versions: Sequence[tuple[str, Mapping[str, float | str]]]) -> str:
    """Revision and facts of each version, the oldest first."""
    names = list(versions[0][1]) if versions else []
    lines = [f"{'revision':<14}" + "".join(f"{name:>14}" for name in names)]
    for revision, facts in versions:
        lines.append(f"{revision[:12]:<14}" + "".join(f"{facts[name]!s:>14}" for name in names))
    return "\n".join(lines)


def difference(groups: Mapping[str, Sequence[Entry]], same: int, *, most: int) -> str:
    """How many clips of each kind, and their names.

    Args:
        groups: Clips by what became of them: `added`, `removed`, `decided`, `changed`, `moved`.
        same: Clips that are as they were.
        most: Names of each group that are printed.
    """
    lines = [f"{same:>8}  as they were"]
    for name, entries in groups.items():
        lines.append(f"{len(entries):>8}  {_TITLES[name]}")
        lines += [f"          {entry.clip_id}  {entry.what}" for entry in entries[:most]]
        if len(entries) > most:
            lines.append(f"          and {len(entries) - most} more (--list {len(entries)})")
    return "\n".join(lines)
