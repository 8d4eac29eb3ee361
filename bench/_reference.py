"""The same model written down plainly: what ours is compared with, in numbers and in speed.

No key or value is kept, so that the whole history goes through the Transformer at every step; each
of the two updates of an iteration makes its own roll-out; branches are grouped convolutions; the
critic runs its LSTM over every window, size by size; the pyramid is walked sample by sample, level
by level. Nothing is done that costs time for its own sake: the critics' roll-out keeps no graph,
the critics are frozen while the generator learns, real and fake are judged in one call, clips lie
along the convolutions' length (as a batch, with length 1, they take five times as long on a CPU),
and a depthwise convolution of kernel 1 is a product (30 times as fast at one clip).
Axis letters as in `mssync.models.generator` and `mssync.losses.sync`.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync import pyramid
from mssync.data.sequences import Batch
from mssync.landmarks.ibug import POINTS
from mssync.losses import gan
from mssync.losses.sync import Guide
from mssync.models.audio_encoder import STREAMS
from mssync.models.critics import COORDINATES, Critics, window_starts
from mssync.models.generator import (
    BRANCHES,
    Branches,
    Generator,
    GroupedBlock,
    GroupedLinear,
    GroupedScale,
)
from mssync.models.temporal import TransformerModule
from mssync.params import TrainGenerator
from mssync.timing import ROWS_PER_FRAME

Terms = dict[str, Tensor]


class ReferenceGenerator(nn.Module):
    """A generator with another's weights.

    Args:
        generator: With one Transformer layer: with more, its sliding cache is another model.

    Raises:
        ValueError: If it has no Transformer, or more than one layer.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        temporal = generator.temporal
        if not isinstance(temporal, TransformerModule) or len(temporal.layers) != 1:
            raise ValueError("the reference is written for a Transformer of one layer")
        self.observed_frames = generator.observed_frames
        self.sees_source, self.pull = generator.sees_source, generator.pull
        self.history_frames = temporal.history_frames
        self.standardise = copy.deepcopy(generator.standardise)
        self.coordinates = copy.deepcopy(generator.coordinates)
        self.transformer = copy.deepcopy(temporal.layers[0])
        self.project = copy.deepcopy(temporal.project)
        self.audio = copy.deepcopy(generator.audio)
        self.branches = ReferenceBranches(generator.branches)
        self.register_buffer("velocity_scale_X", generator.velocity_scale_X.clone())

    def forward(self, observed_BOPD: Tensor, audio_BAM: Tensor) -> Tensor:
        """As `Generator.forward`."""
        clips, observed = observed_BOPD.shape[:2]
        frames = audio_BAM.shape[1] // ROWS_PER_FRAME
        streams = self.audio(audio_BAM)
        real_BOX = observed_BOPD.flatten(2)
        positions = [real_BOX[:, 0]]
        history: list[Tensor] = []
        for frame in range(1, frames):
            fed_BX = real_BOX[:, frame - 1] if frame <= observed else positions[-1]
            seen_BC = self.standardise(fed_BX)
            if self.sees_source:
                moved_BX = seen_BC - self.standardise(real_BOX[:, 0])
                seen_BC = torch.cat([seen_BC, moved_BX], dim=1)
            history.append(self.coordinates(seen_BC))
            history = history[-self.history_frames :]
            seen_BTE = torch.stack(history, dim=1)
            mask_TT = nn.Transformer.generate_square_subsequent_mask(
                len(history), device=seen_BTE.device, dtype=seen_BTE.dtype
            )
            state_BTE = self.transformer(seen_BTE, src_mask=mask_TT, is_causal=True)
            state_BC = torch.cat([self.project(state_BTE[:, -1]), history[-1]], dim=1)
            velocity_BX = self.branches(state_BC, [stream[:, frame] for stream in streams])
            moved_BX = fed_BX + velocity_BX * self.velocity_scale_X
            positions.append((1 - self.pull) * moved_BX + self.pull * real_BOX[:, 0])
        return torch.stack(positions, dim=1).view(clips, frames, POINTS, 2)

    @torch.no_grad()
    def generate(self, source_BPD: Tensor, audio_BAM: Tensor) -> Tensor:
        """As `Generator.generate`."""
        mirrored_rows = ROWS_PER_FRAME * (self.observed_frames - 1)
        rows = audio_BAM.shape[1]
        mirror = [min(row, rows - 1) for row in range(mirrored_rows, 0, -1)]
        observed_BOPD = source_BPD[:, None].expand(-1, self.observed_frames, -1, -1)
        motion_BTPD: Tensor = self(
            observed_BOPD, torch.cat([audio_BAM[:, mirror], audio_BAM], dim=1)
        )
        return motion_BTPD[:, self.observed_frames - 1 :]


class ReferenceBranches(nn.Module):
    """Branches as grouped 1x1 convolutions, masks and proposals in turn."""

    def __init__(self, branches: Branches) -> None:
        super().__init__()
        weight_KWC = branches.from_state.weight.detach().unflatten(0, (BRANCHES, -1))
        bias_KW = branches.from_state.bias.detach().unflatten(0, (BRANCHES, -1))
        audio_KWC = branches.from_audio_KCW.detach().mT
        heard_KCW = torch.cat([weight_KWC[:STREAMS], audio_KWC], dim=2).mT
        self.heard = _convolution(heard_KCW, bias_KW[:STREAMS])
        self.unheard = _convolution(weight_KWC[STREAMS:].mT, bias_KW[STREAMS:])
        self.masks = _head(branches, branches.mask, slice(None, BRANCHES))
        self.proposals = _head(branches, branches.proposal, slice(BRANCHES, None))
        self.mix = copy.deepcopy(branches.mix)

    def forward(self, state_BC: Tensor, heard: Sequence[Tensor]) -> Tensor:
        """One velocity: (B, C) and four of (B, C) -> (B, X)."""
        inputs_BC = torch.cat([torch.cat([state_BC, each_BC], dim=1) for each_BC in heard], dim=1)
        hidden_1CB = torch.cat(
            [self.heard(inputs_BC.t()[None]), self.unheard(state_BC.t()[None])], dim=1
        )
        share_BKP = self.masks(hidden_1CB)[0].t().unflatten(1, (BRANCHES, POINTS)).softmax(dim=1)
        proposal_BC = self.proposals(hidden_1CB)[0].t()
        proposal_BKX = proposal_BC.unflatten(1, (BRANCHES, COORDINATES))
        masked_BKPD = proposal_BKX.unflatten(2, (POINTS, 2)) * share_BKP[..., None]
        velocity_BX: Tensor = self.mix(masked_BKPD.flatten(1))
        return velocity_BX


class _ReferenceBlock(nn.Module):
    def __init__(self, block: GroupedBlock, groups: slice) -> None:
        super().__init__()
        self.inner = nn.Sequential(*(_layer(layer, groups) for layer in block.inner))
        self.shortcut = nn.Sequential(*(_layer(layer, groups) for layer in block.shortcut))

    def forward(self, x_1CB: Tensor) -> Tensor:
        return F.gelu(self.inner(x_1CB) + self.shortcut(x_1CB))


class _Scale(nn.Module):
    def __init__(self, weight_C: Tensor, bias_C: Tensor) -> None:
        super().__init__()
        self.weight_C1 = nn.Parameter(weight_C[:, None].clone())
        self.bias_C1 = nn.Parameter(bias_C[:, None].clone())

    def forward(self, x_1CB: Tensor) -> Tensor:
        return x_1CB * self.weight_C1 + self.bias_C1


class _Norm(nn.GroupNorm):
    def forward(self, x_1CB: Tensor) -> Tensor:
        return super().forward(x_1CB.permute(2, 1, 0)).permute(2, 1, 0)


def _head(branches: Branches, last: GroupedLinear, groups: slice) -> nn.Sequential:
    blocks = [block for block in branches.blocks if isinstance(block, GroupedBlock)]
    return nn.Sequential(
        *(_ReferenceBlock(block, groups) for block in blocks), _layer(last, slice(None))
    )


def _layer(layer: nn.Module, groups: slice) -> nn.Module:
    """Some groups of a grouped layer, as torch's own layer."""
    if isinstance(layer, GroupedLinear):
        return _convolution(layer.weight[groups].detach(), layer.bias[groups, 0].detach())
    if not isinstance(layer, GroupedScale):
        return copy.deepcopy(layer)
    weight_C = layer.weight[groups].detach().flatten()
    bias_C = layer.bias[groups].detach().flatten()
    if type(layer) is GroupedScale:
        return _Scale(weight_C, bias_C)
    return _filled(_Norm(len(layer.weight[groups]), len(weight_C)), weight_C, bias_C)


def _convolution(weight_KCO: Tensor, bias_KO: Tensor) -> nn.Module:
    groups, inputs, outputs = weight_KCO.shape
    made = nn.Conv1d(groups * inputs, groups * outputs, 1, groups=groups)
    return _filled(made, weight_KCO.mT.reshape(groups * outputs, inputs), bias_KO.flatten())


def _filled(layer: nn.Conv1d | nn.GroupNorm, weight: Tensor, bias: Tensor) -> nn.Module:
    assert layer.bias is not None
    layer.to(weight)
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        layer.bias.copy_(bias)
    return layer


class ReferenceCritics(nn.Module):
    """Critics with another's weights: the LSTM runs over every window of a size, then the next."""

    def __init__(self, critics: Critics) -> None:
        super().__init__()
        self.inner = copy.deepcopy(critics)

    def forward(self, context_BCPD: Tensor, motion_BTPD: Tensor) -> tuple[Tensor, Tensor]:
        """As `Critics.forward`."""
        inner, context, frames = self.inner, context_BCPD.shape[1], motion_BTPD.shape[1]
        frames_BTX = torch.cat([context_BCPD, motion_BTPD], dim=1).flatten(2)
        embedded_BTE = inner.embed(inner.standardise(frames_BTX))
        frame_scores_BT = inner.frame(embedded_BTE[:, context:]).squeeze(2)
        starts = {
            size: list(window_starts(frames, size, context_frames=context))
            for size in inner.sequence.window_frames
        }
        starts = {size: first for size, first in starts.items() if first}
        states_BWS = torch.cat(
            [
                self._states(embedded_BTE, size, [context + start for start in first])
                for size, first in starts.items()
            ],
            dim=1,
        )
        context_B1S = self._states(embedded_BTE, context, [0])
        start_W = embedded_BTE.new_tensor([start for first in starts.values() for start in first])
        # One call: each one moves the estimates of the spectral norms on.
        scores_BW = inner.sequence.head(states_BWS, context_B1S, start_W)
        by_size = scores_BW.split([len(first) for first in starts.values()], dim=1)
        means = [of_size_BW.mean(dim=1) for of_size_BW in by_size]
        return frame_scores_BT, torch.stack(means).mean(dim=0)

    def _states(self, embedded_BTE: Tensor, size: int, starts: Sequence[int]) -> Tensor:
        windows_BWTE = torch.stack(
            [embedded_BTE[:, start : start + size] for start in starts], dim=1
        )
        _, (last_1NS, _) = self.inner.sequence.lstm(windows_BWTE.flatten(0, 1))
        states_BWS: Tensor = last_1NS[0].unflatten(0, (-1, len(starts)))
        return states_BWS


def reference_sync(
    motion_BTPD: Tensor,
    audio_BAM: Tensor,
    guides: Sequence[Guide],
    *,
    kernel: int,
    mean_BPD: Tensor,
) -> Tensor:
    """The sync loss without context: sample by sample, level by level."""
    frames = motion_BTPD.shape[1]
    by_level = []
    for guide in guides:
        cosines = []
        for motion_TPD, audio_AM, mean_PD in zip(motion_BTPD, audio_BAM, mean_BPD, strict=True):
            motion_TPD = motion_TPD - mean_PD if guide.from_mean else motion_TPD
            level_1TX = pyramid.at_level(motion_TPD.flatten(1)[None], guide.level, kernel=kernel)
            level_1AM = pyramid.at_level(audio_AM[None], guide.level, kernel=kernel)
            windows = pyramid.window_count(pyramid.length(frames, guide.level))
            if not windows:
                continue
            motion_W5X = pyramid.motion_windows(level_1TX)[0]
            audio_W20M = pyramid.audio_windows(level_1AM, windows=windows)[0]
            motion_WE = guide.embed_motion(motion_W5X.unflatten(2, (POINTS, 2)))
            with torch.no_grad():
                audio_WE = guide.embed_audio(audio_W20M)
            cosines.append(F.cosine_similarity(motion_WE, audio_WE, dim=1))
        if cosines:
            by_level.append(-torch.cat(cosines).mean())
    return torch.stack(by_level).mean()


class ReferenceTrainer:
    """Iterations of adversarial, sync, position and reconstruction losses, without context.

    Args:
        generator: Its weights are copied.
        critics: Their weights are copied.
        guides: One syncer per level, frozen.
        params: The `train_generator` section; `context_frames` must be 0.
        kernel: Odd width of the pyramid's box mean.
    """

    def __init__(
        self,
        generator: Generator,
        critics: Critics,
        guides: Sequence[Guide],
        params: TrainGenerator,
        *,
        kernel: int,
    ) -> None:
        self.generator = ReferenceGenerator(generator)
        self.critics = ReferenceCritics(critics)
        self.guides, self.params, self.kernel = guides, params, kernel
        betas = (0.0, 0.999)
        self.generator_adam = torch.optim.Adam(
            self.generator.parameters(), params.generator_learning_rate, betas=betas
        )
        self.critics_adam = torch.optim.Adam(
            self.critics.parameters(), params.critic_learning_rate, betas=betas
        )

    def train(self, batch: Batch) -> Terms:
        """One iteration: the critics' update on a roll-out, then the generator's on another."""
        observed = self.params.observed_frames
        real_BTPD, audio_BAM = batch.inner
        context_BCPD = real_BTPD[:, max(0, observed - 2) : observed]
        clips = len(real_BTPD)

        # critics
        with torch.no_grad():
            fake_BTPD = self.generator(real_BTPD[:, :observed], audio_BAM)
        judged_BTPD = torch.cat([real_BTPD[:, observed:], fake_BTPD[:, observed:]])
        frame_scores, sequence_scores = self.critics(
            torch.cat([context_BCPD, context_BCPD]), judged_BTPD
        )
        terms = {
            "critic_frame": gan.critic_loss(*frame_scores.split(clips)),
            "critic_sequence": gan.critic_loss(*sequence_scores.split(clips)),
        }
        self.critics_adam.zero_grad()
        (terms["critic_frame"] + terms["critic_sequence"]).backward()
        self.critics_adam.step()

        # generator
        motion_BTPD = self.generator(real_BTPD[:, :observed], audio_BAM)
        losses = self._losses(motion_BTPD, real_BTPD, audio_BAM, context_BCPD)
        weights = self.params.weights
        loss = torch.stack([getattr(weights, name) * term for name, term in losses.items()]).sum()
        self.generator_adam.zero_grad()
        loss.backward()
        longest = self.params.loop.max_grad_norm or math.inf
        nn.utils.clip_grad_norm_(self.generator.parameters(), longest)
        self.generator_adam.step()
        return terms | losses | {"loss": loss}

    def _losses(
        self, motion_BTPD: Tensor, real_BTPD: Tensor, audio_BAM: Tensor, context_BCPD: Tensor
    ) -> Terms:
        observed = self.params.observed_frames
        self.critics.requires_grad_(False)
        frame_scores, sequence_scores = self.critics(context_BCPD, motion_BTPD[:, observed:])
        self.critics.requires_grad_(True)
        distance_BT = (motion_BTPD - real_BTPD).flatten(2).norm(dim=2)
        return {
            "adversarial_frame": gan.generator_loss(frame_scores),
            "adversarial_sequence": gan.generator_loss(sequence_scores),
            "sync": reference_sync(
                motion_BTPD,
                audio_BAM,
                self.guides,
                kernel=self.kernel,
                mean_BPD=real_BTPD.mean(dim=1),
            ),
            "position": distance_BT[:, observed:].mean(),
            "reconstruction": distance_BT[:, 1:observed].mean(),
        }
