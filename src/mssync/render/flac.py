"""Speech as FLAC and back, in memory.

Unlike MP3, AAC and Opus it adds no silence before the first sample, and sought times are exact.

Axes: N samples.
"""

import io

import av
import numpy as np
from numpy.typing import NDArray

from mssync.timing import SAMPLE_RATE_HZ

_FULL_SCALE = 32767


def to_flac(waveform_N: NDArray[np.float32]) -> bytes:
    """Mono samples in [-1, 1] at 16 kHz, rounded to 16 bits; what is louder is clipped.

    Raises:
        ValueError: If there is no sample.
    """
    if waveform_N.ndim != 1 or len(waveform_N) == 0:
        raise ValueError(f"expected samples (N,), found shape {waveform_N.shape}")
    pcm = np.round(np.clip(waveform_N, -1, 1) * _FULL_SCALE).astype(np.int16)
    written = io.BytesIO()
    with av.open(written, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.rate = SAMPLE_RATE_HZ
        for given in (frame, None):
            container.mux(stream.encode(given))
    return written.getvalue()


def from_flac(content: bytes) -> NDArray[np.float32]:
    """Samples (N,) of a sound that `to_flac` wrote.

    Raises:
        ValueError: If it is none.
    """
    try:
        with av.open(io.BytesIO(content), format="flac") as container:
            pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    except av.FFmpegError as error:
        raise ValueError(f"this is no FLAC: {error}") from error
    return (np.concatenate(pieces) / np.float32(_FULL_SCALE)).astype(np.float32)
