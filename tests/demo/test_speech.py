import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from mssync.demo.speech import Voice, listen, recite, synthesise
from mssync.errors import ToolError

LOW = Voice(pitch_hz=110.0, rate=1.0, formant_scale=0.95)
HIGH = Voice(pitch_hz=210.0, rate=1.0, formant_scale=1.1)


@pytest.fixture(scope="module")
def said():
    return synthesise(8.0, LOW, np.random.default_rng(0))


def test_speech_is_as_long_as_asked(said):
    assert said.waveform_N.shape == (128_000,)
    assert said.waveform_N.dtype == np.float32
    assert np.abs(said.waveform_N).max() == pytest.approx(0.7)
    for track in (said.openness_R, said.spread_R, said.loudness_R, said.pitch_R):
        assert track.shape == (800,)


def test_the_same_seed_says_the_same(said):
    again = synthesise(8.0, LOW, np.random.default_rng(0))
    other = synthesise(8.0, LOW, np.random.default_rng(1))
    np.testing.assert_array_equal(again.waveform_N, said.waveform_N)
    assert np.abs(other.openness_R - said.openness_R).max() > 0.3


def test_the_mouth_is_open_where_the_sound_is_loud(said):
    loud, silent = said.loudness_R > 0.85, said.loudness_R < 0.05
    assert loud.sum() > 50
    assert silent.sum() > 50
    assert said.openness_R[loud].mean() > 5 * said.openness_R[silent].mean()
    assert 0 <= said.openness_R.min() <= said.openness_R.max() <= 1


@pytest.mark.parametrize("voice", [LOW, HIGH])
def test_a_voice_has_its_pitch(voice):
    said = synthesise(4.0, voice, np.random.default_rng(3))
    heard = listen(said.waveform_N, voice)
    voiced = said.loudness_R > 0.85
    assert np.median(np.abs(heard.pitch_R - said.pitch_R)[voiced]) < 1.5  # semitones


def test_open_vowels_sound_open(said):
    heard = listen(said.waveform_N, LOW)
    assert np.corrcoef(heard.openness_R, said.openness_R)[0, 1] > 0.7
    np.testing.assert_allclose(heard.loudness_R, said.loudness_R, atol=1e-3)


def test_loudness_changes_slowly_too(said):
    # what the head follows: phrases and stress
    assert gaussian_filter1d(said.loudness_R, 25).std() > 0.05


def test_speech_of_no_length_is_refused():
    with pytest.raises(ValueError, match="positive length"):
        synthesise(0.0, LOW, np.random.default_rng(0))


def test_reading_without_espeak_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="Use the synthesiser instead"):
        recite(1.0, LOW, np.random.default_rng(0))
