"""InfoNCE between the motion and the audio of groups of windows (docs/ms-sync.md, section 3).

Axes: G groups, N windows of a group, E embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_TEMPERATURE = 0.01
STEPS_PER_GROWTH = 1000


class Temperature(nn.Module):
    """What the cosines are divided by; at least 0.01, whatever is learned.

    Args:
        initial: Value at the start; 1 changes nothing.
        learn: Whether it is a parameter, trained by its logarithm.
    """

    log_temperature: Tensor

    def __init__(self, initial: float, *, learn: bool) -> None:
        super().__init__()
        if initial < MIN_TEMPERATURE:
            raise ValueError(f"the temperature must be at least {MIN_TEMPERATURE}, found {initial}")
        value = torch.tensor(math.log(initial))
        if learn:
            self.log_temperature = nn.Parameter(value)
        else:
            self.register_buffer("log_temperature", value)

    def forward(self) -> Tensor:
        """The temperature, a scalar."""
        return self.log_temperature.exp().clamp_min(MIN_TEMPERATURE)


def info_nce(
    motion_GNE: Tensor, audio_GNE: Tensor, *, temperature: Tensor | float, margin: Tensor | float
) -> Tensor:
    """Find each window's own audio among the group's, and its own motion.

    Args:
        motion_GNE: Motion embeddings of unit length, shape (G, N, E).
        audio_GNE: Audio embeddings of unit length, of the same windows.
        temperature: Divides the cosines; 1 is the paper's.
        margin: Subtracted from the cosines of true pairs.

    Returns:
        The sum of both directions' cross entropies, averaged over groups: about 2 ln N by chance.

    Raises:
        ValueError: If the shapes differ or a group has fewer than two windows.
    """
    if motion_GNE.shape != audio_GNE.shape or motion_GNE.ndim != 3 or motion_GNE.shape[1] < 2:
        raise ValueError(
            f"motion and audio need one shape (groups, 2 or more windows, embedding), found "
            f"{tuple(motion_GNE.shape)} and {tuple(audio_GNE.shape)}"
        )
    groups, windows, _ = motion_GNE.shape
    cosines_GNN = motion_GNE @ audio_GNE.transpose(1, 2)
    own_NN = torch.eye(windows, device=cosines_GNN.device)
    scores_GNN = (cosines_GNN - margin * own_NN) / temperature
    own_window = torch.arange(windows, device=scores_GNN.device).repeat(groups)
    to_audio = F.cross_entropy(scores_GNN.flatten(0, 1), own_window)
    to_motion = F.cross_entropy(scores_GNN.transpose(1, 2).flatten(0, 1), own_window)
    return to_audio + to_motion


def margin_at(step: int, start: float, growth: float, maximum: float) -> float:
    """Margin at a step: `start`, times `growth` every 1000 steps, at most `maximum`."""
    if start <= 0:
        return 0.0
    if start >= maximum:
        return maximum
    growths = step // STEPS_PER_GROWTH
    # In logarithms, since a long run with a large growth would overflow.
    if growths * math.log(growth) >= math.log(maximum / start):
        return maximum
    return float(start * growth**growths)
