"""A generator's parts for one stream on one core of a CPU, weights laid out as they are read.

Axis letters: N groups and clips, X coordinates, C channels, E embedding, O embedding that goes to
the branches, T times.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mssync.models import kernels
from mssync.models.audio_encoder import AudioEncoder
from mssync.models.convnext import Block
from mssync.models.generator import Branches, Generator, GroupedBlock, GroupedLinear, GroupedScale
from mssync.models.kernels import Floats
from mssync.models.temporal import LstmModule, Memory, TransformerModule
from mssync.timing import ROWS_PER_FRAME

# Of so many samples at once torch's products are as fast.
FEW_SAMPLES = 16
# A piece of so many rows costs a packed block little.
ENCODED_ROWS = ROWS_PER_FRAME


class PackedStep:
    """`Generator.advance` of one stream.

    Args:
        generator: On the CPU; its weights are copied.
        dtype: What the weights of linear maps are stored as, float32 or bfloat16.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype) -> None:
        self._mean_X = generator.standardise.mean_C.numpy().copy()
        self._std_X = generator.standardise.std_C.numpy().copy()
        self._velocity_scale_X = generator.velocity_scale_X.numpy().copy()
        self._sees_source, self._pull = generator.sees_source, np.float32(generator.pull)
        first, norm, second, _, third = generator.coordinates
        self._coordinates = kernels.Coordinates(
            _map(first, dtype), _scale(norm), _map(second, dtype), _map(third, dtype)
        )
        self._temporal = (
            _PackedTransformer(generator.temporal, dtype)
            if isinstance(generator.temporal, TransformerModule)
            else _PackedLstm(generator.temporal, dtype)
        )
        self._branches = _PackedBranches(generator.branches, dtype)
        self._state = generator.branches.from_state.in_features

    def __call__(
        self, position_1X: Tensor, source_1X: Tensor, heard_1C: Tensor, memory: Memory
    ) -> Tensor:
        """The position one frame later; `memory` moves on in place."""
        position_X, source_X = position_1X.numpy()[0], source_1X.numpy()[0]
        seen_C = (position_X - self._mean_X) / self._std_X
        if self._sees_source:
            seen_C = np.concatenate([seen_C, seen_C - (source_X - self._mean_X) / self._std_X])
        state_C = np.empty(self._state, np.float32)
        temporal_O, embedding_E = np.split(state_C, [self._temporal.outputs])
        kernels.embed(self._coordinates, seen_C, embedding_E)
        self._temporal.step(embedding_E, memory, temporal_O)
        velocity_X = self._branches.velocity(state_C, heard_1C.numpy())
        moved_X = position_X + velocity_X * self._velocity_scale_X
        moved_X += self._pull * (source_X - moved_X)
        return torch.from_numpy(moved_X)[None]


class _PackedTransformer:
    """`TransformerModule`; of each layer it remembers (T, 2 E)."""

    def __init__(self, module: TransformerModule, dtype: torch.dtype) -> None:
        self.outputs = module.project.out_features
        self._heads, self._history_frames = module.heads, module.history_frames
        self._layers = [_layer(layer, dtype) for layer in module.layers]
        self._project = _map(module.project, dtype)

    def step(self, x_E: Floats, memory: Memory, out_O: Floats) -> None:
        for index, layer in enumerate(self._layers):
            cache_TC = memory[index]
            before = 0 if cache_TC is None else min(len(cache_TC), self._history_frames - 1)
            kept_TC = np.empty((before + 1, 2 * len(x_E)), np.float32)
            if cache_TC is not None:
                kept_TC[:before] = cache_TC.numpy()[len(cache_TC) - before :]
            next_E = np.empty_like(x_E)
            kernels.transform(layer, x_E, kept_TC, self._heads, next_E)
            x_E, memory[index] = next_E, torch.from_numpy(kept_TC)
        kernels.through(self._project, 0, x_E, out_O)


class _PackedLstm:
    """`LstmModule`; it remembers the state and the cell of each layer."""

    def __init__(self, module: LstmModule, dtype: torch.dtype) -> None:
        self.outputs = module.project.out_features
        self._layers = [
            (_joined(from_x, x_bias, dtype), _joined(from_state, state_bias, dtype))
            for from_x, from_state, x_bias, state_bias in module.lstm.all_weights
        ]
        self._project = _map(module.project, dtype)

    def step(self, x_E: Floats, memory: Memory, out_O: Floats) -> None:
        for layer, (from_x, from_state) in enumerate(self._layers):
            places = slice(2 * layer, 2 * layer + 2)
            state_E, cell_E = (
                np.zeros_like(x_E) if kept is None else kept.numpy() for kept in memory[places]
            )
            kernels.recur(from_x, from_state, x_E, state_E, cell_E)
            x_E, memory[places] = state_E, [torch.from_numpy(state_E), torch.from_numpy(cell_E)]
        kernels.through(self._project, 0, x_E, out_O)


class _PackedBranches:
    """`Branches`."""

    def __init__(self, module: Branches, dtype: torch.dtype) -> None:
        *blocks, last = module.blocks
        assert isinstance(last, GroupedBlock)
        shortcut, norm = last.shortcut
        self._from_state = kernels.stored(module.from_state.weight, dtype)
        self._blocks = [_block(block, dtype) for block in blocks]
        self._shortcut = kernels.Shortcut(_map(shortcut, dtype), _scale(norm))
        self._last = _block(last, dtype)
        self._velocity = kernels.Velocity(
            _map(module.mask, dtype), _map(module.proposal, dtype), _map(module.mix, dtype)
        )

    def velocity(self, state_C: Floats, heard_1C: Floats) -> Floats:
        hidden_NC = np.empty(self._blocks[0].norm.bias_NC.shape, np.float32)
        last_NC = np.empty(self._shortcut.norm.bias_NC.shape, np.float32)
        velocity_X = np.empty(self._velocity.mix.bias_NO.shape[1], np.float32)
        kernels.branch_out(kernels.Map(self._from_state, heard_1C), state_C, hidden_NC)
        for block in self._blocks:
            kernels.add_block(block, hidden_NC, hidden_NC)
        kernels.shorten(self._shortcut, hidden_NC, last_NC)
        kernels.add_block(self._last, hidden_NC, last_NC)
        kernels.propose(self._velocity, last_NC, velocity_X)
        return velocity_X


class PackedBlock(Block):
    """A block that computes few samples of one clip by one call, of weights copied for it.

    Its parameters are not to be changed, nor moved. Where gradients are wanted it is the block.
    """

    def __init__(self, block: Block) -> None:
        nn.Module.__init__(self)
        for name in ("stride", "depthwise", "norm", "expand", "reduce", "shortcut"):
            setattr(self, name, getattr(block, name))
        assert isinstance(block.shortcut, nn.Sequential)
        assert block.depthwise.bias is not None
        self.train(block.training)
        mapping, norm = block.shortcut
        self._packed = kernels.AudioBlock(
            taps_TC=block.depthwise.weight.detach()[:, 0, 0].T.numpy().copy("C"),
            tap_bias_C=block.depthwise.bias.detach().numpy().copy(),
            norm=_scale(block.norm),
            expand=_map(block.expand, torch.float32),
            reduce=_map(block.reduce, torch.float32),
            shortcut=kernels.Shortcut(_map(mapping, torch.float32), _scale(norm)),
        )

    def outputs(self, x_NTC: Tensor, which: slice) -> Tensor:
        """As of a block."""
        first, end, _ = which.indices(-(-x_NTC.shape[1] // self.stride))
        if len(x_NTC) != 1 or end - first > FEW_SAMPLES or torch.is_grad_enabled():
            return super().outputs(x_NTC, which)
        made_1TC = torch.empty(1, end - first, self.reduce.out_features)
        x_TC = x_NTC.contiguous().numpy()[0]
        kernels.convolve(self._packed, x_TC, first, self.stride, made_1TC.numpy()[0])
        return made_1TC


def pack_blocks(encoder: AudioEncoder) -> None:
    """Replace, in place, the blocks of an encoder whose audio will come piece by piece."""
    encoder.encoded_rows = ENCODED_ROWS
    for blocks in (encoder.to_frames, encoder.coarser):
        for index, block in enumerate(blocks):
            assert isinstance(block, Block)
            if not isinstance(block.shortcut, nn.Identity):
                blocks[index] = PackedBlock(block)


def _block(block: nn.Module, dtype: torch.dtype) -> kernels.Block:
    assert isinstance(block, GroupedBlock)
    scale, norm, expand, _, reduce = block.inner
    return kernels.Block(_scale(scale), _scale(norm), _map(expand, dtype), _map(reduce, dtype))


def _layer(layer: nn.Module, dtype: torch.dtype) -> kernels.Layer:
    assert isinstance(layer, nn.TransformerEncoderLayer)
    attention = layer.self_attn
    return kernels.Layer(
        joint=_joined(attention.in_proj_weight, attention.in_proj_bias, dtype),
        attended=_map(attention.out_proj, dtype),
        first_norm=_scale(layer.norm1),
        expand=_map(layer.linear1, dtype),
        reduce=_map(layer.linear2, dtype),
        second_norm=_scale(layer.norm2),
    )


def _scale(layer: nn.Module) -> kernels.Scale:
    assert isinstance(layer, GroupedScale | nn.LayerNorm)
    weight_NC, bias_NC = (
        parameter.detach().float().reshape(-1, parameter.shape[-1]).numpy().copy()
        for parameter in (layer.weight, layer.bias)
    )
    return kernels.Scale(weight_NC, bias_NC)


def _map(layer: nn.Module, dtype: torch.dtype) -> kernels.Map:
    assert isinstance(layer, nn.Linear | GroupedLinear)
    return _joined(layer.weight, layer.bias, dtype)


def _joined(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> kernels.Map:
    """Of a linear map, or of one a group."""
    bias_NO = bias.detach().float().reshape(-1, bias.shape[-1]).numpy().copy()
    return kernels.Map(kernels.stored(weight, dtype), bias_NO)
