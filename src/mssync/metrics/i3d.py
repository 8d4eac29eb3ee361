"""I3D as FVD is defined by it: videos -> 400 logits (arXiv 1812.01717).

The network is a TorchScript file that others published and the common code for FVD loads
(`i3d_torchscript.pt`, of StyleGAN-V); its architecture is in the file.

Axes: N videos, C = 3, T frames, H x W pixels, F = 400 logits.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mssync.errors import InputError
from mssync.metrics.weights import present

_LOGITS = 400
_EXPECTED = (
    "expected the TorchScript file i3d_torchscript.pt of github.com/universome/fvd-comparison: "
    "(N, 3, T, 224, 224) in [-1, 1] and the options rescale, resize, return_features to "
    f"(N, {_LOGITS})"
)


class I3d:
    """The loaded network.

    Args:
        file: TorchScript.
        device: Where it runs.

    Raises:
        InputError: If there is no such file, or it is another network.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        present(file, option="--i3d", expected=_EXPECTED)
        self._file = file
        try:
            with warnings.catch_warnings():
                # What was published is TorchScript, whose end torch announces.
                warnings.simplefilter("ignore", DeprecationWarning)
                loaded = torch.jit.load(file, map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{file} cannot be read as TorchScript: {_EXPECTED}") from error
        self._network: Any = loaded.eval()
        schema = str(self._network.forward.schema)
        lacking = [
            name
            for name in ("x", "rescale", "resize", "return_features")
            if f" {name}" not in schema
        ]
        if lacking:
            raise InputError(f"{file} takes no {lacking[0]} (found {schema}): {_EXPECTED}")

    def __call__(self, videos_NCTHW: Tensor) -> Tensor:
        """Logits (N, 400) of videos in [0, 1], 224 pixels a side.

        Raises:
            InputError: If the network gives something else.
        """
        try:
            logits_NF = self._network(
                x=2 * videos_NCTHW - 1, rescale=False, resize=False, return_features=True
            )
        except RuntimeError as error:
            lines = str(error).strip().splitlines() or ["no reason given"]
            raise InputError(f"{self._file} fails on a video ({lines[-1]}): {_EXPECTED}") from error
        if tuple(logits_NF.shape) != (len(videos_NCTHW), _LOGITS):
            raise InputError(f"{self._file} gives {tuple(logits_NF.shape)}: {_EXPECTED}")
        found: Tensor = logits_NF
        return found
