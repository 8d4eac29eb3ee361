"""Does motion match its audio, at every level of the pyramid? (docs/ms-sync.md, section 5).

Axis letters: B clips, T frames (25 Hz), A audio rows (100 Hz), P = 68 points, D = 2, X = 136
coordinates, M mel bands, W windows, N = B W windows of all clips, E embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mssync import pyramid


class Guide(Protocol):
    """What the loss needs of a syncer."""

    @property
    def level(self) -> int:
        """Level of the pyramid it listens to."""

    @property
    def from_mean(self) -> bool:
        """Whether motion is wanted less the clip's mean face."""

    def embed_motion(self, motion_N5PD: Tensor) -> Tensor:
        """Windows of five motion samples (N, 5, 68, 2) -> (N, E)."""

    def embed_audio(self, audio_N20M: Tensor) -> Tensor:
        """Windows of twenty audio rows (N, 20, M) -> (N, E)."""


@dataclass(frozen=True)
class SyncLoss:
    """The loss and what it is made of.

    Attributes:
        loss: Mean over the scored levels of minus the mean cosine; scalar in [-1, 1].
        by_level: The same of each scored level.
        windows: Windows of a clip that each level scores; 0: the level is left out.
    """

    loss: Tensor
    by_level: Mapping[int, Tensor]
    windows: Mapping[int, int]


def pyramid_sync_loss(
    motion_BTPD: Tensor,
    audio_BAM: Tensor,
    guides: Sequence[Guide],
    *,
    kernel: int,
    generated: range,
    valid_only: bool,
    mean_BPD: Tensor | None = None,
) -> SyncLoss:
    """Score motion by frozen guides; gradients flow through the pyramid to the motion.

    Args:
        motion_BTPD: Shape (B, T, 68, 2), generated frames with the real ones around them.
        audio_BAM: Log mel energies of the same frames, shape (B, 4 T, M).
        guides: One per level; their parameters should not require gradients.
        kernel: Odd width of the pyramid's box mean, in samples.
        generated: Frames of `motion_BTPD` that were generated; windows without one are left out.
        valid_only: Leave out windows that touch padding.
        mean_BPD: The mean face of each clip, shape (B, 68, 2), for guides that want motion less
            it. That of the real clip lets them hear where generated points are. None: the
            motion's own.

    Returns:
        The loss, its levels, and how many windows each one scored.

    Raises:
        ValueError: If no level has a window, or audio and motion differ in length.
    """
    frames = motion_BTPD.shape[1]
    if audio_BAM.shape[1] != pyramid.ROWS_PER_SAMPLE * frames:
        raise ValueError(
            f"{frames} frames take {pyramid.ROWS_PER_SAMPLE * frames} audio rows, "
            f"found {audio_BAM.shape[1]}"
        )
    spans = {
        guide.level: scored_windows(
            frames, guide.level, kernel=kernel, generated=generated, valid_only=valid_only
        )
        for guide in guides
    }
    mean_BPD = motion_BTPD.mean(dim=1) if mean_BPD is None else mean_BPD
    displaced_BTPD = motion_BTPD - mean_BPD[:, None]
    by_level = {
        guide.level: -_cosines(
            displaced_BTPD if guide.from_mean else motion_BTPD,
            audio_BAM,
            guide,
            spans[guide.level],
            kernel,
        ).mean()
        for guide in guides
        if spans[guide.level]
    }
    if not by_level:
        raise ValueError(f"{frames} frames hold no window of levels {sorted(spans)}")
    windows = {level: len(span) for level, span in spans.items()}
    return SyncLoss(torch.stack(list(by_level.values())).mean(), by_level, windows)


def scored_windows(
    frames: int, level: int, *, kernel: int, generated: range, valid_only: bool
) -> range:
    """Windows of a level that depend on a generated frame.

    Args:
        frames: Length at level 0.
        level: Level of the pyramid.
        kernel: Odd width of the pyramid's box mean, in samples.
        generated: Frames that were generated.
        valid_only: Leave out windows that touch padding.
    """
    if level and pyramid.length(frames, level - 1) <= kernel // 2:
        return range(0)  # too short for the pyramid to reach the level
    every = range(pyramid.window_count(pyramid.length(frames, level)))
    allowed = pyramid.valid_windows(frames, level, kernel=kernel) if valid_only else every
    step = 2**level
    reach = kernel // 2 * (step - 1)  # frames that a sample sees on either side of its own
    last_sample = (pyramid.MOTION_WINDOW - 1) * step
    touching = [
        window
        for window in allowed
        if window * step - reach < generated.stop
        and window * step + last_sample + reach >= generated.start
    ]
    return range(touching[0], touching[-1] + 1) if touching and generated else range(0)


def _cosines(
    motion_BTPD: Tensor, audio_BAM: Tensor, guide: Guide, span: range, kernel: int
) -> Tensor:
    """Cosine of every scored window of every clip: (N,)."""
    motion_BTX = pyramid.at_level(motion_BTPD.flatten(2), guide.level, kernel=kernel)
    motion_BW5X = pyramid.motion_windows(motion_BTX)[:, span.start : span.stop]
    motion_N5PD = motion_BW5X.flatten(0, 1).unflatten(2, motion_BTPD.shape[2:])
    with torch.no_grad():  # the audio is given
        level_BAM = pyramid.at_level(audio_BAM, guide.level, kernel=kernel)
        audio_BW20M = pyramid.audio_windows(level_BAM, windows=span.stop)[:, span.start :]
        audio_NE = guide.embed_audio(audio_BW20M.flatten(0, 1))
    return F.cosine_similarity(guide.embed_motion(motion_N5PD), audio_NE, dim=1)
