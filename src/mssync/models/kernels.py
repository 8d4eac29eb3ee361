"""The parts of a step for one stream, and a block for a little audio, each one compiled call.

Torch reads bfloat16 weights at a third of the memory's speed on CPUs without instructions for them;
these loops become the vector instructions that there are. A part is one call, since each of
torch's would find its own code gone from the cache, which the weights have run through.

What is compiled is kept where numba keeps it (NUMBA_CACHE_DIR; else beside this file, or in the
user's cache). `through` and what it calls depend on how weights are stored, by `put`.
Axis letters: N groups, C channels in, O channels out, R rows of stored weights, X coordinates,
E embedding, F hidden channels, G = 4 E gates, T times, K = N / 2 branches, P points.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
# (N, R, C): float32 with a row for each output, or bfloat16 with a row for two outputs: uint32, of
# which the even output has the lower half.
Weights = NDArray[Any]

EPSILON = np.float32(1e-5)  # torch's for its norms
# erf(x) = x P(x^2) / Q(x^2) within 4e-7, 1 beyond 4: the rational approximation of Eigen.
_P = (
    *(-1.60960333262415e-02, -2.95459980854025e-03, -7.34990630326855e-04, -5.69250639462346e-05),
    *(-2.10102402082508e-06, 2.77068142495902e-08, -2.72614225801306e-10),
)
_Q = (
    *(-1.42647390514189e-02, -7.37332916720468e-03, -1.68282697438203e-03),
    *(-2.13374055278905e-04, -1.45660718464996e-05),
)
P0, P1, P2, P3, P4, P5, P6 = map(np.float32, _P)
Q0, Q1, Q2, Q3, Q4 = map(np.float32, _Q)
ZERO, HALF, ONE, FOUR = map(np.float32, (0, 0.5, 1, 4))
ROOT_HALF = np.float32(0.5**0.5)


class Map(NamedTuple):
    """x W + b of every group."""

    weight_NRC: Weights
    bias_NO: Floats


class Scale(NamedTuple):
    """Factors and offsets of every group: of a norm, or by themselves."""

    weight_NC: Floats
    bias_NC: Floats


class Coordinates(NamedTuple):
    """What embeds a position."""

    first: Map
    norm: Scale
    second: Map
    third: Map


class Layer(NamedTuple):
    """A layer of the Transformer."""

    joint: Map
    attended: Map
    first_norm: Scale
    expand: Map
    reduce: Map
    second_norm: Scale


class Block(NamedTuple):
    """A `GroupedBlock`, but its shortcut."""

    scale: Scale
    norm: Scale
    expand: Map
    reduce: Map


class Shortcut(NamedTuple):
    """Around a block that changes the width."""

    map: Map
    norm: Scale


class Velocity(NamedTuple):
    """What makes a velocity of the branches."""

    mask: Map
    proposal: Map
    mix: Map


class AudioBlock(NamedTuple):
    """A `convnext.Block` whose shortcut has weights; taps are those of its convolution."""

    taps_TC: Floats
    tap_bias_C: Floats
    norm: Scale
    expand: Map
    reduce: Map
    shortcut: Shortcut


def stored(weight: Tensor, dtype: torch.dtype) -> Weights:
    """Weights in the order in which a product reads them.

    Args:
        weight: (O, C), or (N, C, O) as groups have it.
        dtype: float32 or bfloat16.

    Returns:
        Shape (N, O, C) in float32, or (N, O / 2 rounded up, C) in uint32.
    """
    weight = weight.detach().float()
    weight_NOC = weight.mT if weight.ndim == 3 else weight[None]
    if dtype == torch.float32:
        return np.array(weight_NOC.numpy(), order="C")
    if weight_NOC.shape[1] % 2:
        weight_NOC = torch.cat([weight_NOC, torch.zeros_like(weight_NOC[:, :1])], dim=1)
    bits_NOC = weight_NOC.to(dtype).view(torch.uint16).numpy().astype(np.uint32)
    return np.array(bits_NOC[:, ::2] | bits_NOC[:, 1::2] << 16, order="C")


# Sums may be reordered, but what is not a number stays so.
FAST = {"reassoc", "contract", "arcp", "nsz"}


class _Kept(FunctionCache):
    """Numba's cache; what cannot be read is compiled again, what cannot be written is not kept."""

    def load_overload(self, *of: Any) -> Any:  # noqa: ANN401
        try:
            return super().load_overload(*of)
        except Exception:  # damaged, or of a class that has another name now
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *of: Any) -> None:  # noqa: ANN401
        with suppress(OSError):  # no space left
            super().save_overload(*of)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Without a check of each division for 0, Python's way, which would leave no vectors."""
    compiled = njit(fastmath=FAST, error_model="numpy", nogil=True)(function)
    with suppress(RuntimeError):  # no folder to write in: compiled anew in every process
        compiled._cache = _Kept(function)  # type: ignore[attr-defined] # as `enable_caching` does
    return compiled


def put(row_C: NDArray[Any], place: int, x_C: Floats, bias_O: Floats, out_O: Floats) -> None:
    """The outputs of the stored row at a place: one, or two where two share a row."""
    (_put_one if row_C.dtype == np.float32 else _put_two)(row_C, place, x_C, bias_O, out_O)


@overload(put, jit_options={"fastmath": FAST})
def _put(
    row_C: NDArray[Any], place: int, x_C: Floats, bias_O: Floats, out_O: Floats
) -> Callable[..., None]:
    return _put_one if row_C.dtype == types.float32 else _put_two


def _put_one(row_C: NDArray[Any], place: int, x_C: Floats, bias_O: Floats, out_O: Floats) -> None:
    total = ZERO
    for channel in range(len(x_C)):
        total += row_C[channel] * x_C[channel]
    out_O[place] = total + bias_O[place]


def _put_two(row_C: NDArray[Any], place: int, x_C: Floats, bias_O: Floats, out_O: Floats) -> None:
    even, odd = ZERO, ZERO
    for channel in range(len(x_C)):
        bits = row_C[channel]
        even += np.uint32(bits << np.uint32(16)).view(np.float32) * x_C[channel]
        odd += np.uint32(bits & np.uint32(0xFFFF0000)).view(np.float32) * x_C[channel]
    output = 2 * place
    out_O[output] = even + bias_O[output]
    if output + 1 < len(out_O):
        out_O[output + 1] = odd + bias_O[output + 1]


@_compiled
def through(map_: Map, group: int, x_C: Floats, out_O: Floats) -> None:
    """One row through the map of a group."""
    weight_RC, bias_O = map_.weight_NRC[group], map_.bias_NO[group]
    for place in range(len(weight_RC)):
        put(weight_RC[place], place, x_C, bias_O, out_O)


@_compiled
def through_all(map_: Map, x_TC: Floats, out_TO: Floats) -> None:
    """Some rows through a map; its weights come from memory once."""
    weight_RC, bias_O = map_.weight_NRC[0], map_.bias_NO[0]
    for place in range(len(weight_RC)):
        for time in range(len(x_TC)):
            put(weight_RC[place], place, x_TC[time], bias_O, out_TO[time])


@_compiled
def gelu(x_C: Floats) -> None:
    """In place x (1 + erf(x / sqrt 2)) / 2."""
    for channel in range(len(x_C)):
        x = min(max(x_C[channel] * ROOT_HALF, -FOUR), FOUR)
        s = x * x
        above = ((((((P6 * s + P5) * s + P4) * s + P3) * s + P2) * s + P1) * s + P0) * x
        below = (((Q4 * s + Q3) * s + Q2) * s + Q1) * s + Q0
        x_C[channel] *= HALF * (ONE + above / below)


@_compiled
def normalise(norm: Scale, group: int, x_C: Floats) -> None:
    """Zero mean and unit spread, scaled and shifted, in place."""
    weight_C, bias_C = norm.weight_NC[group], norm.bias_NC[group]
    channels = np.float32(len(x_C))
    total = ZERO
    for channel in range(len(x_C)):
        total += x_C[channel]
    mean = total / channels
    squares = ZERO
    for channel in range(len(x_C)):
        away = x_C[channel] - mean
        squares += away * away
    factor = ONE / np.sqrt(squares / channels + EPSILON)
    for channel in range(len(x_C)):
        x_C[channel] = (x_C[channel] - mean) * factor * weight_C[channel] + bias_C[channel]


@_compiled
def attend(query_E: Floats, kept_TC: Floats, heads: int, mixed_E: Floats) -> None:
    """Scaled dot-product attention of one query; C = 2 E, keys and then values."""
    width = len(query_E)
    size = width // heads
    factor = ONE / np.sqrt(np.float32(size))
    share_T = np.empty(len(kept_TC), np.float32)
    for first in range(0, width, size):
        highest = np.float32(-np.inf)
        for time in range(len(kept_TC)):
            score = ZERO
            for channel in range(first, first + size):
                score += query_E[channel] * kept_TC[time, channel]
            share_T[time] = score * factor
            highest = max(highest, share_T[time])
        total = ZERO
        for time in range(len(kept_TC)):
            share_T[time] = np.exp(share_T[time] - highest)
            total += share_T[time]
        for channel in range(first, first + size):
            mixed_E[channel] = ZERO
        for time in range(len(kept_TC)):
            share = share_T[time] / total
            for channel in range(first, first + size):
                mixed_E[channel] += share * kept_TC[time, width + channel]


@_compiled
def apply_masks(mask_KP: Floats, proposal_KX: Floats) -> None:
    """Proposals, in place, times the softmax of the masks over the branches."""
    branches, points = mask_KP.shape
    for point in range(points):
        highest = mask_KP[0, point]
        for branch in range(1, branches):
            highest = max(highest, mask_KP[branch, point])
        total = ZERO
        for branch in range(branches):
            mask_KP[branch, point] = np.exp(mask_KP[branch, point] - highest)
            total += mask_KP[branch, point]
        for branch in range(branches):
            share = mask_KP[branch, point] / total
            proposal_KX[branch, 2 * point] *= share
            proposal_KX[branch, 2 * point + 1] *= share


@_compiled
def lstm_cell(gates_G: Floats, state_E: Floats, cell_E: Floats) -> None:
    """State and cell after a step, in place; G = 4 E gates in torch's order."""
    width = len(state_E)
    for channel in range(width):
        enter = ONE / (ONE + np.exp(-gates_G[channel]))
        forget = ONE / (ONE + np.exp(-gates_G[width + channel]))
        new = np.tanh(gates_G[2 * width + channel])
        leave = ONE / (ONE + np.exp(-gates_G[3 * width + channel]))
        cell_E[channel] = enter * new + forget * cell_E[channel]
        state_E[channel] = leave * np.tanh(cell_E[channel])


@_compiled
def embed(layers: Coordinates, x_C: Floats, out_E: Floats) -> None:
    """A position -> its embedding."""
    first_C = np.empty(layers.first.bias_NO.shape[1], np.float32)
    second_C = np.empty(layers.second.bias_NO.shape[1], np.float32)
    through(layers.first, 0, x_C, first_C)
    normalise(layers.norm, 0, first_C)
    through(layers.second, 0, first_C, second_C)
    gelu(second_C)
    through(layers.third, 0, second_C, out_E)


@_compiled
def transform(layer: Layer, x_E: Floats, kept_TC: Floats, heads: int, out_E: Floats) -> None:
    """A layer's step; the last row of what is kept, keys and values, is written here."""
    width = len(x_E)
    joint_C = np.empty(3 * width, np.float32)
    mixed_E = np.empty(width, np.float32)
    hidden_F = np.empty(layer.expand.bias_NO.shape[1], np.float32)
    through(layer.joint, 0, x_E, joint_C)
    for channel in range(2 * width):
        kept_TC[-1, channel] = joint_C[width + channel]
    attend(joint_C[:width], kept_TC, heads, mixed_E)
    through(layer.attended, 0, mixed_E, out_E)
    for channel in range(width):
        out_E[channel] += x_E[channel]
    normalise(layer.first_norm, 0, out_E)
    through(layer.expand, 0, out_E, hidden_F)
    for channel in range(len(hidden_F)):
        hidden_F[channel] = max(hidden_F[channel], ZERO)
    through(layer.reduce, 0, hidden_F, mixed_E)
    for channel in range(width):
        out_E[channel] += mixed_E[channel]
    normalise(layer.second_norm, 0, out_E)


@_compiled
def recur(from_x: Map, from_state: Map, x_E: Floats, state_E: Floats, cell_E: Floats) -> None:
    """A step of an LSTM's layer; state and cell move on in place."""
    gates_G = np.empty(4 * len(x_E), np.float32)
    more_G = np.empty(4 * len(x_E), np.float32)
    through(from_x, 0, x_E, gates_G)
    through(from_state, 0, state_E, more_G)
    for gate in range(len(gates_G)):
        gates_G[gate] += more_G[gate]
    lstm_cell(gates_G, state_E, cell_E)


@_compiled
def branch_out(map_: Map, state_C: Floats, out_NC: Floats) -> None:
    """What the branches start from, twice: for masks and for proposals."""
    groups, width = out_NC.shape
    hidden_C = np.empty(groups // 2 * width, np.float32)
    through(map_, 0, state_C, hidden_C)
    for group in range(groups):
        first = group % (groups // 2) * width
        for channel in range(width):
            out_NC[group, channel] = hidden_C[first + channel]


@_compiled
def shorten(shortcut: Shortcut, x_NC: Floats, out_NO: Floats) -> None:
    """The shortcut of every group."""
    for group in range(len(x_NC)):
        through(shortcut.map, group, x_NC[group], out_NO[group])
        normalise(shortcut.norm, group, out_NO[group])


@_compiled
def add_block(block: Block, x_NC: Floats, out_NO: Floats) -> None:
    """A block, onto its shortcut in the result: without weights that is the block's own input."""
    inner_C = np.empty(x_NC.shape[1], np.float32)
    hidden_F = np.empty(block.expand.bias_NO.shape[1], np.float32)
    made_O = np.empty(out_NO.shape[1], np.float32)
    for group in range(len(x_NC)):
        for channel in range(len(inner_C)):
            scaled = x_NC[group, channel] * block.scale.weight_NC[group, channel]
            inner_C[channel] = scaled + block.scale.bias_NC[group, channel]
        normalise(block.norm, group, inner_C)
        through(block.expand, group, inner_C, hidden_F)
        gelu(hidden_F)
        through(block.reduce, group, hidden_F, made_O)
        for output in range(len(made_O)):
            out_NO[group, output] += made_O[output]
        gelu(out_NO[group])


@_compiled
def propose(layers: Velocity, x_NC: Floats, out_X: Floats) -> None:
    """Masked proposals, mixed."""
    branches = len(x_NC) // 2
    mask_KP = np.empty((branches, layers.mask.bias_NO.shape[1]), np.float32)
    proposal_KX = np.empty((branches, layers.proposal.bias_NO.shape[1]), np.float32)
    for branch in range(branches):
        through(layers.mask, branch, x_NC[branch], mask_KP[branch])
        through(layers.proposal, branch, x_NC[branches + branch], proposal_KX[branch])
    apply_masks(mask_KP, proposal_KX)
    through(layers.mix, 0, proposal_KX.ravel(), out_X)


@_compiled
def convolve(block: AudioBlock, x_TC: Floats, first: int, stride: int, out_TO: Floats) -> None:
    """The outputs from the first on, as many as there is room for."""
    times, channels = len(out_TO), x_TC.shape[1]
    taps = len(block.taps_TC)
    mixed_TC = np.empty((times, channels), np.float32)
    plain_TC = np.empty((times, channels), np.float32)
    hidden_TF = np.empty((times, block.expand.bias_NO.shape[1]), np.float32)
    around_TO = np.empty(out_TO.shape, np.float32)
    for time in range(times):
        centre = (first + time) * stride
        for channel in range(channels):
            mixed_TC[time, channel] = block.tap_bias_C[channel]
            plain_TC[time, channel] = x_TC[centre, channel]
        for tap in range(taps):
            place = centre + tap - taps // 2
            if 0 <= place < len(x_TC):
                for channel in range(channels):
                    mixed_TC[time, channel] += block.taps_TC[tap, channel] * x_TC[place, channel]
        normalise(block.norm, 0, mixed_TC[time])
    through_all(block.shortcut.map, plain_TC, around_TO)
    through_all(block.expand, mixed_TC, hidden_TF)
    for time in range(times):
        gelu(hidden_TF[time])
    through_all(block.reduce, hidden_TF, out_TO)
    for time in range(times):
        normalise(block.shortcut.norm, 0, around_TO[time])
        for output in range(out_TO.shape[1]):
            out_TO[time, output] += around_TO[time, output]
        gelu(out_TO[time])
