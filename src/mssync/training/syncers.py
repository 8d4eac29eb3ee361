"""Training the guide pyramid and the evaluator pyramid (docs/ms-sync.md, section 3).

Every network has its own seed and its own checkpoints: it is independent of the others, and a
training that was killed goes on within the network it had come to.

Axes: G groups, N windows of a group, 5 motion samples and 20 audio rows of a window, P = 68
points, D = 2, M mel bands, E embedding.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mssync.data.pack import Pack
from mssync.data.statistics import Statistics
from mssync.data.windows import MIN_GROUP, Batch, Pairs, Windows
from mssync.device import autocast
from mssync.losses.contrastive import contrastive
from mssync.losses.infonce import Temperature, info_nce, margin_at
from mssync.metrics.retrieval import accuracy_at_1
from mssync.models.syncer import Syncer
from mssync.params import SyncerInputs, TrainSyncers
from mssync.points import ALL, POINT_SETS, PointSetName
from mssync.tracking import Tracker
from mssync.trained import checkpoint
from mssync.training import loop
from mssync.training.graph import graphed, optimiser
from mssync.training.group import Group
from mssync.training.loop import Outcome, Terms, Validation, descend
from mssync.training.stopping import termination

logger = logging.getLogger(__name__)

STATISTICS_WINDOWS = 4096
PAIRS: tuple[Pairs, ...] = ("cross_clip", "same_clip")


@dataclass(frozen=True)
class _Network:
    """One syncer that is to be trained.

    Attributes:
        name: Its name in logs, metrics and seeds, `guide/level0`.
        level: Level of the pyramid.
        points: Name of its set of points.
        guide: A guide is trained by InfoNCE on cosines, an evaluator by distances.
        pairs: Kind of group it is trained on.
        steps: Optimisation steps.
    """

    name: str
    level: int
    points: PointSetName
    guide: bool
    pairs: Pairs
    steps: int

    @property
    def prefix(self) -> str:
        """First part of the names of its metrics."""
        return self.name.replace("/", ".")


@dataclass(frozen=True)
class _Setting:
    """What all networks of a run share."""

    packs: Mapping[str, Pack]
    params: TrainSyncers
    seed: int
    device: torch.device
    threads: int
    tracker: Tracker
    key: str
    group: Group


def train_guides(
    packs: Mapping[str, Pack],
    params: TrainSyncers,
    *,
    key: str,
    seed: int,
    device: torch.device,
    threads: int,
    tracker: Tracker,
    out: Path,
    group: Group,
) -> dict[str, float]:
    """Train one guide per level, on all points; the generator learns from them.

    Args:
        packs: Clips of `train`, `val` and `test`; the last two may be empty.
        params: The `train_syncers` section.
        key: What the result depends on besides this code, hashed: parameters, dataset, seed. A
            network whose checkpoint carries the same key is finished and left as it is.
        seed: Seed of the run; each network's own is derived from it and its name.
        device: Where to train.
        threads: That make batches ahead; they decide nothing.
        tracker: Receives the loss terms, as `guide/level0/loss`.
        out: Receives `guides/level{l}/`, one checkpoint each.
        group: The processes that train together.

    Returns:
        Per level and held-out split the accuracy@1 for both kinds of pairs, such as
        `guide.level0.test.cross_clip.accuracy`, with `.low`, `.high` (95 % interval), `.chance`,
        `.windows` and `.dropped` (windows that filled no group). A level that has no group to
        train on gives `guide.level3.skipped`.

    Raises:
        ValueError: If there is no clip to train on.
        ParamsError: If the groups of a step cannot be shared out.
        TrainingDivergedError: If a loss is not finite.
        TrainingStoppedError: On SIGTERM, after a checkpoint was written.
    """
    setting = _Setting(packs, params, seed, device, threads, tracker, key, group)
    metrics: dict[str, float] = {}
    for level, steps in enumerate(params.guide_steps):
        network = _Network(f"guide/level{level}", level, ALL, True, params.pairs[level], steps)
        metrics |= _train_once(network, setting, out / "guides" / f"level{level}")
    return metrics


def train_evaluators(
    packs: Mapping[str, Pack],
    params: TrainSyncers,
    *,
    key: str,
    seed: int,
    device: torch.device,
    threads: int,
    tracker: Tracker,
    out: Path,
    group: Group,
) -> dict[str, float]:
    """Train an evaluator per level and set of points; they grade generators.

    They share nothing with the guides: other seeds, embeddings of any length, SyncNet's loss.

    Args:
        packs: As for `train_guides`.
        params: As for `train_guides`.
        key: As for `train_guides`.
        seed: As for `train_guides`; the same one still gives other draws.
        device: Where to train.
        threads: That make batches ahead; they decide nothing.
        tracker: Receives the loss, as `evaluator/all/level0/loss`.
        out: Receives `evaluators/{points}/level{l}/`, one checkpoint each; those of sets of points
            that are not asked for are removed.
        group: As for `train_guides`.

    Returns:
        As for `train_guides`, named `evaluator.all.level0.test.cross_clip.accuracy`.

    Raises:
        ValueError: If there is no clip to train on.
        ParamsError: If the groups of a step cannot be shared out.
        TrainingDivergedError: If a loss is not finite.
        TrainingStoppedError: On SIGTERM, after a checkpoint was written.
    """
    setting = _Setting(packs, params, seed, device, threads, tracker, key, group)
    metrics: dict[str, float] = {}
    if group.leads:
        for folder in (out / "evaluators").glob("*"):
            if folder.name not in params.evaluator_points:
                shutil.rmtree(folder)
    group.wait()
    for points in params.evaluator_points:
        for level, steps in enumerate(params.evaluator_steps):
            name = f"evaluator/{points}/level{level}"
            network = _Network(name, level, points, False, params.pairs[level], steps)
            folder = out / "evaluators" / points / f"level{level}"
            metrics |= _train_once(network, setting, folder)
    return metrics


def build_syncer(
    params: TrainSyncers, *, level: int, points: Sequence[int], guide: bool, mel_bands: int
) -> Syncer:
    """A syncer of the sizes and inputs that the parameters name, with fresh weights.

    Args:
        params: The `train_syncers` section.
        level: Level of the pyramid.
        points: Indices of the iBUG-68 points that it sees.
        guide: A guide, whose embeddings have unit length, or an evaluator.
        mel_bands: Audio channels.
    """
    return Syncer(
        level=level,
        points=points,
        normalise=guide,
        motion_stem=params.motion_stem,
        motion_widths=params.motion_widths,
        audio_stem=params.audio_stem,
        audio_widths=params.audio_widths,
        blocks=params.blocks,
        embedding=params.embedding,
        mel_bands=mel_bands,
        inputs=_inputs(params, guide=guide),
    )


def _train_once(network: _Network, setting: _Setting, folder: Path) -> dict[str, float]:
    """Train, score and save, unless that is done already or cannot be done."""
    finished = checkpoint.load_if(folder, setting.key)
    if finished is not None:
        logger.info("%s: finished before, left as it is", network.name)
        checkpoint.remove_leftovers(folder)
        metrics: dict[str, float] = finished[1]["metrics"]
        return metrics
    setting.group.wait()  # until all have looked
    checkpoint.remove(folder)  # of other parameters or other data
    if network.steps == 0:
        logger.info("%s: left out, it has no steps", network.name)
        return {f"{network.prefix}.skipped": 1.0}
    params = setting.params
    setting.group.check("train_syncers.groups_per_step", params.groups_per_step)
    windows = _windows(network, setting, "train", valid_only=params.valid_only)
    size = windows.group_size(network.pairs, _largest(network.pairs, params))
    if size < MIN_GROUP:
        logger.warning(
            "%s: skipped. A %s group takes %d windows, found %d (%d windows, %d clips too short)",
            *(network.name, network.pairs, MIN_GROUP, size, windows.count, windows.too_short),
        )
        return {f"{network.prefix}.skipped": 1.0}

    resume = folder.with_name(f".{folder.name}.resume")
    with termination():  # it stops between two steps, or after it is written
        training, outcome = _fit(network, windows, setting, resume)
        syncer = outcome.module.eval()
        metrics = {
            f"{network.prefix}.{name}": value for name, value in _score(syncer, network, setting)
        }
        metadata = {
            **asdict(network),
            "steps": outcome.steps,
            "config": training.kept.to_config(),
            "kernel": params.kernel,
            "loss": "info_nce" if network.guide else "contrastive",
            "group_size": size,
            "windows": windows.count,
            "clips_too_short": windows.too_short,
            "temperature": training.temperature().item() if network.guide else None,
            "metrics": metrics,
            "key": setting.key,
        }
        if setting.group.leads:
            checkpoint.save(folder, syncer.state_dict(), metadata)
            checkpoint.remove(resume)
        setting.group.wait()
    return metrics


def _windows(network: _Network, setting: _Setting, split: str, *, valid_only: bool) -> Windows:
    params = setting.params
    inputs = _inputs(params, guide=network.guide)
    return Windows(
        setting.packs[split],
        level=network.level,
        kernel=params.kernel,
        valid_only=valid_only,
        device=setting.device,
        from_mean=inputs == "displacement",
    )


def _inputs(params: TrainSyncers, *, guide: bool) -> SyncerInputs:
    return params.guide_inputs if guide else params.evaluator_inputs


def _largest(pairs: Pairs, params: TrainSyncers) -> int:
    return params.cross_clip_group if pairs == "cross_clip" else params.same_clip_group


def _seeds(seed: int, name: str) -> tuple[int, int]:
    """Seeds of the weights and of the draws, other ones for every name."""
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    weights, draws = np.random.SeedSequence([seed, *digest.tolist()]).generate_state(2).tolist()
    return weights, draws


def _build(network: _Network, windows: Windows, setting: _Setting, seed: int) -> Syncer:
    params, known = setting.params, setting.packs["train"].statistics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        syncer = build_syncer(
            params,
            level=network.level,
            points=POINT_SETS[network.points].indices,
            guide=network.guide,
            mel_bands=len(known.audio_mean_M),
        )
    syncer.to(setting.device)
    if params.standardise:
        syncer.motion_norm.fit(*_motion_statistics(syncer, windows, known))
        syncer.audio_norm.fit(
            torch.from_numpy(known.audio_mean_M), torch.from_numpy(known.audio_std_M)
        )
    return syncer


def _motion_statistics(
    syncer: Syncer, windows: Windows, known: Statistics
) -> tuple[Tensor, Tensor]:
    """Mean and spread of each coordinate; of displacements or relative motion, one for all.

    Points that hardly move would be little but noise if each had a spread of its own.
    """
    if syncer.inputs == "absolute":
        points = list(syncer.points)
        mean_K = torch.from_numpy(known.motion_mean_PD[points].reshape(-1))
        return mean_K, torch.from_numpy(known.motion_std_PD[points].reshape(-1))
    motion_N5K = syncer.choose(windows.sample(STATISTICS_WINDOWS).motion_GN5PD[0])
    mean_K = torch.zeros(motion_N5K.shape[2])
    return mean_K, motion_N5K.square().mean().sqrt().expand(len(mean_K))


class _Training:
    """One network, its temperature and its optimiser: what the loop trains, and how.

    Args:
        network: Which one.
        windows: What it is trained on.
        setting: What all networks share.
    """

    def __init__(self, network: _Network, windows: Windows, setting: _Setting) -> None:
        params = setting.params
        self.network, self.setting = network, setting
        weights_seed, self.draws_seed = _seeds(setting.seed, network.name)
        self.kept = _build(network, windows, setting, weights_seed)
        self.temperature = Temperature(params.temperature, learn=params.learn_temperature)
        self.temperature.to(setting.device)
        self.trained = nn.ModuleList([self.kept, self.temperature])
        self.modules = {"syncer": self.kept, "temperature": self.temperature}
        self._graph = graphed(self._step, params.loop, setting.device, setting.group)
        self.optimisers = {
            "syncer": optimiser(
                torch.optim.AdamW if params.optimiser == "adamw" else torch.optim.Adam,
                self.trained.parameters(),
                params.learning_rate,
                weight_decay=params.weight_decay,
                recorded=self._graph is not None,
            )
        }
        self._val = self._validation()

    def train(self, batch: Batch, step: int, *, report: bool) -> Terms:
        """One step on a batch of groups."""
        params, device = self.setting.params, self.setting.device
        windows = batch.motion_GN5PD.shape[1]
        margin = margin_at(step, params.margin, params.margin_growth, params.max_margin)
        asked = _Asked(
            batch.motion_GN5PD,
            batch.audio_GN20M,
            torch.full((), margin, device=device),
            _others(windows, 1 + step % (windows - 1), device),
        )
        return self._graph(asked) if self._graph else self._step(asked)

    def _step(self, asked: "_Asked") -> Terms:
        params = self.setting.params
        with autocast(self.setting.device, params.loop.precision):
            motion_GNE, audio_GNE = _embed(self.kept, asked)
        loss = self._loss(motion_GNE.float(), audio_GNE.float(), asked.margin, asked.other_N)
        grad_norm = descend(
            loss,
            self.trained,
            self.optimisers["syncer"],
            max_grad_norm=params.loop.max_grad_norm,
            group=self.setting.group,
        )
        terms = {"loss": loss, "grad_norm": grad_norm}
        return terms | ({"temperature": self.temperature()} if self.network.guide else {})

    @torch.inference_mode()
    def validate(self, module: nn.Module) -> Validation | None:
        """Loss and accuracy@1 on all groups of the validation speakers."""
        if not self._val:
            return None
        module.eval()
        groups = [_embed(module, batch) for batch in self._val]
        module.train()
        # the margin grows with the steps, and would tell weights apart that are equal
        margin = torch.zeros((), device=self.setting.device)
        losses = [
            self._loss(motion, audio, margin, _others(audio.shape[1], 1, audio.device)).item()
            for motion, audio in groups
        ]
        loss = sum(losses) / len(losses)
        accuracy = accuracy_at_1((motion_GNE[0], audio_GNE[0]) for motion_GNE, audio_GNE in groups)
        return Validation(loss, {"val_loss": loss, "val_accuracy": accuracy.value})

    def _loss(
        self, motion_GNE: Tensor, audio_GNE: Tensor, margin: Tensor, other_N: Tensor
    ) -> Tensor:
        """InfoNCE of a guide, SyncNet's loss of an evaluator."""
        if self.network.guide:
            return info_nce(motion_GNE, audio_GNE, temperature=self.temperature(), margin=margin)
        return contrastive(
            motion_GNE.flatten(0, 1),
            audio_GNE.flatten(0, 1),
            audio_GNE.index_select(1, other_N).flatten(0, 1),
            margin=self.setting.params.evaluator_margin,
        )

    def _validation(self) -> list[Batch]:
        """Groups of the kind that is trained on, of the validation speakers; fixed."""
        setting, network = self.setting, self.network
        if not len(setting.packs["val"]):
            return []
        windows = _windows(network, setting, "val", valid_only=True)
        largest = _largest(network.pairs, setting.params)
        tiling = windows.tile(network.pairs, largest, np.random.default_rng(setting.seed))
        return [windows.gather(start_N[None]) for start_N in tiling.groups]


@dataclass(frozen=True)
class _Asked(Batch):
    """A batch, and what the loss asks about it at this step.

    Attributes:
        margin: Of a guide's loss; scalar.
        other_N: For each window of a group, whose audio an evaluator must tell from its own.
    """

    margin: Tensor
    other_N: Tensor


def _others(windows: int, shift: int, device: torch.device) -> Tensor:
    """For each window of a group the one `shift` before it, around the group: (N,)."""
    return (torch.arange(windows, device=device) - shift) % windows


def _fit(
    network: _Network, windows: Windows, setting: _Setting, folder: Path
) -> tuple[_Training, Outcome]:
    """Train one network, from its last checkpoint or from the start."""
    params = setting.params
    training = _Training(network, windows, setting)
    outcome = loop.run(
        training,
        partial(
            windows.draw,
            network.pairs,
            seed=training.draws_seed,
            groups=params.groups_per_step,
            largest=_largest(network.pairs, params),
            audio_range=setting.packs["train"].statistics.audio_range if params.augment else None,
            share=setting.group.share,
        ),
        loop.Plan(
            name=network.name,
            prefix=f"{network.name}/",
            steps=network.steps,
            samples=params.groups_per_step * _largest(network.pairs, params),
            settings=params.loop,
            folder=folder,
            key=setting.key,
            threads=setting.threads,
            remedy="Lower train_syncers.learning_rate",
        ),
        tracker=setting.tracker,
        group=setting.group,
    )
    return training, outcome


def _embed(syncer: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Embeddings (G, N, E) of a batch's motion and audio."""
    motion_NE, audio_NE = syncer(batch.motion_GN5PD.flatten(0, 1), batch.audio_GN20M.flatten(0, 1))
    groups = batch.motion_GN5PD.shape[:2]
    return motion_NE.unflatten(0, groups), audio_NE.unflatten(0, groups)


def _score(syncer: nn.Module, network: _Network, setting: _Setting) -> Iterator[tuple[str, float]]:
    """Accuracy@1 on speakers that were not trained on, for both kinds of pairs."""
    splits = [split for split in ("val", "test") if len(setting.packs[split])]
    if "val" not in splits:
        logger.warning("%s: no speaker in val, scored on train instead", network.name)
        splits.insert(0, "train")
    for split in splits:
        windows = _windows(network, setting, split, valid_only=True)
        for pairs in PAIRS:
            largest = _largest(pairs, setting.params)
            tiling = windows.tile(pairs, largest, np.random.default_rng(setting.seed))
            batches = (windows.gather(start_N[None]) for start_N in tiling.groups)
            for name, value in _accuracy(syncer, batches):
                yield f"{split}.{pairs}.{name}", value
            yield f"{split}.{pairs}.dropped", float(tiling.dropped)


def _accuracy(syncer: nn.Module, batches: Iterator[Batch]) -> Iterator[tuple[str, float]]:
    """Accuracy@1 of batches of one group each; only the count, 0, where there is none."""
    with torch.inference_mode():
        groups = [_embed(syncer, batch) for batch in batches]
    if not groups:
        yield "windows", 0.0
        return
    accuracy = accuracy_at_1((motion_GNE[0], audio_GNE[0]) for motion_GNE, audio_GNE in groups)
    yield "accuracy", accuracy.value
    yield "low", accuracy.interval[0]
    yield "high", accuracy.interval[1]
    yield "chance", accuracy.chance
    yield "windows", float(accuracy.windows)
