"""Steps of training as CUDA graphs: recorded once, then replayed by a single call.

A roll-out is thousands of small kernels, and a GPU finishes each sooner than Python can start the
next one. Recorded, the whole step (forward, backward, optimisers) is one launch.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mssync.params import Loop
from mssync.training.group import Group

B = TypeVar("B")
Step = Callable[[B], dict[str, Tensor]]
Key = tuple[object, ...]

EAGER_CALLS = 2  # of each shape: whatever is made once must exist before it is recorded


class Graphed(Generic[B]):
    """A step that is recorded for each shape of its batch.

    What it does must depend on the tensors of the batch alone, must not wait for the GPU, and must
    change tensors in place only: Python does not run when it is replayed.

    Args:
        step: A batch (a dataclass, some of whose fields are tensors) -> scalars, which the next
            call overwrites.
        device: A GPU.
    """

    def __init__(self, step: Step[B], device: torch.device) -> None:
        self._step, self._device = step, device
        self._stream = torch.cuda.Stream(device)
        self._calls: dict[Key, int] = {}
        self._recorded: dict[Key, _Recorded] = {}

    def __call__(self, batch: B) -> dict[str, Tensor]:
        """Make a step: as it is at first, then by replaying."""
        key = _shape(batch)
        if key not in self._recorded:
            if self._calls.get(key, 0) < EAGER_CALLS:
                self._calls[key] = self._calls.get(key, 0) + 1
                return self._eagerly(batch)
            self._recorded[key] = _Recorded(self._step, batch)
        return self._recorded[key].replay(batch)

    def _eagerly(self, batch: B) -> dict[str, Tensor]:
        """On a stream of its own, as recording needs it."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            terms = self._step(batch)
        current.wait_stream(self._stream)
        return _detached(terms)


def graphed(step: Step[B], settings: Loop, device: torch.device, group: Group) -> Graphed[B] | None:
    """The step, to be recorded; None where it is not asked for, or cannot be.

    Several processes average gradients between the steps, which is not recorded.
    """
    if device.type != "cuda" or not settings.cuda_graph or group.size > 1:
        return None
    return Graphed(step, device)


def optimiser(
    kind: type[torch.optim.Adam],
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    recorded: bool,
    **options: Any,  # noqa: ANN401 - those of the optimiser
) -> torch.optim.Adam:
    """An Adam whose step is one kernel, or a few.

    Args:
        kind: `Adam` or `AdamW`.
        parameters: What it changes.
        learning_rate: At factor 1.
        recorded: Its rate and counts are tensors on the GPU, which a recorded step reads.
        options: More of its arguments.
    """
    given = list(parameters)
    if not recorded:
        return kind(given, lr=learning_rate, fused=True, **options)
    rate = torch.tensor(learning_rate, device=given[0].device)
    made = kind(given, lr=rate, fused=True, capturable=True, **options)
    for group in made.param_groups:
        group["initial_lr"] = learning_rate
    return made


class _Recorded:
    """One recorded step."""

    def __init__(self, step: Step[Any], batch: Any) -> None:  # noqa: ANN401 - of any type
        copies = {name: tensor.clone() for name, tensor in _tensors(batch).items()}
        self._inputs = list(copies.values())
        self._graph = torch.cuda.CUDAGraph()
        # Threads that make batches go on meanwhile: `global` would not let them.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._terms = _detached(step(replace(batch, **copies)))

    def replay(self, batch: object) -> dict[str, Tensor]:
        for recorded, given in zip(self._inputs, _tensors(batch).values(), strict=True):
            recorded.copy_(given)
        self._graph.replay()
        return self._terms


def _tensors(batch: Any) -> dict[str, Tensor]:  # noqa: ANN401 - of any type
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _shape(batch: Any) -> Key:  # noqa: ANN401 - of any type
    values = (getattr(batch, field.name) for field in fields(batch))
    return tuple(value.shape if isinstance(value, Tensor) else value for value in values)


def _detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
