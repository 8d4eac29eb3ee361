"""Where is speech? Silero VAD, on the rows of the audio features.

Axes: N samples (16 kHz), K chunks (32 ms), A rows (100 Hz).
"""

import threading
import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync.audio.levels import SILENCE_DB, row_levels_db
from mssync.timing import ROW_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_ROW

CHUNK_SAMPLES = 512  # what the network takes at 16 kHz

_LOUD_QUANTILE = 0.999
_WARM_UP_SAMPLES = 32 * CHUNK_SAMPLES  # 1 s
_ONE_CLIP_AT_A_TIME = threading.Lock()  # the network keeps its state between chunks


def speech_probability(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of speech in each row.

    The network hears a copy whose mean is removed and whose 99.9th percentile of |x| is at full
    scale, since it misses speech below some -40 dB: a quiet recording counts as much as a loud one,
    and a single click changes nothing. Before that it hears the clip's first second backwards:
    clips are cut anywhere, and it misses a tenth of speech that begins with the sound. Each chunk's
    probability is at its centre; rows take theirs at their centre, linearly between chunks. Rows of
    digital silence have 0.

    Args:
        waveform_N: Mono at 16 kHz, a whole number of rows.

    Returns:
        In [0, 1], shape (A,).
    """
    row_centre_s = (np.arange(len(waveform_N) // SAMPLES_PER_ROW) + 0.5) / ROW_RATE_HZ
    probability_K = _chunk_probabilities(_at_full_scale(waveform_N))
    chunk_centre_s = (np.arange(len(probability_K)) + 0.5) * CHUNK_SAMPLES / SAMPLE_RATE_HZ
    probability_A: NDArray[np.float64] = np.interp(row_centre_s, chunk_centre_s, probability_K)
    audible_A = row_levels_db(waveform_N) > SILENCE_DB
    speech_A: NDArray[np.float32] = np.where(audible_A, probability_A, 0).astype(np.float32)
    return speech_A


def _at_full_scale(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = waveform_N - waveform_N.mean(dtype=np.float64)
    size = np.abs(centred)
    top = float(np.quantile(size, _LOUD_QUANTILE)) or float(size.max()) or 1.0
    scaled_N: NDArray[np.float32] = np.clip(centred / top, -1, 1).astype(np.float32)
    return scaled_N


def _chunk_probabilities(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape (K,); the last chunk is filled up with silence."""
    # Here, not above: to import torch takes seconds, and most of what imports this needs none.
    import torch

    warmed_up = np.pad(waveform_N, (_WARM_UP_SAMPLES, 0), mode="reflect")
    filled = np.pad(warmed_up, (0, -len(waveform_N) % CHUNK_SAMPLES))
    chunks = torch.from_numpy(filled).reshape(-1, 1, CHUNK_SAMPLES)
    with _ONE_CLIP_AT_A_TIME, torch.inference_mode():
        network = _network()
        network.reset_states()
        found = [network(chunk, SAMPLE_RATE_HZ) for chunk in chunks]
        probability: NDArray[np.float32] = torch.cat(found).ravel().numpy()
    return probability[_WARM_UP_SAMPLES // CHUNK_SAMPLES :]


@cache
def _network() -> Any:  # noqa: ANN401 - a TorchScript module, which has no types
    """The network, from the package's wheel: nothing is fetched."""
    import silero_vad

    with warnings.catch_warnings():
        # torch deprecates the format in which the package ships its network.
        warnings.simplefilter("ignore", DeprecationWarning)
        return silero_vad.load_silero_vad()
