"""What the generator remembers of its past embeddings (docs/ms-sync.md, section 4).

Axis letters: B clips, T frames kept, E embedding, F feed-forward width, H heads, G = 4 E gates,
C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.models.lstm import lstm_cell
from mssync.models.maps import Maps, affine

# What a temporal module keeps from step to step: it says what.
Memory = list[Tensor | None]


class TransformerModule(nn.Module):
    """Causal post-norm Transformer over the last `history_frames` embeddings, step by step.

    Its memory is one cache of keys and values a layer.
    """

    def __init__(
        self,
        *,
        width: int,
        out: int,
        layers: int,
        heads: int,
        feedforward: int,
        history_frames: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.history_frames = history_frames
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feedforward, dropout=0.0, batch_first=True)
            for _ in range(layers)
        )
        self.project = nn.Linear(width, out)

    def start(self) -> Memory:
        """Memory before the first step."""
        return [None] * len(self.layers)

    def step(self, x_BE: Tensor, memory: Memory, maps: Maps = affine) -> Tensor:
        """The newest embedding (B, E) -> its state (B, out); its keys and values are kept."""
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.TransformerEncoderLayer)
            attended_BE, memory[index] = self._attend(layer.self_attn, x_BE, memory[index], maps)
            x_BE = layer.norm1(x_BE + attended_BE)
            hidden_BF = maps(x_BE, layer.linear1.weight, layer.linear1.bias).relu()
            x_BE = layer.norm2(x_BE + maps(hidden_BF, layer.linear2.weight, layer.linear2.bias))
        return maps(x_BE, self.project.weight, self.project.bias)

    def _attend(
        self, attention: nn.MultiheadAttention, x_BE: Tensor, cache_BTC: Tensor | None, maps: Maps
    ) -> tuple[Tensor, Tensor]:
        """Attention of the newest embedding to itself and the cached ones; C = 2 E."""
        clips, width = x_BE.shape
        joint_BC = maps(x_BE, attention.in_proj_weight, attention.in_proj_bias)
        query_BE, newest_BC = joint_BC.split([width, 2 * width], dim=1)
        kept_BTC = newest_BC[:, None]
        if cache_BTC is not None:
            first = max(0, cache_BTC.shape[1] + 1 - self.history_frames)
            kept_BTC = torch.cat([cache_BTC[:, first:], kept_BTC], dim=1)
        key_BHTE, value_BHTE = (
            part_BTE.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part_BTE in kept_BTC.chunk(2, dim=2)
        )
        query_BHTE = query_BE.reshape(clips, self.heads, 1, -1)
        mixed_BHTE = F.scaled_dot_product_attention(query_BHTE, key_BHTE, value_BHTE)
        mixed_BE = mixed_BHTE.reshape(clips, width)
        return maps(mixed_BE, attention.out_proj.weight, attention.out_proj.bias), kept_BTC


class LstmModule(nn.Module):
    """An LSTM in the Transformer's place: the paper's ablation.

    Its memory is the hidden state and the cell of each layer; it reaches back to the start.
    """

    def __init__(self, *, width: int, out: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, num_layers=layers)
        self.project = nn.Linear(width, out)

    def start(self) -> Memory:
        """Memory before the first step."""
        return [None] * (2 * self.lstm.num_layers)

    def step(self, x_BE: Tensor, memory: Memory, maps: Maps = affine) -> Tensor:
        """The newest embedding (B, E) -> its state (B, out)."""
        for layer in range(self.lstm.num_layers):
            from_x, from_state, x_bias, state_bias = self.lstm.all_weights[layer]
            gates_BG = maps(x_BE, from_x, x_bias) + state_bias
            hidden_BE, cell_BE = memory[2 * layer : 2 * layer + 2]
            if hidden_BE is not None:
                gates_BG = maps(hidden_BE, from_state, gates_BG)
            x_BE, cell_BE = lstm_cell(gates_BG, cell_BE)
            memory[2 * layer : 2 * layer + 2] = [x_BE, cell_BE]
        return maps(x_BE, self.project.weight, self.project.bias)
