"""The two critics that tell generated motion from real motion (docs/ms-sync.md, section 5).

Axis letters: B clips, C = 2 context frames, T frames (25 Hz), P = 68 points, D = 2, X = 136
coordinates, E embedding, S LSTM state, W windows.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mssync.device import constant
from mssync.landmarks.ibug import POINTS
from mssync.models.audio_encoder import ConvBlock
from mssync.models.lstm import last_states
from mssync.models.standardise import Standardise

COORDINATES = 2 * POINTS
FIRST_BETA = 5.0


class Critics(nn.Module):
    """A frame critic and a sequence critic on one shared embedding; higher means more real."""

    def __init__(
        self,
        *,
        embedding_hidden: list[int],
        embedding: int,
        frame_hidden: int,
        state: int,
        projection: int,
        window_frames: list[int],
    ) -> None:
        super().__init__()
        first, second = embedding_hidden
        self.standardise = Standardise(COORDINATES)
        self.embed = nn.Sequential(
            nn.Linear(COORDINATES, first),
            nn.LayerNorm(first),
            nn.Linear(first, second),
            nn.GELU(),
            nn.Linear(second, embedding),
        )
        self.frame = nn.Sequential(
            *(ConvBlock(embedding, embedding, kernel=1) for _ in range(3)),
            ConvBlock(embedding, frame_hidden, kernel=1),
            nn.Linear(frame_hidden, 1),
        )
        self.sequence = SequenceCritic(
            embedding=embedding, state=state, projection=projection, window_frames=window_frames
        )

    def forward(self, context_BCPD: Tensor, motion_BTPD: Tensor) -> tuple[Tensor, Tensor]:
        """Score motion that follows real frames.

        Args:
            context_BCPD: The real frames before the motion, shape (B, 2, 68, 2).
            motion_BTPD: Real or generated frames, shape (B, T, 68, 2).

        Returns:
            Scores of the frames of `motion_BTPD` (B, T), and one score a sequence (B,).

        Raises:
            ValueError: If no window size fits.
        """
        context = context_BCPD.shape[1]
        frames_BTX = torch.cat([context_BCPD, motion_BTPD], dim=1).flatten(2)
        embedded_BTE = self.embed(self.standardise(frames_BTX))
        frame_scores_BT = self.frame(embedded_BTE[:, context:]).squeeze(2)
        return frame_scores_BT, self.sequence(embedded_BTE, context_frames=context)


class SequenceCritic(nn.Module):
    """Scores sliding windows by their LSTM state, against the state of the context."""

    def __init__(
        self, *, embedding: int, state: int, projection: int, window_frames: list[int]
    ) -> None:
        super().__init__()
        self.window_frames = window_frames
        self.lstm = nn.LSTM(embedding, state, batch_first=True)
        self.head = ProjectionHead(state=state, projection=projection)

    def forward(self, embedded_BTE: Tensor, *, context_frames: int) -> Tensor:
        """Mean over windows, then over their sizes: (B, context + T, E) -> (B,)."""
        frames = embedded_BTE.shape[1] - context_frames
        starts = [
            (size, list(window_starts(frames, size, context_frames=context_frames)))
            for size in self.window_frames
        ]
        starts = [(size, first) for size, first in starts if first]
        if not starts:
            raise ValueError(f"no window of {self.window_frames} frames fits into {frames} frames")
        windows = [(context_frames + start, size) for size, first in starts for start in first]
        every_BWS = last_states(self.lstm, embedded_BTE, [*windows, (0, context_frames)])
        states_BWS, context_B1S = every_BWS.split([len(windows), 1], dim=1)
        start_W = constant([start for _, first in starts for start in first], embedded_BTE.device)
        # contiguous: torch copies a frozen weight for every sequence of what is not
        scores_BW = self.head(states_BWS.contiguous(), context_B1S, start_W.float())
        counts = [len(first) for _, first in starts]
        by_size = [of_size_BW.mean(dim=1) for of_size_BW in scores_BW.split(counts, dim=1)]
        return torch.stack(by_size).mean(dim=0)


class ProjectionHead(nn.Module):
    """A(k^(-1/beta) <y, V phi(x)> + psi(phi(x))), every linear map of spectral norm 1.

    x is a window's state, y the context's, k the window's start: what was real weighs less the
    longer ago it was.
    """

    def __init__(self, *, state: int, projection: int) -> None:
        super().__init__()
        self.phi = spectral_norm(nn.Linear(state, projection))
        self.psi = spectral_norm(nn.Linear(projection, projection))
        self.project = spectral_norm(nn.Linear(projection, state))
        self.score = spectral_norm(nn.Linear(projection, 1))
        self.beta = nn.Parameter(torch.tensor(FIRST_BETA))

    def forward(self, window_BWS: Tensor, context_B1S: Tensor, start_W: Tensor) -> Tensor:
        """Score every window: (B, W)."""
        hidden_BWC = self.phi(window_BWS).relu()
        alike_BW1 = (context_B1S * self.project(hidden_BWC)).sum(dim=2, keepdim=True)
        fade_W1 = start_W.clamp(min=1)[:, None] ** (-1 / self.beta)
        scores_BW1: Tensor = self.score(fade_W1 * alike_BW1 + self.psi(hidden_BWC).relu())
        return scores_BW1.squeeze(2)


def window_starts(frames: int, size: int, *, context_frames: int) -> range:
    """First frames of the sliding windows over `frames` frames and the context before them.

    Args:
        frames: Frames judged; frame 0 is the first of them.
        size: Length of a window, at least 1; it moves by half of it.
        context_frames: Real frames before frame 0.

    Returns:
        Starts, the first one negative where the context is long enough; empty where none fits.
    """
    stride = max(1, size // 2)
    return range(max(-context_frames, stride - size), frames - size + 1, stride)
