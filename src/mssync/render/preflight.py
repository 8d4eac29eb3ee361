"""What a look at a dataset found, as text."""

from collections.abc import Mapping, Sequence

import numpy as np

_BAR = 40
_BIN_MS = 40


def histogram(offsets_ms: Sequence[float]) -> list[str]:
    """Clips by the offset of their sound, a line for each video frame."""
    if not offsets_ms:
        return ["  no clip tells its offset"]
    frames = np.round(np.asarray(offsets_ms) / _BIN_MS).astype(int)
    counts = {
        frame: int((frames == frame).sum()) for frame in range(frames.min(), frames.max() + 1)
    }
    most = max(counts.values())
    return [
        f"  {_BIN_MS * frame:>+6} ms {count:>6}  {'#' * round(_BAR * count / most)}"
        for frame, count in counts.items()
    ]


def splits(counts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Clips, speakers and hours of each split."""
    lines = [f"  {'split':<7}{'clips':>8}{'speakers':>10}{'hours':>9}"]
    for split, count in counts.items():
        lines.append(
            f"  {split:<7}{count['clips']:>8}{count['speakers']:>10}{count['minutes'] / 60:>9.2f}"
        )
    return lines
