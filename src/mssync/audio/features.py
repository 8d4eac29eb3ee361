"""Log mel energies and MFCC, exactly four rows a video frame (docs/ms-sync.md, section 1).

Agrees with `python_speech_features` above the floor; librosa's own mel defaults do not.
Axes: N samples (16 kHz), A rows (100 Hz), M mel bands, C cepstral coefficients.
"""

from dataclasses import dataclass
from functools import cache

import librosa
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mssync.timing import ROWS_PER_FRAME, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SAMPLES_PER_ROW

WINDOW_SAMPLES = 400  # 25 ms, rectangular
FFT_SAMPLES = 512
FLOOR = 1e-8
_LIFTER = 22


@dataclass(frozen=True)
class Features:
    """Audio features of one clip.

    Attributes:
        log_mel_AM: Natural log of mel energies, float32 (A, M).
        mfcc_AC: Liftered cepstral coefficients, the first is log energy, float32 (A, C).
    """

    log_mel_AM: NDArray[np.float32]
    mfcc_AC: NDArray[np.float32]


def features(
    waveform_N: NDArray[np.float32], *, pre_emphasis: float, mel_bands: int, mfcc: int
) -> Features:
    """Features of a whole clip, its mean removed and its peak brought to 1.

    Args:
        waveform_N: Mono at 16 kHz, 640 samples a video frame. Silence is fine.
        pre_emphasis: Coefficient a of x[n] - a x[n - 1].
        mel_bands: Bands M between 0 and 8 kHz.
        mfcc: Coefficients C.

    Raises:
        ValueError: If the length is not a positive multiple of 640.
    """
    if not len(waveform_N) or len(waveform_N) % SAMPLES_PER_FRAME:
        raise ValueError(
            f"expected {SAMPLES_PER_FRAME} samples a video frame, found {len(waveform_N)}"
        )
    rows = len(waveform_N) // SAMPLES_PER_FRAME * ROWS_PER_FRAME
    signal = waveform_N.astype(np.float64) - waveform_N.mean(dtype=np.float64)
    signal /= np.abs(signal).max() or 1.0
    emphasised = np.append(signal[0], signal[1:] - pre_emphasis * signal[:-1])
    missing = (rows - 1) * SAMPLES_PER_ROW + WINDOW_SAMPLES - len(emphasised)
    windows = librosa.util.frame(
        np.pad(emphasised, (0, missing)),
        frame_length=WINDOW_SAMPLES,
        hop_length=SAMPLES_PER_ROW,
        axis=0,
    )
    power = np.abs(np.fft.rfft(windows, FFT_SAMPLES)) ** 2 / FFT_SAMPLES
    log_mel = np.log(np.maximum(power @ mel_filters(mel_bands).T, FLOOR))
    cepstrum = scipy.fft.dct(log_mel, type=2, axis=1, norm="ortho")[:, :mfcc]
    cepstrum *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(mfcc) / _LIFTER)
    cepstrum[:, 0] = np.log(np.maximum(power.sum(axis=1), FLOOR))
    return Features(log_mel.astype(np.float32), cepstrum.astype(np.float32))


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


def loudness_db(waveform_N: NDArray[np.float32]) -> float:
    """RMS level relative to full scale; -120 for silence."""
    power = float(np.mean(np.square(waveform_N, dtype=np.float64))) if len(waveform_N) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))


def clipped_ratio(waveform_N: NDArray[np.float32]) -> float:
    """Share of samples at full scale."""
    return float(np.mean(np.abs(waveform_N) >= 0.999)) if len(waveform_N) else 0.0
