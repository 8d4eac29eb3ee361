"""ConvNeXt over time: the block and the tower of the syncers (docs/ms-sync.md, section 3).

Axes: N windows, T samples or rows, C channels, E embedding. Channels come last, so that the norms
and the pointwise layers work in place.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4
STRIDE = 2


class Block(nn.Module):
    """Depthwise convolution, norm, pointwise bottleneck, and a shortcut around them.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: 2 halves the time axis, rounding up.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        # Conv2d with one row: on a CPU it is two to six times as fast as Conv1d here.
        self.depthwise = nn.Conv2d(
            inputs, inputs, (1, 3), stride=(1, stride), padding=(0, 1), groups=inputs
        )
        self.norm = nn.LayerNorm(inputs)
        self.expand = nn.Linear(inputs, EXPANSION * inputs)
        self.reduce = nn.Linear(EXPANSION * inputs, outputs)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))
        )

    def forward(self, x_NTC: Tensor) -> Tensor:
        """(N, T, inputs) -> (N, ceil(T / stride), outputs)."""
        return self.outputs(x_NTC, slice(None))

    def outputs(self, x_NTC: Tensor, which: slice) -> Tensor:
        """Those samples of `forward`: (N, T, inputs) -> (N, as many as are asked for, outputs)."""
        mixed_NTC = self._across(x_NTC)[:, which]
        # torch copies a frozen weight for every window of an input that is not contiguous
        plain_NTC = x_NTC[:, :: self.stride][:, which].contiguous()
        branch_NTC: Tensor = self.reduce(F.gelu(self.expand(self.norm(mixed_NTC))))
        return F.gelu(branch_NTC + self.shortcut(plain_NTC))

    def _across(self, x_NTC: Tensor) -> Tensor:
        rows_NC1T = x_NTC.transpose(1, 2).unsqueeze(2)
        if self.stride > 1 and x_NTC.device.type == "cpu":
            # in bfloat16 its gradient takes a CPU forty times as long
            with torch.autocast("cpu", enabled=False):
                across_NC1T: Tensor = self.depthwise(rows_NC1T.to(self.depthwise.weight.dtype))
        else:
            across_NC1T = self.depthwise(rows_NC1T)
        return across_NC1T.squeeze(2).transpose(1, 2)


class Tower(nn.Module):
    """A stem block, stages that each halve the time axis, the mean over time, a linear layer.

    Args:
        inputs: Channels in.
        stem: Width of the stem block.
        widths: Width of each stage.
        blocks: Blocks of each stage, at least 1.
        embedding: Width of the result.
    """

    def __init__(
        self,
        inputs: int,
        *,
        stem: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        embedding: int,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(f"{len(widths)} widths need as many numbers of blocks: {blocks}")
        layers = [Block(inputs, stem)]
        width = stem
        for stage_width, stage_blocks in zip(widths, blocks, strict=True):
            layers.append(Block(width, stage_width, stride=STRIDE))
            layers.extend(Block(stage_width, stage_width) for _ in range(stage_blocks - 1))
            width = stage_width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, embedding)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """(N, T, inputs) -> (N, E)."""
        features_NTC: Tensor = self.layers(x_NTC)
        embedding_NE: Tensor = self.head(features_NTC.mean(dim=1))
        return embedding_NE
