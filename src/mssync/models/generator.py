"""The autoregressive landmark generator (docs/ms-sync.md, section 4).

Axis letters: B clips, T frames (25 Hz), O observed frames, A audio rows (100 Hz), M mel bands,
P = 68 points, D = 2, X = 136 coordinates, E embedding, H heads, W width of a branch, K = 5
branches, N = 10 heads of branches (five of masks, then five of proposals), C channels.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.landmarks.ibug import POINTS
from mssync.models.audio_encoder import STREAMS, AudioEncoder
from mssync.models.maps import GatheredMaps, Maps, affine
from mssync.models.standardise import Standardise
from mssync.models.temporal import LstmModule, Memory, TransformerModule
from mssync.timing import ROWS_PER_FRAME

COORDINATES = 2 * POINTS
BRANCHES = STREAMS + 1  # the last one hears nothing

# The position one frame later, of position, source, what is heard, and memory: `Generator.advance`.
Advance = Callable[[Tensor, Tensor, Tensor, Memory], Tensor]


class Generator(nn.Module):
    """Source face and speech -> landmarks, one velocity at a time.

    `temporal_module: lstm` replaces the Transformer by an LSTM of the same width, the baseline of
    the paper's ablation; `heads`, `feedforward` and `history_frames` then mean nothing.

    The paper's generator sees where the face is, not where it began: what it looked like at first
    leaves the memory after `history_frames`. With `sees_source` it is shown, at every step, how far
    each point is from where it began; and with `pull`, a share of that way is taken back, so that
    small errors of many steps do not add up.

    With more than one Transformer layer, the sliding cache of keys and values is not the model
    that sees `history_frames` embeddings only: cached values of the upper layers come from
    embeddings further back. With one layer the two are the same.
    """

    velocity_scale_X: Tensor

    def __init__(
        self,
        *,
        coordinate_hidden: list[int],
        width: int,
        temporal_module: Literal["transformer", "lstm"],
        temporal: int,
        layers: int,
        heads: int,
        feedforward: int,
        history_frames: int,
        audio_widths: list[int],
        branch_width: int,
        branch_blocks: int,
        branch_expansion: int,
        sees_source: bool = False,
        pull: float = 0.0,
        mel_bands: int = 26,
        observed_frames: int = 3,
    ) -> None:
        super().__init__()
        self.sees_source, self.pull = sees_source, pull
        self.observed_frames = observed_frames
        self._mirrored_rows = ROWS_PER_FRAME * (observed_frames - 1)
        self.standardise = Standardise(COORDINATES)
        self.register_buffer("velocity_scale_X", torch.ones(COORDINATES))
        first, second = coordinate_hidden
        self.coordinates = nn.Sequential(
            nn.Linear(2 * COORDINATES if sees_source else COORDINATES, first),
            nn.LayerNorm(first),
            nn.Linear(first, second),
            nn.GELU(),
            nn.Linear(second, width),
        )
        self.temporal = (
            TransformerModule(
                width=width,
                out=temporal,
                layers=layers,
                heads=heads,
                feedforward=feedforward,
                history_frames=history_frames,
            )
            if temporal_module == "transformer"
            else LstmModule(width=width, out=temporal, layers=layers)
        )
        self.audio = AudioEncoder(widths=audio_widths, mel_bands=mel_bands)
        self.branches = Branches(
            state=temporal + width,
            audio=audio_widths[-1],
            width=branch_width,
            blocks=branch_blocks,
            expansion=branch_expansion,
        )

    def encode_audio(self, audio_BAM: Tensor) -> list[Tensor]:
        """Four streams of 25 Hz: (B, 4 T, M) -> four of (B, T, C), the finest first.

        Raises:
            ValueError: If the rows are not four a frame.
        """
        streams: list[Tensor] = self.audio(audio_BAM)
        return streams

    def forward(
        self, observed_BOPD: Tensor, audio_BAM: Tensor, *, maps: Maps | None = None
    ) -> Tensor:
        """Roll out: teacher-forced over the observed frames, free-running after them.

        Args:
            observed_BOPD: Real frames, shape (B, O, 68, 2), in crop units.
            audio_BAM: Log mel energies, shape (B, 4 T, M), T >= O; row 0 goes with frame 0.
            maps: How the linear maps of a step are computed; None: with gradients made once for
                all steps where there are any, else one by one.

        Returns:
            Shape (B, T, 68, 2): the first real frame, the observed frames 1..O-1 reconstructed
            each from the real one before it, and T - O predictions.

        Raises:
            ValueError: If the audio is not four rows a frame, or shorter than what is observed.
        """
        clips, observed = observed_BOPD.shape[:2]
        frames = audio_BAM.shape[1] // ROWS_PER_FRAME
        if not 1 <= observed <= frames:
            raise ValueError(f"expected 1 to {frames} observed frames, found {observed}")
        heard = self.branches.hear(self.encode_audio(audio_BAM)).unbind(1)
        real = observed_BOPD.flatten(2).unbind(1)
        memory = self.temporal.start()
        if maps is None:
            maps = GatheredMaps() if torch.is_grad_enabled() else affine
        positions = [real[0]]
        for frame in range(1, frames):
            fed_BX = real[frame - 1] if frame <= observed else positions[-1]
            positions.append(self.advance(fed_BX, real[0], heard[frame], memory, maps))
        return torch.stack(positions, dim=1).view(clips, frames, POINTS, 2)

    @torch.no_grad()
    def generate(self, source_BPD: Tensor, audio_BAM: Tensor) -> Tensor:
        """Animate a source face; frame 0 of the result goes with audio row 0.

        The source is observed `observed_frames` times, on audio mirrored at its start.

        Args:
            source_BPD: Shape (B, 68, 2), or (68, 2) for every clip.
            audio_BAM: Shape (B, 4 T, M), T >= 1.

        Returns:
            Shape (B, T, 68, 2).

        Raises:
            ValueError: If the audio rows are not four a frame.
        """
        source_BPD = source_BPD.expand(audio_BAM.shape[0], POINTS, 2)
        observed_BOPD = source_BPD[:, None].expand(-1, self.observed_frames, -1, -1)
        motion_BTPD: Tensor = self(observed_BOPD, self._with_mirror(audio_BAM))
        return motion_BTPD[:, self.observed_frames - 1 :]

    @torch.no_grad()
    def stream(
        self, source_PD: Tensor, chunks: Iterable[Tensor], *, advance: Advance | None = None
    ) -> Iterator[Tensor]:
        """`generate`, frame by frame, while the audio is still coming in.

        A frame leaves as soon as 1.3 s of audio after it have come, or the last chunk has.
        Memory does not grow with the length.

        Args:
            source_PD: Shape (68, 2).
            chunks: Log mel energies, each (A, M), any lengths, 4 rows a frame in all.
            advance: What stands in for `advance` (`mssync.models.inference`).

        Yields:
            Frames (68, 2), the first for audio row 0.

        Raises:
            ValueError: If the rows, all told, are not four a frame.
        """
        source_BX = source_PD.reshape(1, COORDINATES)
        position_BX, memory = source_BX, self.temporal.start()
        advance = advance or self.advance
        frame = 0
        for streams in self.audio.stream(self._chunks_with_mirror(chunks)):
            for heard_BC in self.branches.hear(streams).unbind(1):
                if frame > 0:
                    fed_BX = source_BX if frame <= self.observed_frames else position_BX
                    position_BX = advance(fed_BX, source_BX, heard_BC, memory)
                if frame >= self.observed_frames - 1:
                    yield position_BX.view(POINTS, 2)
                frame += 1

    def _chunks_with_mirror(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The chunks, mirrored rows before them as soon as the rows to mirror have come."""
        remaining, start, rows = iter(chunks), list[Tensor](), 0
        for chunk_AM in remaining:
            start.append(chunk_AM)
            rows += len(chunk_AM)
            if rows > self._mirrored_rows:
                break
        if rows:
            yield self._with_mirror(torch.cat(start)[None])[0]
        yield from remaining

    def _with_mirror(self, audio_BAM: Tensor) -> Tensor:
        """Audio for the observed frames before frame 0; a short clip's last row is repeated."""
        rows = audio_BAM.shape[1]
        mirror = [min(row, rows - 1) for row in range(self._mirrored_rows, 0, -1)]
        return torch.cat([audio_BAM[:, mirror], audio_BAM], dim=1)

    def advance(
        self,
        position_BX: Tensor,
        source_BX: Tensor,
        heard_BC: Tensor,
        memory: Memory,
        maps: Maps = affine,
    ) -> Tensor:
        """The position one frame later; `memory` moves on in place.

        Args:
            position_BX: The position now, shape (B, 136), in crop units.
            source_BX: Where the face began, the same.
            heard_BC: What the branches hear of the frame (`Branches.hear`), shape (B, K W).
            memory: Of the temporal module.
            maps: How the linear maps are computed.

        Returns:
            Shape (B, 136).
        """
        seen_BC = self.standardise(position_BX)
        if self.sees_source:
            seen_BC = torch.cat([seen_BC, seen_BC - self.standardise(source_BX)], dim=1)
        embedding_BE = in_turn(self.coordinates, seen_BC, maps)
        state_BC = torch.cat([self.temporal.step(embedding_BE, memory, maps), embedding_BE], dim=1)
        velocity_BX = self.branches(state_BC, heard_BC, maps)
        moved_BX = torch.addcmul(position_BX, velocity_BX, self.velocity_scale_X)
        return torch.lerp(moved_BX, source_BX, self.pull) if self.pull else moved_BX


def in_turn(layers: nn.Sequential, x: Tensor, maps: Maps) -> Tensor:
    """Apply layers one after another, the linear ones by `maps`."""
    for layer in layers:
        if isinstance(layer, nn.Linear | GroupedLinear):
            x = maps(x, layer.weight, layer.bias)
        elif isinstance(layer, GroupedBlock):
            x = layer(x, maps)
        else:
            x = layer(x)
    return x


class Branches(nn.Module):
    """Five proposals of a velocity, mixed by masks: four hear one audio stream each, one none."""

    def __init__(self, *, state: int, audio: int, width: int, blocks: int, expansion: int) -> None:
        super().__init__()
        self.width = width
        self.from_state = nn.Linear(state, BRANCHES * width)
        self.from_audio_KCW = nn.Parameter(torch.empty(STREAMS, audio, width))
        bound = (state + audio) ** -0.5
        for parameter in (self.from_state.weight, self.from_state.bias, self.from_audio_KCW):
            nn.init.uniform_(parameter, -bound, bound)
        half = width // 2
        widths = [width] * (blocks + 1) + [half]
        self.blocks = nn.Sequential(
            *(
                GroupedBlock(2 * BRANCHES, before, after, expansion=expansion)
                for before, after in pairwise(widths)
            )
        )
        self.mask = GroupedLinear(BRANCHES, half, POINTS)
        self.proposal = GroupedLinear(BRANCHES, half, COORDINATES)
        self.mix = nn.Linear(BRANCHES * COORDINATES, COORDINATES)

    def hear(self, streams: list[Tensor]) -> Tensor:
        """What the audio adds to every branch, bias included, for all frames at once.

        Args:
            streams: Four of shape (B, T, C).

        Returns:
            Shape (B, T, K W); the same for every frame in the branch without audio.
        """
        heard = [
            stream_BTC @ weight_CW
            for stream_BTC, weight_CW in zip(streams, self.from_audio_KCW, strict=True)
        ]
        heard.append(torch.zeros_like(heard[0]))
        return torch.cat(heard, dim=2) + self.from_state.bias

    def forward(self, state_BC: Tensor, heard_BC: Tensor, maps: Maps = affine) -> Tensor:
        """One velocity: state (B, C) and a frame of `hear` (B, K W) -> (B, X)."""
        clips = len(state_BC)
        hidden_BC = maps(state_BC, self.from_state.weight, heard_BC)
        hidden_KBW = hidden_BC.view(clips, BRANCHES, self.width).transpose(0, 1)
        hidden_NBW = in_turn(self.blocks, torch.cat([hidden_KBW, hidden_KBW]), maps)
        for_mask_KBW, for_proposal_KBW = hidden_NBW.chunk(2)
        share_KBP = maps(for_mask_KBW, self.mask.weight, self.mask.bias).softmax(dim=0)
        proposal_KBC = maps(for_proposal_KBW, self.proposal.weight, self.proposal.bias)
        masked_KBPD = proposal_KBC.unflatten(2, (POINTS, 2)) * share_KBP[..., None]
        masked_BC = masked_KBPD.transpose(0, 1).reshape(clips, -1)
        return maps(masked_BC, self.mix.weight, self.mix.bias)


class GroupedLinear(nn.Module):
    """The parameters of one linear map per group: (N, B, C) -> (N, B, C'), by `Maps`."""

    def __init__(self, groups: int, channels: int, out_channels: int) -> None:
        super().__init__()
        bound = channels**-0.5
        self.weight = nn.Parameter(torch.empty(groups, channels, out_channels))
        self.bias = nn.Parameter(torch.empty(groups, 1, out_channels))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)


class GroupedScale(nn.Module):
    """One factor and offset per group and channel: a depthwise convolution of kernel 1."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(groups, 1, channels))
        self.bias = nn.Parameter(torch.zeros(groups, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift (N, B, C)."""
        return torch.addcmul(self.bias, x, self.weight)


class GroupedNorm(GroupedScale):
    """Group norm, one group a branch: every row (N, B, C) to zero mean and unit spread."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift."""
        return super().forward(F.layer_norm(x, x.shape[-1:]))


class GroupedBlock(nn.Module):
    """Residual 1x1 block of every group at once: (N, B, C) -> (N, B, C').

    Depthwise 1x1, norm, linear, GELU, linear; a linear shortcut with norm where the width
    changes; sum; GELU.
    """

    def __init__(self, groups: int, channels: int, out_channels: int, *, expansion: int) -> None:
        super().__init__()
        hidden = expansion * channels
        self.inner = nn.Sequential(
            GroupedScale(groups, channels),
            GroupedNorm(groups, channels),
            GroupedLinear(groups, channels, hidden),
            nn.GELU(),
            GroupedLinear(groups, hidden, out_channels),
        )
        self.shortcut = (
            nn.Sequential()
            if channels == out_channels
            else nn.Sequential(
                GroupedLinear(groups, channels, out_channels), GroupedNorm(groups, out_channels)
            )
        )

    def forward(self, x: Tensor, maps: Maps = affine) -> Tensor:
        """Apply the block."""
        return F.gelu(in_turn(self.inner, x, maps) + in_turn(self.shortcut, x, maps))
