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
# Audio that comes in piece by piece is encoded in pieces of at least so many rows: early, so that
# little is left to do once the last row comes that a frame waits for.
ENCODED_ROWS = 16


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

    encoded_rows = ENCODED_ROWS  # fewer where a small piece costs little (`packed.pack_blocks`)

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
        running = RunningEncoder(self)
        rows = done = 0  # rows that came, frames that left: a multiple of eight
        for chunk_AM in chunks:
            running.hear(chunk_AM)
            rows += len(chunk_AM)
            ready = (rows - 1 - REACH_ROWS) // PERIOD_ROWS * PERIOD_FRAMES
            if ready > done:
                yield running.take(ready - done)
                done = ready
        if rows % ROWS_PER_FRAME:
            raise ValueError(f"audio takes {ROWS_PER_FRAME} rows a frame, found {rows} rows")
        if rows:
            yield running.take(rows // ROWS_PER_FRAME - done, last=True)


class RunningEncoder:
    """An encoder whose audio comes in piece by piece."""

    def __init__(self, encoder: AudioEncoder) -> None:
        self._standardise, self._least_rows = encoder.standardise, encoder.encoded_rows
        self._to_frames = [RunningBlock(block) for block in encoder.to_frames]
        self._coarser = [RunningBlock(block) for block in encoder.coarser]
        self._waiting: list[Tensor] = []
        self._streams: list[list[Tensor]] = [[] for _ in range(STREAMS)]  # not yet taken

    def hear(self, audio_AM: Tensor) -> None:
        """More audio; it is encoded as soon as it is worth it."""
        self._waiting.append(audio_AM)
        if sum(map(len, self._waiting)) >= self._least_rows:
            self._encode(last=False)

    def take(self, frames: int, *, last: bool = False) -> list[Tensor]:
        """The four streams (1, T, C) of the next frames, a multiple of eight but at the end.

        Audio that they depend on has come; with the last ones, all audio has.
        """
        if self._waiting or last:
            self._encode(last=last)
        taken = []
        for scale, stream in enumerate(self._streams):
            samples_1TC = torch.cat(stream, dim=1)
            taken.append(at_frames(samples_1TC, scale=scale, frames=frames))
            stream[:] = [samples_1TC[:, frames // 2**scale :]]
        return taken

    def _encode(self, *, last: bool) -> None:
        mean_M = self._standardise.mean_C
        audio_AM = torch.cat([mean_M.new_zeros(0, len(mean_M)), *self._waiting])
        self._waiting.clear()
        x_1TC = self._standardise(audio_AM[None])
        for block in self._to_frames:
            x_1TC = block.push(x_1TC, last=last)
        self._streams[0].append(x_1TC)
        for stream, block in zip(self._streams[1:], self._coarser, strict=True):
            x_1TC = block.push(x_1TC, last=last)
            stream.append(x_1TC)


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
        if ready > self._done:
            new = slice(self._done - self._first // stride, ready - self._first // stride)
            made_1TC = self._block.outputs(kept_1TC, new)
        else:
            made_1TC = kept_1TC.new_zeros(1, 0, self._block.reduce.out_features)
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
