"""Log mel energies and MFCC, exactly four rows a video frame (docs/ms-sync.md, section 1).

The main set agrees with `python_speech_features` within 1e-3 above the floor; librosa's own mel
defaults do not. The wide set is librosa's mel.
Axes: N samples (16 kHz), A rows (100 Hz), F = 257 FFT bins, M mel bands, C cepstral coefficients.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import librosa
import numpy as np
import scipy.fft
import scipy.signal
from librosa.filters import mel
from numpy.typing import NDArray

from mssync.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SAMPLES_PER_ROW

WINDOW_SAMPLES = 400  # 25 ms
FFT_SAMPLES = 512
FLOOR = 1e-8
_OVERLAP_SAMPLES = WINDOW_SAMPLES - SAMPLES_PER_ROW
_LIFTER = 22
_BLOCK_ROWS = 2048  # in memory at a time as spectra


@dataclass(frozen=True)
class Features:
    """Audio features of one clip.

    Attributes:
        log_mel_AM: Natural log of mel energies, float32 (A, M).
        mfcc_AC: Liftered cepstral coefficients, the first is log energy, float32 (A, C).
        wide_mel_AM: Natural log of the wide mel set, float32 (A, its bands); 0 bands: none.
    """

    log_mel_AM: NDArray[np.float32]
    mfcc_AC: NDArray[np.float32]
    wide_mel_AM: NDArray[np.float32]


def features(
    waveform_N: NDArray[np.float32],
    *,
    pre_emphasis: float,
    mel_bands: int,
    mfcc: int,
    wide_mel_bands: int = 0,
) -> Features:
    """Features of a whole clip, its mean removed and its peak brought to 1.

    Each row's window begins at the row's first sample and is 25 ms long, in both sets; beyond the
    end is silence. The main set has pre-emphasis, a rectangular window, power / 512, and HTK mel
    triangles on integer bins without area norm. The wide set has no pre-emphasis, a periodic Hann
    window, plain power, and Slaney's mel bands with area norm (librosa's defaults) up to 8 kHz.

    Args:
        waveform_N: Mono at 16 kHz, 640 samples a video frame. Silence is fine; what is no number
            counts as silence.
        pre_emphasis: Coefficient a of x[n] - a x[n - 1], in the main set.
        mel_bands: Bands M of the main set between 0 and 8 kHz.
        mfcc: Coefficients C.
        wide_mel_bands: Bands of the wide set; 0: none.

    Raises:
        ValueError: If the length is not a positive multiple of 640.
    """
    if not len(waveform_N) or len(waveform_N) % SAMPLES_PER_FRAME:
        raise ValueError(
            f"expected {SAMPLES_PER_FRAME} samples a video frame, found {len(waveform_N)}"
        )
    signal_N = _normalised(waveform_N)
    emphasised_N = np.append(signal_N[0], signal_N[1:] - pre_emphasis * signal_N[:-1])
    log_mel_AM, energy_A = _main_set(emphasised_N, mel_bands)
    cepstrum_AC = scipy.fft.dct(log_mel_AM, type=2, axis=1, norm="ortho")[:, :mfcc]
    cepstrum_AC *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(mfcc) / _LIFTER)
    cepstrum_AC[:, 0] = energy_A
    wide_mel_AM = _wide_set(signal_N, wide_mel_bands)
    return Features(
        log_mel_AM.astype(np.float32),
        cepstrum_AC.astype(np.float32),
        wide_mel_AM.astype(np.float32),
    )


def stream_log_mel(
    blocks: Iterable[NDArray[np.float32]],
    *,
    mean: float,
    peak: float,
    pre_emphasis: float,
    mel_bands: int,
) -> Iterator[NDArray[np.float32]]:
    """`features(...).log_mel_AM` of a sound of any length, in bounded memory.

    Args:
        blocks: The waveform, mono at 16 kHz, in pieces of any lengths, whole rows in all.
        mean: Of the whole waveform.
        peak: Of the whole waveform without its mean; 0: silence.
        pre_emphasis: See `features`.
        mel_bands: See `features`.

    Yields:
        Rows (A, M), each once the 25 ms from its beginning on have come.
    """
    waiting_N, before = np.zeros(0), np.zeros(1)
    for block_N in blocks:
        signal_N = (block_N.astype(np.float64) - mean) / (peak or 1.0)
        emphasised_N = signal_N - pre_emphasis * np.append(before, signal_N[:-1])[: len(signal_N)]
        before = np.append(before, signal_N)[-1:]
        waiting_N = np.append(waiting_N, emphasised_N)
        rows = (len(waiting_N) - _OVERLAP_SAMPLES) // SAMPLES_PER_ROW
        if rows > 0:
            whole_N = waiting_N[: rows * SAMPLES_PER_ROW + _OVERLAP_SAMPLES]
            yield from (found.astype(np.float32) for found, _ in _main_blocks(whole_N, mel_bands))
            waiting_N = waiting_N[rows * SAMPLES_PER_ROW :]
    if len(waiting_N):
        last_N = np.pad(waiting_N, (0, _OVERLAP_SAMPLES))
        yield from (found.astype(np.float32) for found, _ in _main_blocks(last_N, mel_bands))


def _normalised(waveform_N: NDArray[np.float32]) -> NDArray[np.float64]:
    finite_N = np.where(np.isfinite(waveform_N), waveform_N, 0).astype(np.float64)
    finite_N -= finite_N.mean()
    centred_N: NDArray[np.float64] = finite_N / (np.abs(finite_N).max() or 1.0)
    return centred_N


def _main_set(
    emphasised_N: NDArray[np.float64], bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log mel energies (A, M) and log energy (A,)."""
    blocks = list(_main_blocks(np.pad(emphasised_N, (0, _OVERLAP_SAMPLES)), bands))
    log_mel, energy = zip(*blocks, strict=True)
    return np.concatenate(log_mel), np.concatenate(energy)


def _main_blocks(
    emphasised_N: NDArray[np.float64], bands: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Log mel energies and log energy of the rows whose windows lie within, block by block."""
    filters_FM = mel_filters(bands).T
    for power_AF in _power(emphasised_N, np.ones(WINDOW_SAMPLES)):
        power_AF /= FFT_SAMPLES
        yield (
            np.log(np.maximum(power_AF @ filters_FM, FLOOR)),
            np.log(np.maximum(power_AF.sum(axis=1), FLOOR)),
        )


def _wide_set(signal_N: NDArray[np.float64], bands: int) -> NDArray[np.float64]:
    if not bands:
        return np.zeros((len(signal_N) // SAMPLES_PER_ROW, 0))
    filters_FM = wide_mel_filters(bands).T
    hann = scipy.signal.get_window("hann", WINDOW_SAMPLES)
    padded_N = np.pad(signal_N, (0, _OVERLAP_SAMPLES))
    blocks = (np.maximum(power_AF @ filters_FM, FLOOR) for power_AF in _power(padded_N, hann))
    log_mel_AM: NDArray[np.float64] = np.log(np.concatenate(list(blocks)))
    return log_mel_AM


def _power(
    signal_N: NDArray[np.float64], window: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Squared magnitude of each row's spectrum, a block of rows at a time: (block, F)."""
    windows = librosa.util.frame(
        signal_N, frame_length=WINDOW_SAMPLES, hop_length=SAMPLES_PER_ROW, axis=0
    )
    for first in range(0, len(windows), _BLOCK_ROWS):
        spectrum = scipy.fft.rfft(windows[first : first + _BLOCK_ROWS] * window, FFT_SAMPLES)
        yield np.square(spectrum.real) + np.square(spectrum.imag)


@cache
def mel_filters(bands: int) -> NDArray[np.float64]:
    """HTK mel triangles on integer FFT bins, no area norm: (bands, 257)."""
    top_mel = librosa.hz_to_mel(SAMPLE_RATE_HZ / 2, htk=True)
    edges_hz = librosa.mel_to_hz(np.linspace(0, top_mel, bands + 2), htk=True)
    bins = np.floor((FFT_SAMPLES + 1) * edges_hz / SAMPLE_RATE_HZ)
    k = np.arange(FFT_SAMPLES // 2 + 1)
    low, centre, high = (edge[:, None] for edge in (bins[:-2], bins[1:-1], bins[2:]))
    rising = (k - low) / np.maximum(centre - low, 1)
    falling = (high - k) / np.maximum(high - centre, 1)
    weights: NDArray[np.float64] = np.where(
        (low <= k) & (k < centre), rising, np.where((centre <= k) & (k < high), falling, 0)
    )
    return weights


@cache
def wide_mel_filters(bands: int) -> NDArray[np.float64]:
    """Slaney's mel triangles with area norm, 0 to 8 kHz: (bands, 257)."""
    weights: NDArray[np.float64] = mel(
        sr=SAMPLE_RATE_HZ, n_fft=FFT_SAMPLES, n_mels=bands, dtype=np.float64
    )
    return weights
