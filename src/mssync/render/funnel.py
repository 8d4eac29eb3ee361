"""How many clips go through, and which ones another threshold would change, as text."""

from collections.abc import Iterable

from mssync.ledger import Change, Step

_KEPT = "kept"


def table(steps: Iterable[Step]) -> str:
    """Clips into and out of each stage, with the reasons of those that stay behind."""
    lines = [f"{'stage':<20}{'in':>6}{'out':>6}  rejected"]
    for step in steps:
        reasons = ", ".join(f"{reason} {count}" for reason, count in step.reasons.items())
        lines.append(f"{step.stage:<20}{step.clips_in:>6}{step.clips_out:>6}  {reasons}")
    return "\n".join(lines)


def differences(changes: Iterable[Change], *, names: bool) -> str:
    """How many clips go from which reason to which: those that are kept now first.

    Args:
        changes: Clips that are decided otherwise.
        names: Whether to name each of them, with why it is rejected now.
    """
    groups = dict[tuple[str, str], list[Change]]()
    for change in changes:
        groups.setdefault((change.before or _KEPT, change.after or _KEPT), []).append(change)
    if not groups:
        return "No clip is decided otherwise than in the ledger."
    lines = ["Decided otherwise than in the ledger:"]
    for (before, after), clips in sorted(groups.items(), key=_place):
        sign = "+" if after == _KEPT else "-" if before == _KEPT else " "
        lines.append(f"{f'{sign}{len(clips)}':>6}  {before} -> {after}")
        if names:
            lines += [f"        {clip.clip_id}{_because(clip)}" for clip in clips]
    return "\n".join(lines)


def _place(group: tuple[tuple[str, str], list[Change]]) -> tuple[int, int, tuple[str, str]]:
    (before, after), clips = group
    kind = 0 if after == _KEPT else 1 if before == _KEPT else 2
    return kind, -len(clips), (before, after)


def _because(change: Change) -> str:
    return f": {change.detail}" if change.detail else ""
