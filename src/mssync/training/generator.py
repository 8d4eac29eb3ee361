"""Training the generator against critics and frozen guides (docs/ms-sync.md, section 5).

Axis letters: B sequences, T frames, C context frames, A audio rows, P = 68 points, D = 2,
X = 136 coordinates, M mel bands.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.data.pack import Pack
from mssync.data.sequences import Batch, Sequences
from mssync.data.statistics import Statistics
from mssync.device import autocast
from mssync.errors import ParamsError
from mssync.losses import gan
from mssync.losses.rigidity import rigidity_loss
from mssync.losses.sync import SyncLoss, pyramid_sync_loss, scored_windows
from mssync.models.critics import Critics
from mssync.models.generator import Generator
from mssync.models.syncer import Syncer
from mssync.params import TrainGenerator
from mssync.tracking import Tracker
from mssync.trained import checkpoint
from mssync.trained.networks import GENERATOR
from mssync.training import loop
from mssync.training.graph import graphed, optimiser
from mssync.training.group import Group
from mssync.training.loop import Outcome, Terms, Validation, descend

logger = logging.getLogger(__name__)

RESUME = ".resume"
REMEDY = "Lower train_generator.generator_learning_rate or train_generator.critic_learning_rate"
CRITIC_CONTEXT_FRAMES = 2


def fit(
    train: Pack,
    val: Pack,
    guides: Sequence[Syncer],
    params: TrainGenerator,
    *,
    kernel: int,
    seed: int,
    device: torch.device,
    threads: int,
    tracker: Tracker,
    out: Path,
    key: str,
    group: Group,
) -> dict[str, float]:
    """Train a generator and write it to `out/generator`.

    Killed at any moment and called again, it goes on from the last checkpoint and ends with the
    same weights, bit for bit; called again after the end, it returns what it returned then.

    Args:
        train: Clips to learn from.
        val: Clips to score the weights on; may be empty.
        guides: One syncer per level; frozen.
        params: The `train_generator` section of `params.yaml`.
        kernel: Odd width of the pyramid's box mean, as the guides were trained.
        seed: Seed of the weights and of every draw.
        device: Where to train.
        threads: That make batches ahead; they decide nothing.
        tracker: Where terms of the loss are logged.
        out: Folder of the generator and, until it is finished, of `.resume`.
        key: Digest of all that the result depends on; checkpoints of another key are not used.
        group: The processes that train it together.

    Returns:
        The last terms (`train/...`) and the scores on `val` (`val/...`).

    Raises:
        StageFailedError: If no training clip is long enough.
        ParamsError: If every weight of the loss is 0, or the batch cannot be shared out.
        ValueError: If sync has a weight and there is no guide of one of its levels.
        TrainingDivergedError: If the loss is not finite when it is reported or stored.
        TrainingStoppedError: On SIGTERM, after a checkpoint was written.
    """
    finished = checkpoint.load_if(out / GENERATOR, key)
    if finished is not None:
        checkpoint.remove_leftovers(out / GENERATOR)
        checkpoint.remove(out / RESUME)
        metrics: dict[str, float] = finished[1]["metrics"]
        return metrics
    group.check("train_generator.batch", params.batch)
    trainer = Trainer(
        train.statistics, val, guides, params, kernel=kernel, seed=seed, device=device, group=group
    )
    sequences = trainer.sequences(train)
    windows = trainer.sync_windows(sequences.context_frames)
    logger.info("windows of a sequence that the sync loss scores, by level: %s", windows)
    outcome = loop.run(
        trainer,
        partial(
            sequences.draw,
            batch=params.batch,
            seed=seed,
            audio_range=trainer.audio_range,
            share=group.share,
        ),
        loop.Plan(
            name="",
            prefix="",
            steps=params.steps,
            samples=params.batch,
            settings=params.loop,
            folder=out / RESUME,
            key=key,
            threads=threads,
            remedy=REMEDY,
        ),
        tracker=tracker,
        group=group,
    )
    counts = {f"train/sync_windows_level{level}": float(n) for level, n in windows.items()}
    metrics = outcome.terms | counts | outcome.scores
    if group.leads:
        trainer.finish(out / GENERATOR, outcome, key, metrics)
        checkpoint.remove(out / RESUME)
    group.wait()
    return metrics


class Trainer:
    """Generator, critics and their optimisers: what the loop trains, and how.

    Args:
        facts: Statistics of the training clips.
        val: Clips to score weights on; may be empty.
        guides: One syncer per level; frozen here.
        params: The `train_generator` section.
        kernel: Odd width of the pyramid's box mean.
        seed: Seed of the weights and of every draw.
        device: Where to train.
        group: The processes that train together.
    """

    def __init__(
        self,
        facts: Statistics,
        val: Pack,
        guides: Sequence[Syncer],
        params: TrainGenerator,
        *,
        kernel: int,
        seed: int,
        device: torch.device,
        group: Group,
    ) -> None:
        if not any(params.weights.model_dump().values()):
            raise ParamsError("every weight in train_generator.weights is 0: nothing to learn")
        self.guides = [guide.to(device).eval().requires_grad_(False) for guide in guides]
        self.teachers = [guide for guide in self.guides if guide.level in params.sync_levels]
        if params.weights.sync and not self.teachers:
            raise ValueError(
                "train_generator.weights.sync needs a guide of one of the levels "
                f"{params.sync_levels}, found {[guide.level for guide in guides]}"
            )
        self.params, self.kernel, self.device = params, kernel, device
        self.val, self.group = val, group
        self.audio_range = facts.audio_range if params.augment else None
        self.size = params.generator.model_dump() | {
            "mel_bands": len(facts.audio_mean_M),
            "observed_frames": params.observed_frames,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = Generator(**self.size)
            self.critics = Critics(**params.critics.model_dump())
        if params.standardise:
            self._standardise(facts)
        self.generator.to(device)
        self.critics.to(device)
        self.modules = {"generator": self.generator, "critics": self.critics}
        self.kept = self.generator
        self._graph = graphed(self._step, params.loop, device, group)
        self.optimisers = {
            "generator": self._adam(self.generator, params.generator_learning_rate),
            "critics": self._adam(self.critics, params.critic_learning_rate),
        }
        self.frames = params.observed_frames + params.predicted_frames

    def sequences(self, pack: Pack) -> Sequences:
        """Crops of the length that it is trained on, on its device."""
        context_frames = self.params.context_frames
        return Sequences(
            pack, frames=self.frames, context_frames=context_frames, device=self.device
        )

    def train(self, batch: Batch, step: int, *, report: bool) -> Terms:
        """One step: one roll-out serves the critics, then the generator."""
        terms = self._graph(batch) if self._graph else self._step(batch, report=report)
        return {f"train/{name}": term for name, term in terms.items()}

    def _step(self, batch: Batch, *, report: bool = True) -> Terms:
        params = self.params
        real_BTPD, audio_BAM = batch.inner
        with self._autocast():
            motion_BTPD = self.generator(real_BTPD[:, : params.observed_frames], audio_BAM)

        # critics: the same motion, detached; they watch even where they do not teach
        terms = self._train_critics(real_BTPD, motion_BTPD.detach())

        # generator: every term that weighs something; in a report, the others too
        weights = params.weights.model_dump()
        weighed = {name: weight for name, weight in weights.items() if weight}
        losses = self._losses(motion_BTPD, real_BTPD, batch, weighed)
        loss = torch.stack([weighed[name] * term for name, term in losses.items()]).sum()
        grad_norm = descend(
            loss,
            self.generator,
            self.optimisers["generator"],
            max_grad_norm=params.loop.max_grad_norm,
            group=self.group,
        )
        if report:
            with torch.no_grad():
                unweighed = weights.keys() - weighed.keys()
                losses |= self._losses(motion_BTPD, real_BTPD, batch, unweighed)
        return terms | losses | {"loss": loss, "grad_norm": grad_norm}

    @torch.no_grad()
    def validate(self, module: nn.Module) -> Validation | None:
        """Score weights on the centre of every validation clip that is long enough.

        Better are those whose position and sync terms, at their weights, are less; where these
        weigh nothing, those with less position error.
        """
        params, weights = self.params, self.params.weights
        if not (self.val.frames_C >= self.frames).any():
            if len(self.val):
                logger.warning(
                    "none of %d validation clips has %d frames", len(self.val), self.frames
                )
            return None
        sums: dict[str, float] = {}
        count = 0
        module.eval()
        for batch in self.sequences(self.val).centred(params.batch):
            real_BTPD, audio_BAM = batch.inner
            with self._autocast():
                motion_BTPD = module(real_BTPD[:, : params.observed_frames], audio_BAM)
            predicted = slice(params.observed_frames, None)
            terms = {"position": _distance(motion_BTPD[:, predicted], real_BTPD[:, predicted])}
            if self.guides:
                by_level = self._sync(motion_BTPD, batch, self.guides).by_level
                terms |= {f"sync_level{level}": term for level, term in by_level.items()}
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + len(real_BTPD) * term.item()
            count += len(real_BTPD)
        module.train()
        scores = {name: total / count for name, total in sums.items()}
        taught = [f"sync_level{guide.level}" for guide in self.teachers]
        synced = [scores[name] for name in taught if name in scores]
        loss = weights.position * scores["position"]
        if synced:
            loss += weights.sync * sum(synced) / len(synced)
        if not (weights.position or (weights.sync and synced)):
            loss = scores["position"]
        return Validation(loss, {f"val/{name}": value for name, value in scores.items()})

    def sync_windows(self, context_frames: int) -> dict[int, int]:
        """Windows of a sequence that each level's guide scores; 0: the level is left out."""
        context, frames = context_frames, self.frames
        return {
            guide.level: len(
                scored_windows(
                    frames + 2 * context,
                    guide.level,
                    kernel=self.kernel,
                    generated=_generated(context, frames),
                    valid_only=context > 0,
                )
            )
            for guide in self.guides
        }

    def finish(
        self, folder: Path, outcome: Outcome, key: str, metrics: Mapping[str, float]
    ) -> None:
        """Write the generator alone, with what is needed to build it again."""
        metadata = {
            "size": self.size,
            "observed_frames": self.params.observed_frames,
            "predicted_frames": self.params.predicted_frames,
            "kernel": self.kernel,
            "steps": outcome.steps,
            "metrics": dict(metrics),
            "key": key,
        }
        checkpoint.save(folder, outcome.module.state_dict(), metadata)

    def _train_critics(self, real_BTPD: Tensor, fake_BTPD: Tensor) -> Terms:
        observed = self.params.observed_frames
        clips = len(real_BTPD)
        context_BCPD = self._context(real_BTPD)
        with self._autocast():
            frame_scores, sequence_scores = self.critics(
                torch.cat([context_BCPD, context_BCPD]),
                torch.cat([real_BTPD[:, observed:], fake_BTPD[:, observed:]]),
            )
        losses = {
            "critic_frame": gan.critic_loss(*frame_scores.float().split(clips)),
            "critic_sequence": gan.critic_loss(*sequence_scores.float().split(clips)),
        }
        descend(
            torch.stack(list(losses.values())).sum(),
            self.critics,
            self.optimisers["critics"],
            max_grad_norm=0.0,
            group=self.group,
        )
        return losses

    def _losses(
        self, motion_BTPD: Tensor, real_BTPD: Tensor, batch: Batch, wanted: Collection[str]
    ) -> Terms:
        """Those of the wanted terms that exist here; their names are those of the weights."""
        observed = self.params.observed_frames
        made_BTPD, wanted_BTPD = motion_BTPD[:, observed:], real_BTPD[:, observed:]
        losses: Terms = {}
        if not {"adversarial_frame", "adversarial_sequence"}.isdisjoint(wanted):
            with _frozen(self.critics), self._autocast():
                frame_scores, sequence_scores = self.critics(self._context(real_BTPD), made_BTPD)
            losses["adversarial_frame"] = gan.generator_loss(frame_scores.float())
            losses["adversarial_sequence"] = gan.generator_loss(sequence_scores.float())
        if "sync" in wanted and self.teachers:
            with self._autocast():
                losses["sync"] = self._sync(motion_BTPD, batch, self.teachers).loss
        if "position" in wanted:
            losses["position"] = _distance(made_BTPD, wanted_BTPD)
        if "reconstruction" in wanted and observed > 1:
            losses["reconstruction"] = _distance(
                motion_BTPD[:, 1:observed], real_BTPD[:, 1:observed]
            )
        if "velocity" in wanted:
            losses["velocity"] = F.l1_loss(
                motion_BTPD[:, observed - 1 :].diff(dim=1), real_BTPD[:, observed - 1 :].diff(dim=1)
            )
        if "rigidity" in wanted:
            losses["rigidity"] = rigidity_loss(made_BTPD, real_BTPD[:, 0])
        return {name: term for name, term in losses.items() if name in wanted}

    def _sync(self, motion_BTPD: Tensor, batch: Batch, guides: Sequence[Syncer]) -> SyncLoss:
        """Sync of the first real, the reconstructed and the predicted frames, in their context."""
        context, frames = batch.context_frames, motion_BTPD.shape[1]
        before_BTPD = batch.motion_BTPD[:, :context]
        after_BTPD = batch.motion_BTPD[:, context + frames :]
        return pyramid_sync_loss(
            torch.cat([before_BTPD, motion_BTPD, after_BTPD], dim=1),
            batch.audio_BAM,
            guides,
            kernel=self.kernel,
            generated=_generated(context, frames),
            valid_only=context > 0,
            mean_BPD=batch.motion_BTPD.mean(dim=1),
        )

    def _context(self, real_BTPD: Tensor) -> Tensor:
        observed = self.params.observed_frames
        return real_BTPD[:, max(0, observed - CRITIC_CONTEXT_FRAMES) : observed]

    def _adam(self, module: nn.Module, learning_rate: float) -> torch.optim.Adam:
        return optimiser(
            torch.optim.Adam,
            module.parameters(),
            learning_rate,
            betas=(0.0, 0.999),
            recorded=self._graph is not None,
        )

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.params.loop.precision)

    def _standardise(self, facts: Statistics) -> None:
        mean_X = torch.from_numpy(facts.motion_mean_PD).flatten()
        std_X = torch.from_numpy(facts.motion_std_PD).flatten()
        self.generator.standardise.fit(mean_X, std_X)
        self.critics.standardise.fit(mean_X, std_X)
        self.generator.audio.standardise.fit(
            torch.from_numpy(facts.audio_mean_M), torch.from_numpy(facts.audio_std_M)
        )
        self.generator.velocity_scale_X.copy_(torch.from_numpy(facts.velocity_rms_PD).flatten())


def _distance(made_BTPD: Tensor, wanted_BTPD: Tensor) -> Tensor:
    """L2: the Euclidean distance of two faces as vectors of 136 coordinates, frames' mean."""
    distance_BT: Tensor = torch.linalg.vector_norm((made_BTPD - wanted_BTPD).flatten(2), dim=2)
    return distance_BT.mean()


def _generated(context: int, frames: int) -> range:
    """Frames of crop and context that the generator makes: all of the crop but its first."""
    return range(context + 1, context + frames)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Within: gradients flow through the module, none reach its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
