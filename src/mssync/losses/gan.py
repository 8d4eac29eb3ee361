"""The hinge game between generator and critics (docs/ms-sync.md, section 5)."""

import torch.nn.functional as F
from torch import Tensor


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What a critic pays: real below 1, fake above -1; scalar, 0 when it tells them apart."""
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """What the generator pays: minus the mean score of what it made; scalar."""
    return -fake_scores.mean()
