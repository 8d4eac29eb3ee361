"""The state of modules and optimisers as named tensors, to be stored without pickle."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def pack(
    modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Everything that training changes, by name; learning rates and the like stay in the params."""
    weights = {
        f"module.{name}.{entry}": tensor
        for name, module in modules.items()
        for entry, tensor in module.state_dict().items()
    }
    moments = {
        f"optimiser.{name}.{index}.{entry}": tensor
        for name, optimiser in optimisers.items()
        for index, state in optimiser.state_dict()["state"].items()
        for entry, tensor in state.items()
    }
    return weights | moments


def unpack(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Bring modules and optimisers, of the same sizes, to the state that was packed."""
    for name, module in modules.items():
        module.load_state_dict(_under(tensors, f"module.{name}."))
    for name, optimiser in optimisers.items():
        states: dict[int, dict[str, Tensor]] = {}
        for entry, tensor in _under(tensors, f"optimiser.{name}.").items():
            index, field = entry.split(".", 1)
            states.setdefault(int(index), {})[field] = tensor
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states, "param_groups": groups})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose name starts with `prefix`, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
