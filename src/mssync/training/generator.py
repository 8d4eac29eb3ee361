"""Training the generator against critics and frozen guides (docs/ms-sync.md, section 5).

Axis letters: B sequences, T frames, C context frames, A audio rows, P = 68 points, D = 2,
X = 136 coordinates, M mel bands.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.data.pack import Pack
from mssync.data.prefetch import prefetched
from mssync.data.sequences import Batch, Sequences
from mssync.data.statistics import Statistics
from mssync.errors import InputError, ParamsError, TrainingDivergedError
from mssync.losses import gan
from mssync.losses.rigidity import rigidity_loss
from mssync.losses.sync import SyncLoss, pyramid_sync_loss, scored_windows
from mssync.models.critics import Critics
from mssync.models.generator import Generator
from mssync.models.syncer import Syncer
from mssync.params import TrainGenerator
from mssync.tracking import Tracker
from mssync.training import checkpoint, state

logger = logging.getLogger(__name__)

FOLDER = "generator"
RESUME = ".resume"
CRITIC_CONTEXT_FRAMES = 2

Terms = dict[str, Tensor]


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
) -> dict[str, float]:
    """Train a generator and write it to `out/generator`.

    Killed at any moment and called again, it goes on from the last checkpoint and ends with the
    same weights, bit for bit; called again after the end, it returns what it returned then.

    Args:
        train: Clips to learn from.
        val: Clips to score the result on; may be empty.
        guides: One syncer per level; frozen.
        params: The `train_generator` section of `params.yaml`.
        kernel: Odd width of the pyramid's box mean, as the guides were trained.
        seed: Seed of the weights and of every draw.
        device: Where to train.
        threads: That make batches ahead; they decide nothing.
        tracker: Where terms of the loss are logged.
        out: Folder of the generator and, until it is finished, of `.resume`.
        key: Digest of all that the result depends on; checkpoints of another key are not used.

    Returns:
        The last terms (`train/...`) and the scores on `val` (`val/...`).

    Raises:
        StageFailedError: If no training clip is long enough.
        ParamsError: If every weight of the loss is 0.
        ValueError: If there is no guide though sync has a weight.
        TrainingDivergedError: If the loss is not finite when it is reported or stored.
    """
    finished = _stored(out / FOLDER, key)
    if finished is not None:
        checkpoint.remove_leftovers(out / FOLDER)
        checkpoint.remove(out / RESUME)
        metrics: dict[str, float] = finished[1]["metrics"]
        return metrics
    trainer = Trainer(train.statistics, guides, params, kernel=kernel, seed=seed, device=device)
    sequences = trainer.sequences(train)
    trainer.resume(out / RESUME, key)
    windows = trainer.sync_windows(sequences.context_frames)
    logger.info("windows of a sequence that the sync loss scores, by level: %s", windows)
    draw = partial(sequences.draw, batch=params.batch, seed=seed, audio_range=trainer.audio_range)
    steps = range(trainer.step, params.steps)
    values: dict[str, float] = {}
    for step, batch in zip(steps, prefetched(draw, steps, threads=threads), strict=True):
        terms = trainer.train(batch)
        last = step + 1 == params.steps
        reported = last or step % params.log_every_steps == 0
        stored = not last and (step + 1) % params.checkpoint_every_steps == 0

        # report: .item() waits for the GPU, so only now and then, and before anything is stored
        if reported or stored:
            values = _finite(terms, step)
        if reported:
            tracker.log(values, step)
            logger.info("step %6d  %s", step, "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
        if stored:
            trainer.save(out / RESUME, key)
    counts = {f"train/sync_windows_level{level}": float(n) for level, n in windows.items()}
    metrics = values | counts | trainer.validate(val)
    trainer.finish(out / FOLDER, key, metrics)
    checkpoint.remove(out / RESUME)
    return metrics


class Trainer:
    """Generator, critics, their optimisers, and how many steps they have made.

    Args:
        facts: Statistics of the training clips.
        guides: One syncer per level; frozen here.
        params: The `train_generator` section.
        kernel: Odd width of the pyramid's box mean.
        seed: Seed of the weights and of every draw.
        device: Where to train.
    """

    def __init__(
        self,
        facts: Statistics,
        guides: Sequence[Syncer],
        params: TrainGenerator,
        *,
        kernel: int,
        seed: int,
        device: torch.device,
    ) -> None:
        if not any(params.weights.model_dump().values()):
            raise ParamsError("every weight in train_generator.weights is 0: nothing to learn")
        if params.weights.sync and not guides:
            raise ValueError("train_generator.weights.sync needs a guide, found none")
        self.params, self.kernel, self.seed, self.device = params, kernel, seed, device
        self.guides = [guide.to(device).eval().requires_grad_(False) for guide in guides]
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
        self.optimisers = {
            "generator": _adam(self.generator, params.generator_learning_rate),
            "critics": _adam(self.critics, params.critic_learning_rate),
        }
        self.frames = params.observed_frames + params.predicted_frames
        self.step = 0

    def sequences(self, pack: Pack) -> Sequences:
        """Crops of the length that it is trained on, on its device."""
        context_frames = self.params.context_frames
        return Sequences(
            pack, frames=self.frames, context_frames=context_frames, device=self.device
        )

    def train(self, batch: Batch) -> Terms:
        """One step: one roll-out serves the critics, then the generator."""
        params, weights = self.params, self.params.weights
        real_BTPD, audio_BAM = batch.inner
        terms: Terms = {}
        motion_BTPD = self.generator(real_BTPD[:, : params.observed_frames], audio_BAM)

        # critics: the same motion, detached
        if weights.adversarial_frame or weights.adversarial_sequence:
            terms |= self._train_critics(real_BTPD, motion_BTPD.detach())

        # generator: every term that weighs something, by name
        losses = self._generator_losses(motion_BTPD, real_BTPD, batch)
        loss = torch.stack([getattr(weights, name) * term for name, term in losses.items()]).sum()
        optimiser = self.optimisers["generator"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(
            self.generator.parameters(), params.max_grad_norm or math.inf
        )
        optimiser.step()
        self.step += 1
        return terms | losses | {"loss": loss, "grad_norm": grad_norm}

    @torch.no_grad()
    def validate(self, pack: Pack) -> dict[str, float]:
        """Position error and sync per level on the centre of every clip that is long enough."""
        params, frames = self.params, self.frames
        if not (pack.frames_C >= frames).any():
            logger.warning("none of %d validation clips has %d frames", len(pack), frames)
            return {}
        sequences = self.sequences(pack)
        sums: dict[str, float] = {}
        count = 0
        self.generator.eval()
        for batch in sequences.centred(params.batch):
            real_BTPD, audio_BAM = batch.inner
            motion_BTPD = self.generator(real_BTPD[:, : params.observed_frames], audio_BAM)
            predicted = slice(params.observed_frames, None)
            terms = {"position": _distance(motion_BTPD[:, predicted], real_BTPD[:, predicted])}
            if self.guides:
                by_level = self._sync(motion_BTPD, batch).by_level
                terms |= {f"sync_level{level}": term for level, term in by_level.items()}
            for name, term in terms.items():
                sums[f"val/{name}"] = sums.get(f"val/{name}", 0.0) + len(real_BTPD) * term.item()
            count += len(real_BTPD)
        self.generator.train()
        return {name: total / count for name, total in sums.items()}

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

    def save(self, folder: Path, key: str) -> None:
        """Write all that the next step depends on."""
        tensors = state.pack(self.modules, self.optimisers)
        checkpoint.save(folder, tensors, {"key": key, "step": self.step})

    def resume(self, folder: Path, key: str) -> None:
        """Go on from a checkpoint of `save`, if there is one of this key."""
        stored = _stored(folder, key)
        if stored is None:
            return
        tensors, metadata = stored
        state.unpack(tensors, self.modules, self.optimisers)
        self.step = metadata["step"]
        logger.info("going on from step %d of %d", self.step, self.params.steps)

    def finish(self, folder: Path, key: str, metrics: Mapping[str, float]) -> None:
        """Write the generator alone, with what is needed to build it again."""
        metadata = {
            "size": self.size,
            "observed_frames": self.params.observed_frames,
            "predicted_frames": self.params.predicted_frames,
            "kernel": self.kernel,
            "steps": self.step,
            "metrics": dict(metrics),
            "key": key,
        }
        checkpoint.save(folder, self.generator.state_dict(), metadata)

    def _train_critics(self, real_BTPD: Tensor, fake_BTPD: Tensor) -> Terms:
        observed = self.params.observed_frames
        clips = len(real_BTPD)
        context_BCPD = self._context(real_BTPD)
        frame_scores, sequence_scores = self.critics(
            torch.cat([context_BCPD, context_BCPD]),
            torch.cat([real_BTPD[:, observed:], fake_BTPD[:, observed:]]),
        )
        losses = {
            "critic_frame": gan.critic_loss(*frame_scores.split(clips)),
            "critic_sequence": gan.critic_loss(*sequence_scores.split(clips)),
        }
        optimiser = self.optimisers["critics"]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        return losses

    def _generator_losses(self, motion_BTPD: Tensor, real_BTPD: Tensor, batch: Batch) -> Terms:
        """Terms that weigh something; their names are those of the weights."""
        weights, observed = self.params.weights, self.params.observed_frames
        made_BTPD, wanted_BTPD = motion_BTPD[:, observed:], real_BTPD[:, observed:]
        losses: Terms = {}
        if weights.adversarial_frame or weights.adversarial_sequence:
            with _frozen(self.critics):
                frame_scores, sequence_scores = self.critics(self._context(real_BTPD), made_BTPD)
            losses["adversarial_frame"] = gan.generator_loss(frame_scores)
            losses["adversarial_sequence"] = gan.generator_loss(sequence_scores)
        if weights.sync and self.guides:
            losses["sync"] = self._sync(motion_BTPD, batch).loss
        if weights.position:
            losses["position"] = _distance(made_BTPD, wanted_BTPD)
        if weights.reconstruction and observed > 1:
            losses["reconstruction"] = _distance(
                motion_BTPD[:, 1:observed], real_BTPD[:, 1:observed]
            )
        if weights.velocity:
            losses["velocity"] = F.l1_loss(
                motion_BTPD[:, observed - 1 :].diff(dim=1), real_BTPD[:, observed - 1 :].diff(dim=1)
            )
        if weights.rigidity:
            losses["rigidity"] = rigidity_loss(made_BTPD, real_BTPD[:, 0])
        return losses

    def _sync(self, motion_BTPD: Tensor, batch: Batch) -> SyncLoss:
        """Sync of the first real, the reconstructed and the predicted frames, in their context."""
        context, frames = batch.context_frames, motion_BTPD.shape[1]
        before_BTPD = batch.motion_BTPD[:, :context]
        after_BTPD = batch.motion_BTPD[:, context + frames :]
        return pyramid_sync_loss(
            torch.cat([before_BTPD, motion_BTPD, after_BTPD], dim=1),
            batch.audio_BAM,
            self.guides,
            kernel=self.kernel,
            generated=_generated(context, frames),
            valid_only=context > 0,
        )

    def _context(self, real_BTPD: Tensor) -> Tensor:
        observed = self.params.observed_frames
        return real_BTPD[:, max(0, observed - CRITIC_CONTEXT_FRAMES) : observed]

    def _standardise(self, facts: Statistics) -> None:
        mean_X = torch.from_numpy(facts.motion_mean_PD).flatten()
        std_X = torch.from_numpy(facts.motion_std_PD).flatten()
        self.generator.standardise.fit(mean_X, std_X)
        self.critics.standardise.fit(mean_X, std_X)
        self.generator.audio.standardise.fit(
            torch.from_numpy(facts.audio_mean_M), torch.from_numpy(facts.audio_std_M)
        )
        self.generator.velocity_scale_X.copy_(torch.from_numpy(facts.velocity_rms_PD).flatten())


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Read a generator that `fit` wrote, ready for inference.

    Raises:
        InputError: If the folder holds no checkpoint of a generator.
    """
    tensors, metadata = checkpoint.load(folder)
    try:
        generator = Generator(**metadata["size"])
        generator.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{folder} holds no checkpoint of a generator: {error}") from error
    return generator.to(device).eval()


def _stored(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """A checkpoint of this key, or nothing."""
    try:
        tensors, metadata = checkpoint.load(folder)
    except InputError as error:
        if folder.exists():
            logger.warning("%s; it will be replaced", error)
        return None
    if metadata.get("key") != key:
        logger.info("%s was made from other inputs and will be replaced", folder)
        return None
    return tensors, metadata


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), learning_rate, betas=(0.0, 0.999), fused=True)


def _distance(made_BTPD: Tensor, wanted_BTPD: Tensor) -> Tensor:
    """L2: the Euclidean distance of two faces as vectors of 136 coordinates, frames' mean."""
    distance_BT: Tensor = torch.linalg.vector_norm((made_BTPD - wanted_BTPD).flatten(2), dim=2)
    return distance_BT.mean()


def _generated(context: int, frames: int) -> range:
    """Frames of crop and context that the generator makes: all of the crop but its first."""
    return range(context + 1, context + frames)


def _finite(terms: Terms, step: int) -> dict[str, float]:
    """The terms as numbers, named for the tracker."""
    values = {f"train/{name}": term.item() for name, term in terms.items()}
    if not all(map(math.isfinite, values.values())):
        raise TrainingDivergedError(
            f"step {step}: the loss is not finite; terms: {values}. Lower "
            "train_generator.generator_learning_rate or train_generator.critic_learning_rate"
        )
    return values


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Within: gradients flow through the module, none reach its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
