"""How loud is the sound, how far does speech stand above the rest, and is it cut off at the top?

Axes: N samples (16 kHz), A rows (100 Hz). Levels are in dB relative to full scale: a constant of 1
has 0 dB, a sine of amplitude 1 has -3 dB.
"""

import numpy as np
from numpy.typing import NDArray

from mssync.timing import SAMPLES_PER_ROW

FLOOR_DB = -120.0
# Digital silence: a sound of 16 bits that is there at all has at least -90 dB.
SILENCE_DB = -100.0
FULL_SCALE = 0.999

_SNR_DB = (-20.0, 80.0)
_FEWEST_QUIET_ROWS = 50  # 0.5 s
_QUIET_QUANTILE = 0.05


def loudness_db(waveform_N: NDArray[np.float32]) -> float:
    """RMS level of a whole sound; -120 at least."""
    power = float(np.mean(np.square(waveform_N, dtype=np.float64))) if len(waveform_N) else 0.0
    return 10 * float(np.log10(max(power, 10 ** (FLOOR_DB / 10))))


def row_levels_db(waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS level of each row's 160 samples; -120 at least.

    Args:
        waveform_N: Mono at 16 kHz, a whole number of rows, before normalisation.

    Returns:
        Shape (A,).
    """
    power_A = np.square(waveform_N.reshape(-1, SAMPLES_PER_ROW), dtype=np.float64).mean(axis=1)
    level_A: NDArray[np.float64] = 10 * np.log10(np.maximum(power_A, 10 ** (FLOOR_DB / 10)))
    return level_A.astype(np.float32)


def clipped_ratio(waveform_N: NDArray[np.float32]) -> float:
    """Share of samples at full scale or beyond it.

    A lower bound for sound that a lossy coder or a change of rate has passed through: both turn
    flat tops into waves about them. Decoders of floats overshoot, and that counts.
    """
    return float(np.mean(np.abs(waveform_N) >= FULL_SCALE)) if len(waveform_N) else 0.0


def snr_db(
    level_A: NDArray[np.float32], speech_A: NDArray[np.float32], *, threshold: float
) -> float:
    """Estimate how far speech stands above the noise it was recorded with.

    Noise is the median power of the rows without speech. Where there are fewer than 0.5 s of them
    it is the 5th percentile over all rows, from the pauses within speech. Digital silence is left
    out: it says nothing about noise. Speech is the mean power of its rows, less the noise.

    Steady noise is met within 1 dB; noise that comes in bursts is underestimated, by some 3 dB in
    a room where things are moved.

    Args:
        level_A: Level of each row in dB, shape (A,).
        speech_A: Probability of speech of each row, shape (A,).
        threshold: Probability at which a row counts as speech.

    Returns:
        Ratio in dB, in [-20, 80]; -20 where there is no speech.
    """
    audible_A = level_A > SILENCE_DB
    is_speech_A = audible_A & (speech_A >= threshold)
    if not is_speech_A.any():
        return _SNR_DB[0]
    power_A = np.power(10.0, level_A.astype(np.float64) / 10)
    quiet = power_A[audible_A & ~is_speech_A]
    if len(quiet) >= _FEWEST_QUIET_ROWS:
        noise = float(np.median(quiet))
    else:
        noise = float(np.quantile(power_A[audible_A], _QUIET_QUANTILE))
    speech = max(float(power_A[is_speech_A].mean()) - noise, 10 ** (_SNR_DB[0] / 10) * noise)
    return float(np.clip(10 * np.log10(speech / noise), *_SNR_DB))
