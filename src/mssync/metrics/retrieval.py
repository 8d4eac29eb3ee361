"""Retrieval: is a window's own audio the nearest of its group?

Axes: N windows of a group, E embedding.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

CONFIDENCE_Z = 1.959964  # 95 %
EXACT = "donot_use_mm_for_euclid_dist"  # products lose the digits that nearby embeddings need


@dataclass(frozen=True)
class Accuracy:
    """Accuracy@1 over groups.

    Attributes:
        correct: Windows whose own audio is the nearest.
        windows: Windows in all.
        chance: What guessing gives: groups per window.
    """

    correct: int
    windows: int
    chance: float

    @property
    def value(self) -> float:
        """Share of windows that are correct."""
        return self.correct / self.windows

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `value`, windows taken as independent."""
        return wilson_interval(self.correct, self.windows)


def accuracy_at_1(groups: Iterable[tuple[Tensor, Tensor]]) -> Accuracy:
    """Count the windows whose own audio is the nearest in Euclidean distance.

    For embeddings of unit length that is the audio of the largest cosine.

    Args:
        groups: Motion embeddings (N, E) and audio embeddings (N, E) of each group, N >= 2.

    Raises:
        ValueError: If there is no group, or one of fewer than two windows.
    """
    correct = windows = count = 0
    for motion_NE, audio_NE in groups:
        size = len(motion_NE)
        if size < 2 or audio_NE.shape != motion_NE.shape:
            raise ValueError(
                f"a group needs two or more windows of motion and of audio, found shapes "
                f"{tuple(motion_NE.shape)} and {tuple(audio_NE.shape)}"
            )
        nearest_N = torch.cdist(motion_NE, audio_NE, compute_mode=EXACT).argmin(dim=1)
        own_N = torch.arange(size, device=nearest_N.device)
        correct += int((nearest_N == own_N).sum())
        windows += size
        count += 1
    if not count:
        raise ValueError("an accuracy needs at least one group")
    return Accuracy(correct, windows, chance=count / windows)


def wilson_interval(successes: int, trials: int, *, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Args:
        successes: Between 0 and `trials`.
        trials: At least 1.
        z: Quantile of the normal distribution; 1.96 gives 95 %.

    Raises:
        ValueError: If the counts make no proportion.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    half = z * spread / (1 + z**2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
