"""The generator's view of speech, at four time scales (docs/ms-sync.md, section 4).

Axis letters: B clips, T samples of a stream, A audio rows (100 Hz), M mel bands, C channels.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mssync.models.convnext import Block
from mssync.models.standardise import Standardise
from mssync.timing import ROWS_PER_FRAME

STREAMS = 4

# Rows that a sample of the coarsest stream sees on either side of its own: half of 181.
REACH_ROWS = 90
# From one sample of the coarsest stream to the next.
PERIOD_FRAMES = 2 ** (STREAMS - 1)
PERIOD_ROWS = ROWS_PER_FRAME * PERIOD_FRAMES
# That reach in whole periods: what is kept of the past when audio comes in piece by piece.
REACH_FRAMES = -(-REACH_ROWS // PERIOD_ROWS) * PERIOD_FRAMES


class ConvBlock(Block):
    """The syncers' block with a wider, or a narrower, convolution over time."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, stride=stride)
        self.depthwise = nn.Conv2d(
            inputs,
            inputs,
            (1, kernel),
            stride=(1, stride),
            padding=(0, kernel // 2),
            groups=inputs,
        )


class AudioEncoder(nn.Module):
    """Log mel energies -> four streams of 25, 12.5, 6.25 and 3.125 Hz, all brought to 25 Hz.

    Receptive fields are 13, 37, 85 and 181 rows, centred on the frame's first row.
    """

    def __init__(self, *, widths: list[int], mel_bands: int = 26) -> None:
        super().__init__()
        first, second, third, width = widths
        self.standardise = Standardise(mel_bands)
        self.to_frames = nn.Sequential(
            Block(mel_bands, first),
            Block(first, second, stride=2),
            Block(second, third),
            Block(third, width, stride=2),
        )
        self.coarser = nn.ModuleList(
            ConvBlock(width, width, kernel=7, stride=2) for _ in range(STREAMS - 1)
        )

    def forward(self, audio_BAM: Tensor) -> list[Tensor]:
        """Encode whole clips.

        Args:
            audio_BAM: Log mel energies, shape (B, 4 T, M).

        Returns:
            Four streams (B, T, C), the finest first.

        Raises:
            ValueError: If the rows are not four a frame.
        """
        rows = audio_BAM.shape[1]
        if rows == 0 or rows % ROWS_PER_FRAME:
            raise ValueError(f"audio takes {ROWS_PER_FRAME} rows a frame, found {rows} rows")
        frames = rows // ROWS_PER_FRAME
        stream_BTC = self.to_frames(self.standardise(audio_BAM))
        streams = [stream_BTC]
        for scale, block in enumerate(self.coarser, start=1):
            stream_BTC = block(stream_BTC)
            streams.append(at_frames(stream_BTC, scale=scale, frames=frames))
        return streams

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """`forward` on audio that is still coming in, in bounded memory.

        Frames leave eight at a time, once the 122 rows after the first of them have come.

        Args:
            chunks: Log mel energies, each (A, M), any lengths, 4 rows a frame in all.

        Yields:
            The four streams (1, T, C) of the next frames.

        Raises:
            ValueError: If the rows, all told, are not four a frame.
        """
        kept: list[Tensor] = []  # rows from frame `first` on
        first = done = 0  # frames, multiples of eight
        for chunk_AM in chunks:
            kept = [torch.cat([*kept, chunk_AM])]
            whole = len(kept[0]) // ROWS_PER_FRAME * ROWS_PER_FRAME
            available = first * ROWS_PER_FRAME + whole
            ready = (available - 1 - REACH_ROWS) // PERIOD_ROWS * PERIOD_FRAMES
            if ready > done:
                streams = self(kept[0][None, :whole])
                yield [stream_BTC[:, done - first : ready - first] for stream_BTC in streams]
                start = max(0, ready - REACH_FRAMES)
                kept = [kept[0][(start - first) * ROWS_PER_FRAME :]]
                first, done = start, ready
        if kept and len(kept[0]):
            yield [stream_BTC[:, done - first :] for stream_BTC in self(kept[0][None])]


def at_frames(stream_BTC: Tensor, *, scale: int, frames: int) -> Tensor:
    """Interpolate a coarse stream linearly to 25 Hz, at the true times.

    Args:
        stream_BTC: Sample i sits at frame i 2^scale; the last value is held.
        scale: Number of halvings.
        frames: Length of the result.

    Returns:
        Shape (B, frames, C).
    """
    frame = torch.arange(frames, device=stream_BTC.device)
    before = frame // 2**scale
    after = (before + 1).clamp(max=stream_BTC.shape[1] - 1)
    share_TC = ((frame % 2**scale) / 2**scale).to(stream_BTC.dtype)[:, None]
    return torch.lerp(stream_BTC[:, before], stream_BTC[:, after], share_TC)
