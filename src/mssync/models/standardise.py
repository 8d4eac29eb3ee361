"""Inputs brought to zero mean and unit spread, by statistics that travel with the weights."""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / std over the last axis, with mean and std in the state dict.

    Made as the identity; `fit` sets the statistics.
    """

    mean_C: Tensor
    std_C: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("std_C", torch.ones(channels))

    def fit(self, mean_C: Tensor, std_C: Tensor) -> None:
        """Set the statistics, each of shape (C,); a spread below 1e-6 counts as 1e-6."""
        self.mean_C.copy_(mean_C)
        self.std_C.copy_(std_C.clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise (..., C)."""
        return (x - self.mean_C) / self.std_C
