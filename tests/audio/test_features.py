import numpy as np
import pytest
import python_speech_features

from mssync.audio.features import FLOOR, clipped_ratio, features, loudness_db

PARAMS = {"pre_emphasis": 0.97, "mel_bands": 26, "mfcc": 13}


@pytest.fixture
def speech():
    """Two seconds of a buzzing vowel that swells, with noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time_s) / k for k in range(1, 30))
    swell = 0.5 + 0.4 * np.sin(2 * np.pi * 2 * time_s)
    return (0.2 * swell * buzz + 0.01 * rng.standard_normal(32_000)).astype(np.float32)


def test_there_are_four_rows_a_frame(speech):
    found = features(speech, **PARAMS)
    assert found.log_mel_AM.shape == (50 * 4, 26)
    assert found.mfcc_AC.shape == (50 * 4, 13)


def test_it_agrees_with_python_speech_features(speech):
    found = features(speech, **PARAMS)
    signal = speech - speech.mean(dtype=np.float64)
    signal /= np.abs(signal).max()
    log_mel = python_speech_features.logfbank(signal, 16_000, nfilt=26, preemph=0.97)
    mfcc = python_speech_features.mfcc(signal, 16_000, numcep=13, preemph=0.97)
    rows = len(log_mel) - 3  # the last rows reach into padding, which the two do differently
    np.testing.assert_allclose(found.log_mel_AM[:rows], log_mel[:rows], atol=1e-3)
    np.testing.assert_allclose(found.mfcc_AC[:rows], mfcc[:rows], atol=1e-3)


def test_loudness_does_not_change_the_features(speech):
    quiet, loud = features(speech / 10, **PARAMS), features(speech, **PARAMS)
    np.testing.assert_allclose(quiet.log_mel_AM, loud.log_mel_AM, atol=1e-3)


def test_a_click_lands_in_the_rows_whose_window_holds_it():
    waveform = np.zeros(6400, np.float32)
    waveform[1600] = 1.0  # row 10 starts here
    rows = np.flatnonzero(features(waveform, **PARAMS).log_mel_AM[:, 13] > -10)
    assert rows.tolist() == [8, 9, 10]


def test_silence_gives_the_floor():
    found = features(np.zeros(6400, np.float32), **PARAMS)
    np.testing.assert_allclose(found.log_mel_AM, np.log(FLOOR), rtol=1e-6)
    assert np.isfinite(found.mfcc_AC).all()


def test_part_of_a_frame_is_refused():
    with pytest.raises(ValueError, match="640 samples a video frame, found 641"):
        features(np.zeros(641, np.float32), **PARAMS)


def test_levels_are_relative_to_full_scale():
    assert loudness_db(np.ones(100, np.float32)) == pytest.approx(0)
    assert loudness_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-3)
    assert loudness_db(np.zeros(100, np.float32)) == -120
    assert clipped_ratio(np.array([1.0, 0.5, -1.0, 0.0], np.float32)) == 0.5
