"""The one loop that every network is trained by.

Batches in order, and between them, in this order: validate, report, store, stop. All that the next
step depends on is in the checkpoint, so that N steps are k steps and N - k after a restart.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mssync.data.prefetch import prefetched
from mssync.errors import InputError, TrainingDivergedError, TrainingStoppedError
from mssync.params import Loop
from mssync.tracking import Tracker
from mssync.trained import checkpoint
from mssync.training import state
from mssync.training.group import Group
from mssync.training.pace import Pace, duration
from mssync.training.stopping import termination

logger = logging.getLogger(__name__)

Terms = dict[str, Tensor]
B = TypeVar("B", contravariant=True)


@dataclass(frozen=True)
class Validation:
    """What a network is worth on the fixed validation set.

    Attributes:
        loss: Decides which weights are best; lower is better.
        scores: What is told about it, by name.
    """

    loss: float
    scores: Mapping[str, float]


class Trainee(Protocol[B]):
    """What the loop needs to know of a network and its losses."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All that is trained, by name."""

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """What trains them."""

    @property
    def kept(self) -> nn.Module:
        """The module whose weights are the result."""

    def train(self, batch: B, step: int, *, report: bool) -> Terms:
        """Make one optimisation step; terms that weigh nothing are needed in a report only."""

    def validate(self, module: nn.Module) -> Validation | None:
        """Score weights of `kept` on what is not trained on; None where there is nothing."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes:
        name: In messages; empty where there is one network only.
        prefix: Of the names of what is tracked.
        steps: Optimisation steps, unless it stops early.
        samples: In a step, over all processes.
        settings: Shared by all networks of a stage.
        folder: Of resumable checkpoints; removed by the caller when the result is stored.
        key: Digest of all that the result depends on; checkpoints of another key are not used.
        threads: That make batches ahead; they decide nothing.
        remedy: What to do when the loss is not finite.
    """

    name: str
    prefix: str
    steps: int
    samples: int
    settings: Loop
    folder: Path
    key: str
    threads: int
    remedy: str


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        module: The weights to keep: the best ones if it could stop early, averaged ones if asked.
        steps: Steps made.
        terms: Terms of the last step.
        scores: Scores of the kept weights on the validation set; empty where there is none.
    """

    module: nn.Module
    steps: int
    terms: dict[str, float]
    scores: dict[str, float]


def run(
    trainee: Trainee[B], draw: Callable[[int], B], plan: Plan, *, tracker: Tracker, group: Group
) -> Outcome:
    """Train a network from its last checkpoint, or from the start, to its end.

    Args:
        trainee: The network and its losses.
        draw: The batch of a step, from the number of the step alone.
        plan: Length, settings, and where checkpoints go.
        tracker: Receives terms, rates and scores.
        group: The processes that train it together.

    Raises:
        TrainingDivergedError: If a term is not finite when it is reported or stored.
        TrainingStoppedError: On SIGTERM, after a checkpoint was written.
        InputError: If the processes of a group do not see the same checkpoints.
    """
    settings = plan.settings
    progress = _Progress(trainee, plan, group)
    pace = Pace(progress.step, plan.steps, plan.samples)
    terms: dict[str, float] = {}
    with termination() as asked:
        steps = range(progress.step, plan.steps)
        for step, batch in zip(steps, prefetched(draw, steps, threads=plan.threads), strict=True):
            last = step + 1 == plan.steps
            reports = last or step % settings.log_every_steps == 0
            _set_rates(trainee.optimisers, rate_factor(step, plan.steps, settings))
            raw = trainee.train(batch, step, report=reports)
            progress.advance()

            # validate
            validates = last or _due(step, settings.validate_every_steps)
            scores = progress.validate() if validates else {}
            ends = last or progress.exhausted

            # report: .item() waits for the GPU, so only now and then, and before it is stored
            stops = group.any(asked()) and not ends
            stores = stops or (_due(step, settings.checkpoint_every_steps) and not ends)
            if reports or stores or ends:
                terms = _finite(raw, plan, step, group)
            if reports or scores:
                shown = (terms if reports or ends else {}) | scores
                _report(plan, step, shown, pace.at(step + 1), tracker, group)

            # store, stop
            if stores:
                progress.store()
            if stops:
                raise TrainingStoppedError(
                    f"{_named(plan)}stopped by SIGTERM after step {step + 1} of {plan.steps}; "
                    "run it again to go on from there"
                )
            if ends:
                break
    return progress.outcome(terms)


class _Progress:
    """How far a training has come, and all that its next step depends on.

    Attributes:
        step: Steps made.
    """

    def __init__(self, trainee: Trainee[Any], plan: Plan, group: Group) -> None:
        settings = plan.settings
        self._trainee, self._plan, self._group = trainee, plan, group
        self._average = copy.deepcopy(trainee.kept) if settings.ema_decay else None
        self._best = copy.deepcopy(trainee.kept) if settings.patience else None
        extra = {"average": self._average, "best": self._best}
        self._modules = {
            **trainee.modules,
            **{name: module for name, module in extra.items() if module is not None},
        }
        self.step = self._waited = 0
        self._loss = math.inf  # of the best weights
        self._scores: dict[str, float] = {}
        self._resume()

    @property
    def exhausted(self) -> bool:
        """Whether it has waited for a gain as long as it should."""
        return 0 < self._plan.settings.patience <= self._waited

    def advance(self) -> None:
        """Count a step that was made."""
        if self._average is not None:
            decay = decay_at(self.step, self._plan.settings.ema_decay)
            update_average(self._average, self._trainee.kept, decay)
        self.step += 1

    def validate(self) -> dict[str, float]:
        """Score the weights, and keep those that are better than all before them."""
        module = self._average or self._trainee.kept
        validation = self._trainee.validate(module)
        if validation is None:
            return {}
        scores = dict(validation.scores)
        if self._best is None:
            self._scores = scores
            return scores
        loss = torch.tensor(validation.loss)
        self._group.average([loss])  # so that all processes decide alike
        if loss.item() < self._loss:
            self._loss, self._waited, self._scores = loss.item(), 0, scores
            self._best.load_state_dict(module.state_dict())
        else:
            self._waited += 1
        return scores

    def store(self) -> None:
        """Write a checkpoint, and drop the oldest."""
        if self._group.leads:
            plan = self._plan
            metadata = {
                "key": plan.key,
                "step": self.step,
                "loss": None if math.isinf(self._loss) else self._loss,
                "waited": self._waited,
                "scores": self._scores,
            }
            tensors = state.pack(self._modules, self._trainee.optimisers)
            checkpoint.save(plan.folder / f"step-{self.step:09d}", tensors, metadata)
            for old in _snapshots(plan.folder)[plan.settings.keep_checkpoints :]:
                checkpoint.remove(old)
        self._group.wait()

    def outcome(self, terms: dict[str, float]) -> Outcome:
        """What it has come to."""
        kept = self._average or self._trainee.kept
        if self._best is not None and self._loss < math.inf:
            kept = self._best
        if self.exhausted:
            logger.info(
                "%sended early at step %d of %d: %d validations without a gain",
                *(_named(self._plan), self.step, self._plan.steps, self._waited),
            )
        return Outcome(kept, self.step, terms, self._scores)

    def _resume(self) -> None:
        """Go on from the newest checkpoint that is whole and of this key."""
        plan = self._plan
        for folder in _snapshots(plan.folder):
            stored = checkpoint.load_if(folder, plan.key)
            if stored is None:
                continue
            tensors, metadata = stored
            state.unpack(tensors, self._modules, self._trainee.optimisers)
            self.step, self._waited = metadata["step"], metadata["waited"]
            self._loss = math.inf if metadata["loss"] is None else metadata["loss"]
            self._scores = metadata["scores"]
            logger.info("%sgoing on from step %d of %d", _named(plan), self.step, plan.steps)
            break
        # which also waits until all have read
        if self._group.any(self.step != self._group.of_leader(self.step)):
            raise InputError(
                f"the processes do not see the same checkpoints in {plan.folder}: they must share "
                "the folder"
            )
        if self._group.leads and not self.step:
            checkpoint.remove(plan.folder)  # of other inputs, or damaged


def rate_factor(step: int, steps: int, settings: Loop) -> float:
    """What learning rates are multiplied by at a step: a warm-up from 0, then a decay to 0.

    Args:
        step: From 0.
        steps: Planned length.
        settings: `warmup_steps` and `decay`.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.decay == "constant":
        return 1.0
    left = 1 - (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
    return left if settings.decay == "linear" else (1 - math.cos(math.pi * left)) / 2


def decay_at(step: int, decay: float) -> float:
    """Decay of the moving average at a step: small at first, so that the start is forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move an exponential average of weights towards a module's; buffers are copied."""
    averaged: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(averaged, list[Tensor](module.parameters()), 1 - decay)
    for copied, buffer in zip(average.buffers(), module.buffers(), strict=True):
        copied.copy_(buffer)


def descend(
    loss: Tensor,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    max_grad_norm: float,
    group: Group,
) -> Tensor:
    """One step down a loss; gradients are averaged over the processes, then clipped.

    Args:
        loss: This process's, a mean over its share.
        module: Whose parameters the optimiser changes.
        optimiser: With any learning rate.
        max_grad_norm: Largest norm of the gradient; 0: any.
        group: The processes that train it together.

    Returns:
        The norm of the gradient before it was clipped.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    group.average(p.grad for p in module.parameters() if p.grad is not None)
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm or math.inf)
    optimiser.step()
    return norm


def _due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0


def _named(plan: Plan) -> str:
    return f"{plan.name}: " if plan.name else ""


def _set_rates(optimisers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    for optimiser in optimisers.values():
        for options in optimiser.param_groups:
            rate = options.setdefault("initial_lr", options["lr"]) * factor
            if isinstance(options["lr"], Tensor):
                options["lr"].fill_(rate)  # a recorded step reads it there
            else:
                options["lr"] = rate


def _report(
    plan: Plan,
    step: int,
    values: dict[str, float],
    rates: dict[str, float],
    tracker: Tracker,
    group: Group,
) -> None:
    tracked = values | rates
    tracker.log({f"{plan.prefix}{name}": value for name, value in tracked.items()}, step)
    if not group.leads:
        return
    logger.info(
        "%sstep %6d of %d  %.3g steps/s  %s left  %s",
        *(_named(plan), step, plan.steps, rates["steps_per_s"], duration(rates["left_s"])),
        "  ".join(f"{name} {value:.4f}" for name, value in values.items()),
    )


def _finite(terms: Terms, plan: Plan, step: int, group: Group) -> dict[str, float]:
    """The terms as numbers, means over the processes."""
    joined = torch.stack([term.detach().float().reshape(()) for term in terms.values()])
    group.average([joined])
    values = dict(zip(terms, joined.tolist(), strict=True))
    if not all(map(math.isfinite, values.values())):
        raise TrainingDivergedError(
            f"{_named(plan)}step {step}: the loss is not finite; terms: {values}. {plan.remedy}"
        )
    return values


def _snapshots(folder: Path) -> list[Path]:
    """Resumable checkpoints, newest first; one whose writing was cut off counts by its old name."""
    names = {
        path.name.removeprefix(".").removesuffix(".previous") for path in folder.glob("*step-*")
    }
    whole = {name for name in names if not name.endswith(".writing")}
    return sorted((folder / name for name in whole), reverse=True)
