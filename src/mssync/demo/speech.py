"""Speech-like sound with the gestures that belong to it.

`synthesise` is a small source-filter synthesiser: a pulse train through one resonator chain per
vowel, cross-faded, and noise for the fricatives. `recite` reads sentences with espeak-ng, where it
is installed, and guesses the gestures from the sound.

Axes: N samples (16 kHz), R rows (100 Hz), C control steps (400 Hz), F phones, D = FFT bins.
"""

import subprocess
import wave
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, lfilter, resample_poly, sosfilt

from mssync.errors import ToolError
from mssync.timing import ROW_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_ROW

Array = NDArray[np.float64]

CONTROL_RATE_HZ = 400
FLOOR_DB = -40.0
_BANDWIDTHS_HZ = (80.0, 110.0, 170.0)


@dataclass(frozen=True)
class Voice:
    """How one speaker sounds.

    Attributes:
        pitch_hz: Mean fundamental.
        rate: Speed, 1 is about four syllables a second.
        formant_scale: Factor on the formants; above 1 is a shorter vocal tract.
    """

    pitch_hz: float
    rate: float
    formant_scale: float


@dataclass(frozen=True)
class Speech:
    """Sound and the gestures that made it, row r at r / 100 s.

    Attributes:
        waveform_N: float32 (N,), mono, 16 kHz, peak 0.7.
        openness_R: Mouth opening in [0, 1].
        spread_R: Lips from rounded (-1) to spread (1).
        loudness_R: Level over the sound's loudest moment, -40 dB is 0 and 0 dB is 1.
        pitch_R: Semitones over the speaker's mean; 0 in pauses.
    """

    waveform_N: NDArray[np.float32]
    openness_R: Array
    spread_R: Array
    loudness_R: Array
    pitch_R: Array


@dataclass(frozen=True)
class _Phone:
    """One sound: what the mouth does, and the levels of voice and noise."""

    openness: float
    spread: float
    voice: float = 0.0
    noise: float = 0.0
    formants_hz: tuple[float, float, float] = (500, 1500, 2500)
    noise_hz: tuple[float, float] = (3000, 7000)


_PHONES = {
    "pause": _Phone(0.0, 0.0),
    "a": _Phone(1.0, 0.0, 1.0, formants_hz=(750, 1250, 2550)),
    "ae": _Phone(0.85, 0.5, 0.95, formants_hz=(680, 1700, 2500)),
    "e": _Phone(0.55, 0.6, 0.85, formants_hz=(500, 1850, 2550)),
    "i": _Phone(0.3, 1.0, 0.7, formants_hz=(300, 2250, 2950)),
    "o": _Phone(0.6, -0.8, 0.85, formants_hz=(480, 900, 2450)),
    "u": _Phone(0.28, -1.0, 0.7, formants_hz=(320, 800, 2300)),
    "uh": _Phone(0.5, 0.0, 0.8, formants_hz=(550, 1450, 2500)),
    "m": _Phone(0.0, 0.0, 0.3, formants_hz=(250, 1100, 2200)),
    "n": _Phone(0.2, 0.1, 0.3, formants_hz=(260, 1450, 2400)),
    "l": _Phone(0.35, 0.1, 0.5, formants_hz=(380, 1200, 2700)),
    "s": _Phone(0.12, 0.5, noise=0.22, noise_hz=(4000, 7500)),
    "sh": _Phone(0.2, -0.6, noise=0.25, noise_hz=(2000, 5500)),
    "f": _Phone(0.05, 0.1, noise=0.08, noise_hz=(1500, 7500)),
    "closure_p": _Phone(0.0, 0.0),
    "closure_t": _Phone(0.15, 0.2),
    "burst_p": _Phone(0.1, 0.0, noise=0.3, noise_hz=(400, 2500)),
    "burst_t": _Phone(0.2, 0.2, noise=0.35, noise_hz=(3000, 7000)),
}
_NAMES = tuple(_PHONES)
_VOWELS = ("a", "ae", "e", "i", "o", "u", "uh")
# What may open a syllable: phones with their lengths in seconds.
_ONSETS: tuple[tuple[tuple[str, float], ...], ...] = (
    (("m", 0.08),),
    (("n", 0.07),),
    (("l", 0.07),),
    (("s", 0.1),),
    (("sh", 0.1),),
    (("f", 0.09),),
    (("closure_p", 0.07), ("burst_p", 0.02)),
    (("closure_t", 0.06), ("burst_t", 0.025)),
    (("s", 0.08), ("closure_t", 0.05), ("burst_t", 0.02)),
)


@dataclass
class _Score:
    """What is to be said, per control step."""

    phone_C: NDArray[np.int64]
    level_C: Array
    pitch_C: Array
    filled: int = 0

    @property
    def full(self) -> bool:
        return self.filled >= len(self.phone_C)

    def add(self, name: str, length_s: float, *, level: float, pitch: float) -> None:
        end = self.filled + max(1, round(length_s * CONTROL_RATE_HZ))
        span = slice(self.filled, end)
        self.phone_C[span] = _NAMES.index(name)
        self.level_C[span] = level
        self.pitch_C[span] = pitch
        self.filled = end


def synthesise(duration_s: float, voice: Voice, rng: np.random.Generator) -> Speech:
    """Speak nonsense in phrases, with stress, a pitch contour and pauses.

    Args:
        duration_s: Length, positive.
        voice: How the speaker sounds.
        rng: What is said.
    """
    if duration_s <= 0:
        raise ValueError(f"speech needs a positive length, found {duration_s} s")
    score = _compose(round(duration_s * CONTROL_RATE_HZ), voice, rng)
    phones_CF = np.eye(len(_NAMES))[score.phone_C]
    sounding_CF = gaussian_filter1d(phones_CF, 0.006 * CONTROL_RATE_HZ, axis=0, mode="nearest")
    # the mouth is slower than the sound
    moving_CF = gaussian_filter1d(phones_CF, 0.028 * CONTROL_RATE_HZ, axis=0, mode="nearest")
    level_C = gaussian_filter1d(score.level_C, 0.02 * CONTROL_RATE_HZ, mode="nearest")
    pitch_C = gaussian_filter1d(score.pitch_C, 0.05 * CONTROL_RATE_HZ, mode="nearest")
    samples = round(duration_s * SAMPLE_RATE_HZ)
    waveform_N = _sound(sounding_CF * level_C[:, None], pitch_C, voice, rng, samples=samples)
    waveform_N *= 0.7 / max(float(np.abs(waveform_N).max()), 1e-9)

    phones = [_PHONES[name] for name in _NAMES]
    step = CONTROL_RATE_HZ // ROW_RATE_HZ
    openness_C = moving_CF @ [phone.openness for phone in phones] * (0.45 + 0.55 * level_C)
    spread_C = moving_CF @ [phone.spread for phone in phones]
    return Speech(
        waveform_N.astype(np.float32),
        openness_C[::step],
        spread_C[::step],
        _loudness(waveform_N),
        pitch_C[::step],
    )


def _compose(steps: int, voice: Voice, rng: np.random.Generator) -> _Score:
    """Phrases of stressed and unstressed syllables; the pitch falls over a phrase."""
    # room for what runs over the end
    room = steps + 5 * CONTROL_RATE_HZ
    score = _Score(np.zeros(room, np.int64), np.zeros(room), np.zeros(room))
    score.add("pause", rng.uniform(0.1, 0.4), level=0, pitch=0)
    while score.filled < steps:
        syllables = int(rng.integers(4, 11))
        force = rng.uniform(0.75, 1.0)
        stress = int(rng.integers(0, 3))
        for syllable in range(syllables):
            stressed = syllable % 3 == stress or syllable == syllables - 1
            fall = 2.5 - 5.0 * syllable / syllables
            _add_syllable(score, voice, rng, stressed=stressed, force=force, fall=fall)
            if score.filled >= steps:
                break
        score.add("pause", rng.uniform(0.25, 0.8) / voice.rate, level=0, pitch=0)
    return _Score(score.phone_C[:steps], score.level_C[:steps], score.pitch_C[:steps], steps)


def _add_syllable(
    score: _Score,
    voice: Voice,
    rng: np.random.Generator,
    *,
    stressed: bool,
    force: float,
    fall: float,
) -> None:
    level = force * (rng.uniform(0.85, 1.0) if stressed else rng.uniform(0.35, 0.6))
    pitch = fall + (rng.uniform(2.5, 5.0) if stressed else rng.uniform(-1.0, 0.5))
    length_s = (rng.uniform(0.17, 0.26) if stressed else rng.uniform(0.08, 0.13)) / voice.rate
    for name, part_s in _ONSETS[rng.integers(len(_ONSETS))]:
        score.add(name, part_s / voice.rate, level=level, pitch=pitch)
    # unstressed vowels are often reduced
    reduced = not stressed and rng.random() < 0.4
    vowel = "uh" if reduced else _VOWELS[rng.integers(len(_VOWELS) - 1)]
    score.add(vowel, length_s, level=level, pitch=pitch)


def _sound(
    levels_CF: Array, pitch_C: Array, voice: Voice, rng: np.random.Generator, *, samples: int
) -> Array:
    """Voice and noise through each phone's filter, faded by its level."""
    source_N = _glottis(voice.pitch_hz * 2 ** (_stretch(pitch_C, samples) / 12), rng)
    breath_N = rng.standard_normal(samples)
    waveform_N = 0.003 * breath_N
    for column, name in enumerate(_NAMES):
        phone = _PHONES[name]
        if not levels_CF[:, column].any():
            continue
        fade_N = _stretch(levels_CF[:, column], samples)
        if phone.voice:
            voiced_N = _resonate(source_N, phone.formants_hz, voice.formant_scale)
            waveform_N += phone.voice * fade_N * voiced_N
        if phone.noise:
            band = butter(2, phone.noise_hz, btype="band", fs=SAMPLE_RATE_HZ, output="sos")
            waveform_N += phone.noise * fade_N * _unit_level(sosfilt(band, breath_N))
    return waveform_N


def _glottis(pitch_N: Array, rng: np.random.Generator) -> Array:
    """Pulses at the fundamental with a little jitter, as soft as a glottis makes them."""
    jitter_N = gaussian_filter1d(rng.standard_normal(len(pitch_N)), 0.01 * SAMPLE_RATE_HZ)
    phase_N = np.cumsum(pitch_N * (1 + 0.1 * jitter_N) / SAMPLE_RATE_HZ)
    pulses_N = np.diff(np.floor(phase_N), prepend=0.0)
    flow_N = lfilter([1.0], [1.0, -0.9], pulses_N - pulses_N.mean())
    source_N: Array = flow_N + 0.01 * rng.standard_normal(len(flow_N))
    return source_N


def _resonate(source_N: Array, formants_hz: tuple[float, ...], scale: float) -> Array:
    for formant_hz, bandwidth_hz in zip(formants_hz, _BANDWIDTHS_HZ, strict=True):
        radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
        angle = 2 * np.pi * formant_hz * scale / SAMPLE_RATE_HZ
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        source_N = lfilter([sum(poles)], poles, source_N)
    return _unit_level(source_N)


def _unit_level(signal_N: Array) -> Array:
    return signal_N / max(float(np.sqrt(np.mean(signal_N**2))), 1e-9)


def _stretch(track: Array, samples: int) -> Array:
    """Control steps or rows to samples, linearly."""
    at = np.linspace(0, len(track), samples, endpoint=False)
    return np.interp(at, np.arange(len(track)), track)


def _loudness(waveform_N: Array) -> Array:
    """Level of 30 ms round each row, scaled from [-40, 0] dB to [0, 1]: (R,)."""
    power_N = gaussian_filter1d(waveform_N**2, 0.0075 * SAMPLE_RATE_HZ, mode="constant")
    power_R = power_N[::SAMPLES_PER_ROW]
    level_db = 10 * np.log10(power_R / max(power_R.max(), 1e-12) + 1e-9)
    loudness_R: Array = np.clip(1 - level_db / FLOOR_DB, 0, 1)
    return loudness_R


# --- espeak-ng ------------------------------------------------------------------------------------

_SENTENCES = (
    "The window was open all morning, and nobody remembered why.",
    "My mother never liked the river, but we always went in summer.",
    "Seven people moved a table slowly over the mountain.",
    "You may find the paper under the yellow garden chair.",
    "I believe the boat belongs to a family in the village.",
    "Music and water, that is what he wanted before the show.",
    "She opened the box, laughed, and ran away with the money.",
    "About a thousand of them came back happy in the evening.",
)


def recite(duration_s: float, voice: Voice, rng: np.random.Generator) -> Speech:
    """Read random sentences with espeak-ng; gestures are guessed from the sound.

    Raises:
        ToolError: If espeak-ng is missing or fails.
    """
    samples = round(duration_s * SAMPLE_RATE_HZ)
    parts, length = list[Array](), 0
    while length < samples:
        spoken_N = _espeak(_SENTENCES[rng.integers(len(_SENTENCES))], voice)
        parts += [spoken_N, np.zeros(round(rng.uniform(0.2, 0.6) * SAMPLE_RATE_HZ))]
        length += len(parts[-2]) + len(parts[-1])
    waveform_N = np.concatenate(parts)[:samples]
    waveform_N *= 0.7 / max(float(np.abs(waveform_N).max()), 1e-9)
    return listen(waveform_N.astype(np.float32), voice)


def _espeak(text: str, voice: Voice) -> Array:
    variant = "en+m3" if voice.pitch_hz < 150 else "en+f3"
    pitch = int(np.clip((voice.pitch_hz - 60) / 2, 10, 90))
    command = ["espeak-ng", "-v", variant, "-p", str(pitch), "-s", str(round(160 * voice.rate))]
    try:
        spoken = subprocess.run([*command, "--stdout", text], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolError(f"espeak-ng failed: {error}. Use the synthesiser instead") from error
    with wave.open(BytesIO(spoken.stdout)) as file:
        rate_hz = file.getframerate()
        # a piped header states no true length: read what there is
        pcm = np.frombuffer(file.readframes(len(spoken.stdout)), "<i2")
    waveform_N: Array = resample_poly(pcm / 32768, SAMPLE_RATE_HZ, rate_hz)
    return waveform_N


def listen(waveform_N: NDArray[np.float32], voice: Voice) -> Speech:
    """Guess the gestures behind a sound: (N,), float32, 16 kHz.

    The mouth is as open as the sound is loud and its energy lies about the first formant of an
    open vowel; the lips are spread where the energy lies high.
    """
    power_RD = _spectrogram(waveform_N)
    loudness_R = _loudness(waveform_N.astype(np.float64))
    low, open_, back, front = (
        power_RD[:, _bins(*edges)].sum(axis=1) + 1e-9
        for edges in pairwise((150, 450, 1000, 1800, 2800))
    )
    voiced_R = loudness_R > 0.4
    openness_R = loudness_R * (0.25 + 0.75 * open_ / (low + open_))
    spread_R = np.where(voiced_R, np.clip(np.log10(front / back), -1, 1), 0.0)
    return Speech(
        waveform_N,
        gaussian_filter1d(openness_R, 0.03 * ROW_RATE_HZ),
        gaussian_filter1d(spread_R, 0.04 * ROW_RATE_HZ),
        loudness_R,
        gaussian_filter1d(_pitch(power_RD, voiced_R, voice), 0.05 * ROW_RATE_HZ),
    )


_FFT = 1024


def _bins(start_hz: float, end_hz: float) -> slice:
    return slice(round(start_hz * _FFT / SAMPLE_RATE_HZ), round(end_hz * _FFT / SAMPLE_RATE_HZ))


def _spectrogram(waveform_N: NDArray[np.float32]) -> Array:
    """Power of 64 ms centred on each row: (R, 513)."""
    padded = np.pad(waveform_N.astype(np.float64), (_FFT // 2, _FFT // 2))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[:-1:SAMPLES_PER_ROW]
    power_RD: Array = np.abs(np.fft.rfft(blocks * np.hanning(_FFT), axis=1)) ** 2
    return power_RD


def _pitch(power_RD: Array, voiced_R: NDArray[np.bool_], voice: Voice) -> Array:
    """Semitones over the mean, by the autocorrelation's peak within an octave each way: (R,)."""
    shortest = round(SAMPLE_RATE_HZ / (2 * voice.pitch_hz))
    correlation = np.fft.irfft(power_RD, axis=1)[:, shortest : 4 * shortest]
    pitch_hz = SAMPLE_RATE_HZ / (shortest + correlation.argmax(axis=1))
    pitch_R: Array = np.where(voiced_R, 12 * np.log2(pitch_hz / voice.pitch_hz), 0.0)
    return pitch_R
