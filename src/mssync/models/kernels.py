"""What one row costs most in, compiled when it is first called: products, and residual blocks.

Torch reads bfloat16 weights at a third of the memory's speed on CPUs without instructions for them;
these loops become the vector instructions that there are. A block is one call, since each of
torch's would find its own code gone from the cache, which the weights have run through.
Axis letters: N groups, C channels in, H hidden channels, O channels out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Weights = NDArray[Any]  # float32, or bfloat16 as its bits in uint16

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
HALF, ONE, FOUR = np.float32(0.5), np.float32(1), np.float32(4)
ROOT_HALF = np.float32(0.5**0.5)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Sums may be reordered, but what is not a number stays so.

    A check of each division for 0, which is Python's way, would leave no vectors.
    """
    fast = {"reassoc", "contract", "arcp", "nsz"}
    return njit(fastmath=fast, error_model="numpy", nogil=True)(function)


@njit(inline="always")
def _as_is(weight: np.float32) -> np.float32:
    return weight


@njit(inline="always")
def _widened(half: np.uint16) -> np.float32:
    """The float32 whose upper half are these bits of a bfloat16."""
    bits = np.uint32(np.uint32(half) << np.uint32(16))
    single: np.float32 = bits.view(np.float32)
    return single


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
def normalise(x_C: Floats, weight_C: Floats, bias_C: Floats) -> None:
    """Zero mean and unit spread, scaled and shifted, in place."""
    channels = np.float32(len(x_C))
    total = np.float32(0)
    for channel in range(len(x_C)):
        total += x_C[channel]
    mean = total / channels
    squares = np.float32(0)
    for channel in range(len(x_C)):
        away = x_C[channel] - mean
        squares += away * away
    factor = ONE / np.sqrt(squares / channels + EPSILON)
    for channel in range(len(x_C)):
        x_C[channel] = (x_C[channel] - mean) * factor * weight_C[channel] + bias_C[channel]


class Kernels:
    """The kernels for weights that are stored in one way.

    Attributes:
        product: x W + b of every group; its arguments are weights (N, O, C), rows (N, C), biases
            (N, O), and where the result goes (N, O).
        block: `GroupedBlock` on one row a group: (N, C), scale and shift (N, C) each, weight and
            bias of the norm (N, C) each, weights and biases of both maps, and the result (N, O),
            which holds the shortcut before.
    """

    def __init__(self, read: Callable[[Any], np.float32]) -> None:
        @_compiled
        def one(weight_OC: Weights, x_C: Floats, bias_O: Floats, out_O: Floats) -> None:
            for output in range(len(weight_OC)):
                row_C = weight_OC[output]
                total = np.float32(0)
                for channel in range(len(x_C)):
                    total += read(row_C[channel]) * x_C[channel]
                out_O[output] = total + bias_O[output]

        @_compiled
        def product(weight_NOC: Weights, x_NC: Floats, bias_NO: Floats, out_NO: Floats) -> None:
            for group in range(len(weight_NOC)):
                one(weight_NOC[group], x_NC[group], bias_NO[group], out_NO[group])

        @_compiled
        def block(
            x_NC: Floats,
            scale_NC: Floats,
            shift_NC: Floats,
            norm_weight_NC: Floats,
            norm_bias_NC: Floats,
            expand_NHC: Weights,
            expand_bias_NH: Floats,
            reduce_NOH: Weights,
            reduce_bias_NO: Floats,
            out_NO: Floats,
        ) -> None:
            inner_C = np.empty(x_NC.shape[1], np.float32)
            hidden_H = np.empty(expand_NHC.shape[1], np.float32)
            made_O = np.empty(out_NO.shape[1], np.float32)
            for group in range(len(x_NC)):
                for channel in range(len(inner_C)):
                    scaled = x_NC[group, channel] * scale_NC[group, channel]
                    inner_C[channel] = scaled + shift_NC[group, channel]
                normalise(inner_C, norm_weight_NC[group], norm_bias_NC[group])
                one(expand_NHC[group], inner_C, expand_bias_NH[group], hidden_H)
                gelu(hidden_H)
                one(reduce_NOH[group], hidden_H, reduce_bias_NO[group], made_O)
                for output in range(len(made_O)):
                    out_NO[group, output] += made_O[output]
                gelu(out_NO[group])

        self.product = product
        self.block = block


KERNELS = {torch.float32: Kernels(_as_is), torch.bfloat16: Kernels(_widened)}
