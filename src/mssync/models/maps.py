"""Linear maps whose weights serve at many steps of one call.

A roll-out uses the same weights some forty times. Whoever rolls out says how maps are computed: one
by one (`affine`), with the gradient of each weight made once for all steps (`GatheredMaps`), or
with weights cast for one stream on an accelerator (`mssync.models.inference`).
Axis letters: B rows, C channels in, O channels out, N groups.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Steps = list[tuple[Tensor, Tensor]]


class Maps(Protocol):
    """How x W + b is computed."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(B, C) -> (B, O), or for every group (N, B, C) -> (N, B, O).

        Args:
            x: Rows.
            weight: (O, C), as `nn.Linear` has it, or (N, C, O).
            bias: Of a shape that broadcasts to the result's; a parameter, or what else is added.
        """


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The map by itself."""
    if weight.ndim == 3:
        return torch.baddbmm(bias, x, weight)
    return torch.addmm(bias, x, weight.t())


class GatheredMaps:
    """Maps of one forward pass; a weight's gradient is one product over all steps.

    Autograd would make a gradient the size of the weight at each step and add it to the last. The
    sums are the same but for the order of their terms. Under autocast each weight is cast once.
    One backward pass goes through what was computed.
    """

    def __init__(self) -> None:
        self._opened: dict[Tensor, tuple[Tensor, Tensor | None, Steps]] = {}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """As `affine`."""
        if weight not in self._opened:
            steps: Steps = []
            own = bias if isinstance(bias, nn.Parameter) else None
            self._opened[weight] = (*_Open.apply(weight, own, steps), steps)
        opened_weight, opened_bias, steps = self._opened[weight]
        if opened_bias is not None:
            bias = opened_bias
        result: Tensor = _Step.apply(x, opened_weight, bias, steps, opened_bias is not None)
        return result


class _Open(Function):
    """A weight and its bias, as all steps use them; backward comes after that of every step."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        weight: Tensor,
        bias: Tensor | None,
        steps: Steps,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.steps, ctx.grouped, ctx.dtype = steps, weight.ndim == 3, weight.dtype
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        cast_bias = None if bias is None else bias.to(dtype).view_as(bias)
        return weight.to(dtype).view_as(weight), cast_bias

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        *_: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.steps:
            return None, None, None
        x, gradient = (torch.cat(parts, dim=-2) for parts in zip(*ctx.steps, strict=True))
        ctx.steps.clear()
        weight = bias = None
        if ctx.needs_input_grad[0]:
            weight = x.mT @ gradient if ctx.grouped else gradient.t() @ x
            weight = weight.to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            bias = gradient.sum(dim=-2, keepdim=ctx.grouped, dtype=ctx.dtype)
        return weight, bias, None


class _Step(Function):
    """One step's map; backward hands on the gradient of x and keeps the rest for `_Open`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        steps: Steps,
        own_bias: bool,
    ) -> Tensor:
        ctx.dtypes, ctx.steps, ctx.own_bias = (x.dtype, bias.dtype), steps, own_bias
        ctx.bias_shape = bias.shape
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        return affine(x, weight, bias.to(weight.dtype))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        gradient: Tensor,
    ) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        x_dtype, bias_dtype = ctx.dtypes
        if ctx.needs_input_grad[1] or (ctx.own_bias and ctx.needs_input_grad[2]):
            ctx.steps.append((x, gradient))
        bias = None
        if ctx.needs_input_grad[2] and not ctx.own_bias:
            bias = gradient.sum_to_size(ctx.bias_shape).to(bias_dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, bias, None, None
        back = weight.mT if weight.ndim == 3 else weight
        return (gradient @ back).to(x_dtype), None, bias, None, None
