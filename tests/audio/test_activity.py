import subprocess
import sys

import numpy as np
import pytest

from mssync.audio.activity import speech_probability
from mssync.demo.speech import Voice, synthesise
from mssync.media.decode import read_clock
from mssync.media.sound import read_sound

VOICE = Voice(pitch_hz=120.0, rate=1.0, formant_scale=1.0)
RNG = np.random.default_rng(0)
TIME_S = np.arange(64_000) / 16_000


@pytest.fixture(scope="module")
def said():
    """Four seconds of a synthetic voice."""
    return synthesise(4.0, VOICE, np.random.default_rng(0))


@pytest.fixture(scope="module")
def speech(said):
    return said.waveform_N


def test_every_row_has_a_probability(speech):
    probability_A = speech_probability(speech)
    assert probability_A.shape == (400,)
    assert probability_A.dtype == np.float32
    assert probability_A.min() >= 0
    assert probability_A.max() <= 1


def test_a_voice_is_speech_and_its_pauses_are_not(said, speech):
    probability_A = speech_probability(speech)
    loud_A, pause_A = said.loudness_R > 0.3, said.loudness_R < 0.01
    assert np.median(probability_A[loud_A]) > 0.9
    assert np.median(probability_A[pause_A]) < 0.5


@pytest.mark.parametrize(
    "waveform",
    [
        0.1 * RNG.standard_normal(64_000),
        1e-4 * RNG.standard_normal(64_000),
        0.3 * np.sin(2 * np.pi * 220 * TIME_S),
        np.full(64_000, 0.5),
        np.isin(np.arange(64_000), 8000 * np.arange(8)),
    ],
    ids=["noise", "quiet noise", "tone", "constant", "clicks"],
)
def test_other_sounds_are_not_speech(waveform):
    assert speech_probability(waveform.astype(np.float32)).max() < 0.5


def test_digital_silence_has_no_speech_at_all(speech):
    assert not speech_probability(np.zeros(640, np.float32)).any()
    cut = np.where((TIME_S >= 1) & (TIME_S < 3), speech, 0).astype(np.float32)
    probability_A = speech_probability(cut)
    assert not probability_A[:100].any()
    assert not probability_A[300:].any()
    assert probability_A[100:300].max() > 0.9


@pytest.mark.parametrize("gain_db", [-60, -30, 20])
def test_gain_changes_nothing(speech, gain_db):
    before, after = (
        speech_probability(waveform.astype(np.float32))
        for waveform in (speech, speech * 10 ** (gain_db / 20))
    )
    heard_A = after > 0  # quiet rows can fall below what counts as sound
    assert heard_A.mean() > 0.7
    assert np.mean((before >= 0.5) != (after >= 0.5), where=heard_A) < 0.02


def test_a_click_does_not_hide_quiet_speech(speech):
    clicked = 0.003 * speech
    clicked[32_000:32_008] = 1.0
    before, after = speech_probability(speech) >= 0.5, speech_probability(clicked) >= 0.5
    assert np.mean(before != after) < 0.1


def test_speech_that_a_cut_begins_with_is_heard(speech):
    whole = speech_probability(speech) >= 0.5
    starts = [row for row in range(40, 300, 20) if whole[row - 20 : row + 50].all()]
    assert len(starts) >= 3
    for row in starts:
        cut = speech_probability(speech[row * 160 :])[:50] >= 0.5
        assert cut.mean() > 0.7


def test_rows_know_when_speech_begins(speech, said):
    rows = np.flatnonzero(said.loudness_R > 0.5)
    start = int(rows[len(rows) // 2])
    noise = 1e-3 * np.random.default_rng(1).standard_normal(64_000)
    late = np.where(np.arange(64_000) >= start * 160, speech, noise).astype(np.float32)
    onset = int(np.flatnonzero(speech_probability(late) >= 0.5)[0])
    assert abs(onset - start) <= 6  # two chunks


def test_one_clip_does_not_change_the_next(speech):
    before = speech_probability(speech)
    speech_probability(np.ones(6400, np.float32))
    np.testing.assert_array_equal(before, speech_probability(speech))


def test_torch_is_imported_only_when_it_is_needed():
    """It takes seconds, and each worker starts with these imports."""
    code = "import sys, mssync.audio.activity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("file", "least", "most"),
    [
        ("dev/grid_01.mp4", 0.3, 0.7),
        ("dev/lrs2_01.mp4", 0.9, 1.0),  # begins within a word
        ("dev/mead_06.mp4", 0.9, 1.0),  # -46 dB
        ("awkward/noisy_background_profile.mp4", 0.8, 1.0),
        ("awkward/clipped_audio_derived.mp4", 0.9, 1.0),
        ("awkward/two_audio_tracks.mp4", 0.8, 1.0),
        ("awkward/music_not_speech.mp4", 0.0, 0.4),  # some of it is sung
        ("awkward/noface_dog.mp4", 0.0, 0.0),
        ("awkward/head_tilting_no_speech.mp4", 0.0, 0.0),
        ("awkward/quiet_audio_pillarbox.mp4", 0.0, 0.0),  # a steady room
        ("awkward/silent_audio_real.mov", 0.0, 0.0),
    ],
)
def test_real_sound(real_clips, file, least, most):
    path = real_clips / file
    waveform = read_sound(path, read_clock(path)).waveform_N
    assert least <= np.mean(speech_probability(waveform) >= 0.5) <= most
