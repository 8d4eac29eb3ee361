"""A generator made ready to animate one face as fast as the memory can be read.

At one stream a frame reads every weight of a step once and computes little with it, so the speed
is that of memory. Weights are laid out in the order in which they are read, and stored in 16 bits
where that is asked for: half as much to read. Sums and positions are in single precision always.
Axis letters: T frames, A audio rows, M mel bands, P = 68 points, D = 2, N groups, C channels in,
O channels out.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mssync.models.generator import Generator, GroupedBlock, GroupedLinear, GroupedScale
from mssync.models.maps import Maps, affine

if TYPE_CHECKING:
    from mssync.models.kernels import Kernels

DTYPES = (torch.float32, torch.bfloat16)
# Of the generator, what every frame goes through.
STEP = ("coordinates", "temporal", "branches")


class Prepared:
    """A generator for one stream at a time; `prepare` makes it."""

    def __init__(self, generator: Generator, maps: Maps) -> None:
        self._generator = generator
        self._maps = maps

    @torch.inference_mode()
    def generate(self, source_PD: Tensor, audio_AM: Tensor) -> Tensor:
        """Animate a source face; frame 0 of the result goes with audio row 0.

        Args:
            source_PD: Shape (68, 2), in crop units.
            audio_AM: Log mel energies, shape (4 T, M), T >= 1.

        Returns:
            Shape (T, 68, 2).

        Raises:
            ValueError: If the audio rows are not four a frame, or there is none.
        """
        if not len(audio_AM):
            raise ValueError("expected at least one frame of audio, found no row")
        return torch.stack(list(self.stream(source_PD, [audio_AM])))

    def stream(self, source_PD: Tensor, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """`Generator.stream`, with the weights as they were when it was prepared."""
        with torch.inference_mode():
            frames = self._generator.stream(source_PD, chunks, maps=self._maps)
        while True:
            with torch.inference_mode():  # not while the caller runs
                frame_PD = next(frames, None)
            if frame_PD is None:
                return
            yield frame_PD


def prepare(generator: Generator, *, dtype: torch.dtype) -> Prepared:
    """Lay out a generator's weights for one stream, on its device.

    On a CPU the products are compiled at the first call, which takes some seconds, and run on one
    core. All weights are copied: later changes of the generator's are not heard.

    Args:
        generator: A trained generator.
        dtype: What the weights of a step are stored as, `torch.float32` or `torch.bfloat16`.

    Raises:
        ValueError: If the dtype is another.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, found {dtype}")
    prepared = copy.deepcopy(generator).eval().requires_grad_(False)
    if any(parameter.device.type != "cpu" for parameter in prepared.parameters()):
        return Prepared(prepared, _CastMaps(_weights(prepared), dtype))
    from mssync.models.kernels import KERNELS  # numba takes half a second to import

    kernels = KERNELS[dtype]
    blocks = prepared.branches.blocks
    prepared.branches.blocks = nn.Sequential(
        *(_PackedBlock(block, kernels, dtype) for block in blocks)
    )
    return Prepared(prepared, _PackedMaps(_weights(prepared), kernels, dtype))


def _weights(generator: Generator) -> Iterator[Tensor]:
    """The weights of every linear map of a step."""
    for name in STEP:
        for module in generator.get_submodule(name).modules():
            yield from (
                parameter
                for key, parameter in module.named_parameters(recurse=False)
                if "bias" not in key and (parameter.ndim == 2 or isinstance(module, GroupedLinear))
            )


class _CastMaps:
    """Maps by torch in another precision: for accelerators, which have products for it."""

    def __init__(self, weights: Iterable[Tensor], dtype: torch.dtype) -> None:
        self._cast = {weight: weight.detach().to(dtype) for weight in weights}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """As `affine`, with the weights cast."""
        cast = self._cast[weight]
        return affine(x.to(cast.dtype), cast, bias.to(cast.dtype)).float()


class _PackedMaps:
    """Maps of one row by kernels that read weights end to end; on a CPU."""

    def __init__(self, weights: Iterable[Tensor], kernels: "Kernels", dtype: torch.dtype) -> None:
        self._product = kernels.product
        self._packed = {weight: _packed(weight, dtype) for weight in weights}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """As `affine`, of one row a group."""
        packed_NOC = self._packed[weight]
        groups, outputs, channels = packed_NOC.shape
        result = torch.empty(*x.shape[:-1], outputs)
        self._product(
            packed_NOC,
            x.contiguous().numpy().reshape(groups, channels),
            bias.contiguous().numpy().reshape(groups, outputs),
            result.numpy().reshape(groups, outputs),
        )
        return result


class _PackedBlock(nn.Module):
    """A `GroupedBlock` for one row a group."""

    def __init__(self, block: nn.Module, kernels: "Kernels", dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(block, GroupedBlock)
        self._kernels = kernels
        scale, norm, expand, _, reduce = block.inner
        self._arguments = (
            *_both(scale),
            *_both(norm),
            *_both(expand, dtype),
            *_both(reduce, dtype),
        )
        self._mapping: tuple[NDArray[Any], NDArray[Any]] | None = None
        if len(block.shortcut):
            mapping, self._norm = block.shortcut
            self._mapping = _both(mapping, dtype)

    def forward(self, x_N1C: Tensor) -> Tensor:
        """(N, 1, C) -> (N, 1, C')."""
        x_NC = x_N1C.contiguous().numpy()[:, 0]
        if self._mapping is None:
            result_N1C = x_N1C.clone()
        else:
            weight_NOC, bias_NO = self._mapping
            mapped_N1C = torch.empty(len(x_NC), 1, weight_NOC.shape[1])
            self._kernels.product(weight_NOC, x_NC, bias_NO, mapped_N1C.numpy()[:, 0])
            result_N1C = self._norm(mapped_N1C)
        self._kernels.block(x_NC, *self._arguments, result_N1C.numpy()[:, 0])
        return result_N1C


def _both(
    layer: nn.Module, dtype: torch.dtype = torch.float32
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight and bias: of a grouped map, packed; of a scale or norm, (N, C) each."""
    assert isinstance(layer, GroupedLinear | GroupedScale)
    bias_NO: NDArray[Any] = layer.bias[:, 0].numpy()
    if isinstance(layer, GroupedLinear):
        return _packed(layer.weight, dtype), bias_NO
    return layer.weight[:, 0].numpy(), bias_NO


def _packed(weight: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """(O, C) or (N, C, O) -> (N, O, C), in float32, or bfloat16 as its bits."""
    weight_NOC = weight.mT if weight.ndim == 3 else weight[None]
    stored_NOC = weight_NOC.to(dtype).clone(memory_format=torch.contiguous_format)
    bits_NOC = stored_NOC.view(torch.uint16) if dtype == torch.bfloat16 else stored_NOC
    array_NOC: NDArray[Any] = bits_NOC.numpy()
    return array_NOC
