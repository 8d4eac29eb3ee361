"""What came of repeating a run, for a terminal."""

from collections.abc import Mapping
from typing import Any

_MOST = 10


def summary(found: Mapping[str, Any]) -> str:
    """The result in some lines, the greatest differences first.

    Args:
        found: As `reproduction.json` has it.
    """
    differing = sorted(
        found["differences"].items(), key=lambda item: -abs(item[1]["now"] - item[1]["then"])
    )
    lines = [f"incomplete lineage: {what}" for what in found["incomplete"]]
    if found["weights_equal"] is not None:
        lines.append(f"weights: {'the same' if found['weights_equal'] else 'others'}")
    lines += [
        f"metrics: {found['compared']} compared, {len(differing)} differ",
        *(
            f"  {name}: {each['then']!r} then, {each['now']!r} now"
            for name, each in differing[:_MOST]
        ),
        *([f"  and {len(differing) - _MOST} more"] if len(differing) > _MOST else []),
        f"the run is {'reproduced' if found['equal'] else 'NOT reproduced'}; code, data and models "
        f"are in {found['folder']} (git worktree remove --force {found['folder']})",
    ]
    return "\n".join(lines)
