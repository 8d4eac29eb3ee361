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
        to_frames = [RunningBlock(block) for block in self.to_frames]
        coarser = [RunningBlock(block) for block in self.coarser]
        streams: list[list[Tensor]] = [[] for _ in range(STREAMS)]  # samples from `done` on
        waiting: list[Tensor] = []
        rows = done = 0  # rows that came, frames that left: a multiple of eight

        def encode(*, last: bool) -> None:
            x_1TC = self.standardise(torch.cat(waiting)[None])
            waiting.clear()
            for block in to_frames:
                x_1TC = block.push(x_1TC, last=last)
            streams[0].append(x_1TC)
            for stream, block in zip(streams[1:], coarser, strict=True):
                x_1TC = block.push(x_1TC, last=last)
                stream.append(x_1TC)

        def leave(ready: int) -> list[Tensor]:
            leaving = []
            for scale, stream in enumerate(streams):
                samples_1TC = torch.cat(stream, dim=1)
                leaving.append(at_frames(samples_1TC, scale=scale, frames=ready - done))
                stream[:] = [samples_1TC[:, (ready - done) // 2**scale :]]
            return leaving

        for chunk_AM in chunks:
            waiting.append(chunk_AM)
            rows += len(chunk_AM)
            ready = (rows - 1 - REACH_ROWS) // PERIOD_ROWS * PERIOD_FRAMES
            if ready > done:
                encode(last=False)
                yield leave(ready)
                done = ready
        if rows % ROWS_PER_FRAME:
            raise ValueError(f"audio takes {ROWS_PER_FRAME} rows a frame, found {rows} rows")
        if rows:
            waiting.append(chunk_AM[:0])
            encode(last=True)
            yield leave(rows // ROWS_PER_FRAME)


class RunningBlock:
    """A block whose input comes piece by piece; of the past it keeps what later outputs need."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, Block)
        self._block, self._stride = block, block.stride
        self._pad = block.depthwise.kernel_size[1] // 2
        self._kept: Tensor | None = None  # inputs from `first` on
        self._first = self._done = 0  # inputs that were dropped, outputs that were given

    def push(self, x_1TC: Tensor, *, last: bool) -> Tensor:
        """The outputs that this piece completes; all that are left with the last piece."""
        kept_1TC = x_1TC if self._kept is None else torch.cat([self._kept, x_1TC], dim=1)
        inputs, stride = self._first + kept_1TC.shape[1], self._stride
        complete = inputs if last else inputs - self._pad
        ready = max(self._done, -(-complete // stride))
        before = self._first // stride
        made_1TC = kept_1TC.new_zeros(1, 0, self._block.reduce.out_features)
        if ready > self._done:
            made_1TC = self._block(kept_1TC)[:, self._done - before : ready - before]
        first = max(0, (ready * stride - self._pad) // stride * stride)
        self._kept = kept_1TC[:, first - self._first :]
        self._first, self._done = first, ready
        return made_1TC


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
