"""Products of one row with many weights, compiled when they are first called.

Torch reads bfloat16 weights at a third of the memory's speed on CPUs without instructions for them;
these loops become the vector instructions that there are.
Axis letters: N groups, C channels in, O channels out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Kernel = Callable[[NDArray[Any], Floats, Floats, Floats], None]


@njit(inline="always")
def _as_is(weight: np.float32) -> np.float32:
    return weight


@njit(inline="always")
def _widened(half: np.uint16) -> np.float32:
    """The float32 whose upper half are these bits of a bfloat16."""
    bits = np.uint32(np.uint32(half) << np.uint32(16))
    single: np.float32 = bits.view(np.float32)
    return single


def _product(read: Callable[[Any], np.float32]) -> Kernel:
    """Weights (N, O, C), rows (N, C), biases (N, O), and where the result goes (N, O)."""

    @njit(fastmath=True, nogil=True)
    def product(weight_NOC: NDArray[Any], x_NC: Floats, bias_NO: Floats, out_NO: Floats) -> None:
        groups, outputs, channels = weight_NOC.shape
        for group in range(groups):
            x_C = x_NC[group]
            for output in range(outputs):
                row_C = weight_NOC[group, output]
                total = np.float32(0)
                for channel in range(channels):
                    total += read(row_C[channel]) * x_C[channel]
                out_NO[group, output] = total + bias_NO[group, output]

    kernel: Kernel = product
    return kernel


# By what the weights are stored as; bfloat16 as its bits.
PRODUCTS = {torch.float32: _product(_as_is), torch.bfloat16: _product(_widened)}
