"""The operator `down`: one level of the temporal pyramid (docs/ms-sync.md, section 2).

Reflect-pad, centred box mean, keep samples 0, 2, 4, ... Level l is `down` applied l times.
Sample j of level l sits at j 2^l / rate seconds.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def length(samples: int, level: int) -> int:
    """Number of samples left of `samples` after `level` applications of `down`."""
    for _ in range(level):
        samples = (samples + 1) // 2
    return samples


def down(stream_BTC: Tensor, *, kernel: int = 7) -> Tensor:
    """One level down.

    Args:
        stream_BTC: Motion or audio, shape (B, T, C), T > kernel // 2.
        kernel: Width of the box mean; odd, since an even one shifts time.

    Returns:
        Shape (B, ceil(T / 2), C).

    Raises:
        ValueError: If the kernel is even or the stream is too short to be reflected.
    """
    _check(kernel, stream_BTC.shape[1])
    pad = kernel // 2
    # As F.pad's reflection, whose gradient is not the same every time on a GPU.
    before_BTC, after_BTC = stream_BTC[:, 1 : pad + 1], stream_BTC[:, -pad - 1 : -1]
    reflected = [before_BTC.flip(1), stream_BTC, after_BTC.flip(1)] if pad else [stream_BTC]
    padded_BCT = torch.cat(reflected, dim=1).transpose(1, 2)
    return F.avg_pool1d(padded_BCT, kernel, stride=2).transpose(1, 2)


def at_level(stream_BTC: Tensor, level: int, *, kernel: int = 7) -> Tensor:
    """`down`, `level` times: (B, T, C) -> (B, ceil(T / 2^level), C)."""
    for _ in range(level):
        stream_BTC = down(stream_BTC, kernel=kernel)
    return stream_BTC


def array_at_level(
    stream_TC: NDArray[np.float32], level: int, *, kernel: int = 7
) -> NDArray[np.float32]:
    """`at_level` for one NumPy stream: (T, ...) -> (ceil(T / 2^level), ...)."""
    # A copy: arrays read from parquet are read-only, which torch warns about.
    flat_BTC = torch.from_numpy(np.array(stream_TC.reshape(1, len(stream_TC), -1)))
    result: NDArray[np.float32] = at_level(flat_BTC, level, kernel=kernel)[0].numpy()
    return result.reshape(len(result), *stream_TC.shape[1:])


def _check(kernel: int, samples: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the kernel must be odd, found {kernel}: an even one shifts time")
    if samples <= kernel // 2:
        raise ValueError(f"{samples} samples are too few for a kernel of {kernel}")


# --- windows: motion samples j..j+4 and audio rows 4j..4j+19 of one level ------------------------

MOTION_WINDOW = 5
AUDIO_WINDOW = 20
ROWS_PER_SAMPLE = AUDIO_WINDOW // MOTION_WINDOW


def window_count(samples: int) -> int:
    """Windows that start on each of `samples` motion samples and end within them."""
    return max(0, samples - MOTION_WINDOW + 1)


def motion_windows(motion_BTC: Tensor) -> Tensor:
    """Every window of a level's motion: (B, T, C) -> (B, W, 5, C), W = T - 4.

    Raises:
        ValueError: If there is not one whole window.
    """
    if motion_BTC.shape[1] < MOTION_WINDOW:
        raise ValueError(f"a window takes {MOTION_WINDOW} samples, found {motion_BTC.shape[1]}")
    return motion_BTC.unfold(1, MOTION_WINDOW, 1).transpose(2, 3)


def audio_windows(audio_BAC: Tensor, *, windows: int) -> Tensor:
    """The audio of the first `windows` motion windows: (B, A, C) -> (B, W, 20, C).

    Rows missing at the end are reflected.
    """
    missing = (windows - 1) * ROWS_PER_SAMPLE + AUDIO_WINDOW - audio_BAC.shape[1]
    if missing > 0:
        padded_BCA = F.pad(audio_BAC.transpose(1, 2), (0, missing), mode="reflect")
        audio_BAC = padded_BCA.transpose(1, 2)
    return audio_BAC.unfold(1, AUDIO_WINDOW, ROWS_PER_SAMPLE)[:, :windows].transpose(2, 3)


def valid_windows(frames: int, level: int, *, kernel: int = 7) -> range:
    """Windows of a level that touch no padding, neither in motion nor in audio.

    Args:
        frames: Length of the clip at level 0; its audio has four times as many rows.
        level: Level of the pyramid.
        kernel: Width of the box mean.
    """
    motion = _unpadded(frames, level, kernel)
    audio = _unpadded(frames * ROWS_PER_SAMPLE, level, kernel)
    start = max(motion.start, -(-audio.start // ROWS_PER_SAMPLE))
    end = min(motion.stop - MOTION_WINDOW, (audio.stop - AUDIO_WINDOW) // ROWS_PER_SAMPLE) + 1
    return range(start, max(start, end))


def _unpadded(samples: int, level: int, kernel: int) -> range:
    """Samples of a level that are means of real samples only."""
    pad = kernel // 2
    first, last = 0, samples - 1
    for _ in range(level):
        first, last = -(-(first + pad) // 2), (last - pad) // 2
    return range(first, max(first, last + 1))
