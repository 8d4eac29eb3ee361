"""A generator made ready to animate one face as fast as the memory can be read.

At one stream a frame reads every weight of a step once and computes little with it, so the speed
is that of memory. Weights are laid out in the order in which they are read, and stored in 16 bits
where that is asked for: half as much to read. Sums and positions are in single precision always.
Axis letters: T frames, A audio rows, M mel bands, P = 68 points, D = 2.
"""

import copy
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from mssync.models.generator import Advance, Generator, GroupedLinear
from mssync.models.maps import affine

DTYPES = (torch.float32, torch.bfloat16)
# Of the generator, what every frame goes through.
STEP = ("coordinates", "temporal", "branches")


class Prepared:
    """A generator for one stream at a time; `prepare` makes it."""

    def __init__(self, generator: Generator, advance: Advance) -> None:
        self._generator = generator
        self._advance = advance

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
            frames = self._generator.stream(source_PD.float(), chunks, advance=self._advance)
        while True:
            with torch.inference_mode():  # not while the caller runs
                frame_PD = next(frames, None)
            if frame_PD is None:
                return
            yield frame_PD


def prepare(generator: Generator, *, dtype: torch.dtype) -> Prepared:
    """Lay out a generator's weights for one stream, on its device.

    On a CPU its parts are compiled at the first call, which takes some seconds and is kept for
    later processes, and run on one core. All weights are copied: later changes of the generator are
    not heard.

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
        maps = _CastMaps(_weights(prepared), dtype)
        return Prepared(prepared, partial(prepared.advance, maps=maps))
    from mssync.models.packed import PackedStep, pack_blocks  # numba takes half a second to import

    pack_blocks(prepared.audio)
    step = PackedStep(prepared, dtype)
    prepared.branches.blocks = nn.Sequential()  # most weights, which the step now has
    return Prepared(prepared, step)


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
