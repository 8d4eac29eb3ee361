"""Networks with the inputs, outputs and files of those that compare pictures and videos."""

import warnings

import torch
from torch import nn

from mssync.metrics import inception


class TinyVideoNet(nn.Module):
    """Takes what I3D takes and gives what it gives, from a coarse picture of the movement."""

    def __init__(self, logits: int = 400):
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Linear(3 * 8 * 14 * 14, logits)

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ):
        pooled = nn.functional.adaptive_avg_pool3d(x, [8, 14, 14])
        return self.logits(pooled.flatten(1) * 20)


def save_script(module, path):
    """Save a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path


def save_inception(path):
    """Random weights in the layout of the published file; 16 bits, to be small."""
    torch.manual_seed(0)
    network = inception.Inception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    state = {
        name: value.half()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    state |= {"fc.weight": torch.zeros(1008, 2048).half(), "fc.bias": torch.zeros(1008).half()}
    torch.save(state, path)
    return path
