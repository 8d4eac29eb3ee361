"""How late the sound of clips is, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mssync.render.preflight import histogram


def summary(
    left_ms: Sequence[float],
    *,
    clips: int,
    believed: str,
    wrong: Sequence[Mapping[str, Any]],
    least_ms: float,
    most: int,
) -> str:
    """A histogram, and the clips that are far off.

    Args:
        left_ms: Offsets that are believed, as they are in the dataset.
        clips: Number of clips that were asked about.
        believed: What makes one believed.
        wrong: Clips that are off: `clip_id`, `split`, `offset_ms`, `left_ms`, `confidence`.
        least_ms: From which they are.
        most: How many of them are named.
    """
    middle = f", median {np.median(left_ms):+.0f} ms" if left_ms else ""
    lines = [
        f"  clips      {clips}",
        f"  believed   {len(left_ms)} ({believed}){middle}",
        f"  off        {len(wrong)} by {least_ms:g} ms or more",
        "",
        "  the sound comes after the mouth, in believed clips of the dataset, by:",
        *histogram(left_ms),
    ]
    if wrong and most:
        lines += ["", f"  {'as fetched':>10}  {'in dataset':>10}  {'confidence':>10}  split  clip"]
        lines += [
            f"  {each['offset_ms']:>+7.0f} ms  {each['left_ms']:>+7.0f} ms  "
            f"{each['confidence']:>10.3f}  {each['split']:<5}  {each['clip_id']}"
            for each in wrong[:most]
        ]
    if len(wrong) > most > 0:
        lines.append(f"  and {len(wrong) - most} more (--list, --json)")
    return "\n".join(lines)
