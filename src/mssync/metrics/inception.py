"""Inception-v3 as FID is defined by it: pictures -> 2048 features (arXiv 1512.00567, 1706.08500).

FID's weights were trained with TensorFlow. They differ from torchvision's: 1008 classes, means that
leave padding out, and a maximum in place of the mean in the last block. Names of modules are those
of the published file, `pt_inception-2015-12-05-6726825d.pth`.

Axes: N pictures, C channels, H x W pixels, F = 2048 features.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mssync.errors import InputError
from mssync.metrics.weights import present

PUBLISHED = "6726825d"  # begins the SHA-256 of the published file, as its name says
_SIDE_PX = 299
_CLASSES, _FEATURES = 1008, 2048

Kernel = int | tuple[int, int]
Shape = tuple[int, int, Kernel]  # channels in and out, kernel
Branch = tuple[str | tuple[str, str], ...]  # names of convolutions; two stand side by side

_WIDE, _TALL = (1, 7), (7, 1)


class _Convolution(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, shape: Shape, *, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        ins, outs, kernel = shape
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = nn.Conv2d(
            ins,
            outs,
            sides,
            stride=stride,
            padding=(sides[0] // 2, sides[1] // 2) if padded else 0,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(outs, eps=0.001)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x_NCHW)), inplace=True)


class _Block(nn.Module):
    """Branches of convolutions beside a pooled branch, their channels joined.

    Args:
        convolutions: Name -> channels in and out, and kernel.
        branches: Names in the order of the output's channels.
        halves: The last convolution of each branch, and the pooling, go two pixels a step.
        pools_maximum: The pooled branch takes maxima; else means.
    """

    def __init__(
        self,
        convolutions: dict[str, Shape],
        branches: tuple[Branch, ...],
        *,
        halves: bool = False,
        pools_maximum: bool = False,
    ) -> None:
        super().__init__()
        last = {branch[-1] for branch in branches} if halves else set()
        for name, shape in convolutions.items():
            halved = name in last
            self.add_module(name, _Convolution(shape, stride=2 if halved else 1, padded=not halved))
        self._branches = branches
        self._halves = halves
        self._pools_maximum = pools_maximum

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = [self._follow(branch, x_NCHW) for branch in self._branches]
        return torch.cat([*parts, self._pooled(x_NCHW)], dim=1)

    def _follow(self, branch: Branch, x_NCHW: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x_NCHW = self.get_submodule(step)(x_NCHW)
            else:
                x_NCHW = torch.cat([self.get_submodule(each)(x_NCHW) for each in step], dim=1)
        return x_NCHW

    def _pooled(self, x_NCHW: Tensor) -> Tensor:
        if self._halves:
            return functional.max_pool2d(x_NCHW, 3, stride=2)
        if self._pools_maximum:
            pooled_NCHW = functional.max_pool2d(x_NCHW, 3, stride=1, padding=1)
        else:
            pooled_NCHW = functional.avg_pool2d(
                x_NCHW, 3, stride=1, padding=1, count_include_pad=False
            )
        joined: Tensor = self.get_submodule("branch_pool")(pooled_NCHW)
        return joined


def _small(ins: int, pooled: int) -> _Block:
    """Kernels of 5, and of 3 twice: Mixed_5b to Mixed_5d."""
    return _Block(
        {
            "branch1x1": (ins, 64, 1),
            "branch5x5_1": (ins, 48, 1),
            "branch5x5_2": (48, 64, 5),
            "branch3x3dbl_1": (ins, 64, 1),
            "branch3x3dbl_2": (64, 96, 3),
            "branch3x3dbl_3": (96, 96, 3),
            "branch_pool": (ins, pooled, 1),
        },
        (
            ("branch1x1",),
            ("branch5x5_1", "branch5x5_2"),
            ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        ),
    )


def _long(width: int) -> _Block:
    """Kernels of 7 in one direction: Mixed_6b to Mixed_6e."""
    return _Block(
        {
            "branch1x1": (768, 192, 1),
            "branch7x7_1": (768, width, 1),
            "branch7x7_2": (width, width, _WIDE),
            "branch7x7_3": (width, 192, _TALL),
            "branch7x7dbl_1": (768, width, 1),
            "branch7x7dbl_2": (width, width, _TALL),
            "branch7x7dbl_3": (width, width, _WIDE),
            "branch7x7dbl_4": (width, width, _TALL),
            "branch7x7dbl_5": (width, 192, _WIDE),
            "branch_pool": (768, 192, 1),
        },
        (
            ("branch1x1",),
            ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
            tuple(f"branch7x7dbl_{step}" for step in range(1, 6)),
        ),
    )


def _split(ins: int, *, pools_maximum: bool) -> _Block:
    """Branches that end in a wide and a tall kernel: Mixed_7b and Mixed_7c."""
    return _Block(
        {
            "branch1x1": (ins, 320, 1),
            "branch3x3_1": (ins, 384, 1),
            "branch3x3_2a": (384, 384, (1, 3)),
            "branch3x3_2b": (384, 384, (3, 1)),
            "branch3x3dbl_1": (ins, 448, 1),
            "branch3x3dbl_2": (448, 384, 3),
            "branch3x3dbl_3a": (384, 384, (1, 3)),
            "branch3x3dbl_3b": (384, 384, (3, 1)),
            "branch_pool": (ins, 192, 1),
        },
        (
            ("branch1x1",),
            ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
            ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
        ),
        pools_maximum=pools_maximum,
    )


class Inception(nn.Module):
    """Pictures to the features that FID compares."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution((3, 32, 3), stride=2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution((32, 32, 3), padded=False)
        self.Conv2d_2b_3x3 = _Convolution((32, 64, 3))
        self.Conv2d_3b_1x1 = _Convolution((64, 80, 1))
        self.Conv2d_4a_3x3 = _Convolution((80, 192, 3), padded=False)
        self.Mixed_5b = _small(192, 32)
        self.Mixed_5c = _small(256, 64)
        self.Mixed_5d = _small(288, 64)
        self.Mixed_6a = _Block(
            {
                "branch3x3": (288, 384, 3),
                "branch3x3dbl_1": (288, 64, 1),
                "branch3x3dbl_2": (64, 96, 3),
                "branch3x3dbl_3": (96, 96, 3),
            },
            (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
            halves=True,
        )
        self.Mixed_6b = _long(128)
        self.Mixed_6c = _long(160)
        self.Mixed_6d = _long(160)
        self.Mixed_6e = _long(192)
        self.Mixed_7a = _Block(
            {
                "branch3x3_1": (768, 192, 1),
                "branch3x3_2": (192, 320, 3),
                "branch7x7x3_1": (768, 192, 1),
                "branch7x7x3_2": (192, 192, _WIDE),
                "branch7x7x3_3": (192, 192, _TALL),
                "branch7x7x3_4": (192, 192, 3),
            },
            (
                ("branch3x3_1", "branch3x3_2"),
                tuple(f"branch7x7x3_{step}" for step in range(1, 5)),
            ),
            halves=True,
        )
        self.Mixed_7b = _split(1280, pools_maximum=False)
        self.Mixed_7c = _split(2048, pools_maximum=True)

    def forward(self, pictures_NCHW: Tensor) -> Tensor:
        """Features (N, 2048) of RGB pictures in [0, 1], of any size."""
        x_NCHW = (
            2
            * functional.interpolate(
                pictures_NCHW, size=(_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False
            )
            - 1
        )
        for name, module in self.named_children():
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x_NCHW = functional.max_pool2d(x_NCHW, 3, stride=2)
            x_NCHW = module(x_NCHW)
        return x_NCHW.mean(dim=(2, 3))


def load(file: Path, device: torch.device) -> Inception:
    """The network with the weights of a file, ready to measure.

    Args:
        file: A state dict as pytorch-fid publishes it.
        device: Where it runs.

    Raises:
        InputError: If there is no such file, or it holds other weights.
    """
    present(file, option="--inception", expected=_EXPECTED)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the file's bytes lead it to
        raise InputError(
            f"{file} cannot be read as weights ({_line(error)}): {_EXPECTED}"
        ) from error
    network = Inception()
    wanted = network.state_dict()
    _check(file, found, {name: tuple(value.shape) for name, value in wanted.items()})
    # Counters of batches, which nothing reads here; old files have none.
    network.load_state_dict(wanted | {name: found[name] for name in wanted if name in found})
    return network.eval().requires_grad_(requires_grad=False).to(device)


_EXPECTED = (
    "expected Inception-v3 as pytorch-fid publishes it, "
    "github.com/mseitzer/pytorch-fid/releases, pt_inception-2015-12-05-6726825d.pth"
)


def _check(file: Path, found: object, wanted: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise InputError(f"{file} is no state dict: {_EXPECTED}")
    asked = {name: shape for name, shape in wanted.items() if not name.endswith("_tracked")}
    asked["fc.weight"] = (_CLASSES, _FEATURES)
    missing = [name for name in asked if name not in found]
    if missing:
        raise InputError(
            f"{file} lacks {len(missing)} of {len(asked)} tensors, first {missing[0]}; it has "
            f"{', '.join(sorted(found)[:2]) or 'none'}, ...: {_EXPECTED}"
        )
    for name, shape in asked.items():
        if tuple(found[name].shape) != shape:
            raise InputError(
                f"{file}: {name} should be {shape}, found {tuple(found[name].shape)}: {_EXPECTED}. "
                "Torchvision's weights, of 1000 classes, give other distances"
            )


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
