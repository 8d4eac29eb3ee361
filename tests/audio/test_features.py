import warnings

import librosa
import numpy as np
import pytest
import python_speech_features

from mssync.audio.features import FLOOR, features, mel_filters, wide_mel_filters
from mssync.demo.speech import Voice, synthesise

PARAMS = {"pre_emphasis": 0.97, "mel_bands": 26, "mfcc": 13}
WIDE = {**PARAMS, "wide_mel_bands": 80}
VOICE = Voice(pitch_hz=120.0, rate=1.0, formant_scale=1.0)


@pytest.fixture(scope="module")
def speech():
    """Two seconds of a synthetic voice."""
    return synthesise(2.0, VOICE, np.random.default_rng(0)).waveform_N


def clicked():
    waveform = np.zeros(6400, np.float32)
    waveform[1600] = 1.0  # row 10 starts here
    return waveform


def noise(samples=32_000):
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


SOUNDS = {
    "speech": lambda speech: speech,
    "quiet speech": lambda speech: speech * 10 ** (-90 / 20),
    "noise": lambda speech: 0.1 * noise(),
    "click": lambda speech: clicked(),
    "click in speech": lambda speech: np.where(np.arange(32_000) == 9000, 1, 0.01 * speech),
    "clipping": lambda speech: np.clip(30 * speech, -1, 1),
    "offset": lambda speech: 0.3 * speech + 0.5,
    "silence, then speech": lambda speech: speech * (np.arange(32_000) > 16_000),
}


def test_there_are_four_rows_a_frame(speech):
    found = features(speech, **WIDE)
    assert found.log_mel_AM.shape == (50 * 4, 26)
    assert found.mfcc_AC.shape == (50 * 4, 13)
    assert found.wide_mel_AM.shape == (50 * 4, 80)


@pytest.mark.parametrize("sound", SOUNDS)
def test_it_agrees_with_python_speech_features_above_the_floor(speech, sound):
    waveform = SOUNDS[sound](speech).astype(np.float32)
    found = features(waveform, **PARAMS)
    signal = waveform - waveform.mean(dtype=np.float64)
    signal /= np.abs(signal).max()
    log_mel = python_speech_features.logfbank(signal, 16_000, nfilt=26, preemph=0.97)
    mfcc = python_speech_features.mfcc(signal, 16_000, numcep=13, preemph=0.97)
    rows = len(log_mel) - 3  # the last rows reach into padding, which the two do differently
    above = log_mel[:rows] > np.log(FLOOR)
    whole = above.all(axis=1)
    assert whole.sum() >= 3
    np.testing.assert_allclose(found.log_mel_AM[:rows][above], log_mel[:rows][above], atol=1e-3)
    np.testing.assert_allclose(found.mfcc_AC[:rows][whole], mfcc[:rows][whole], atol=1e-3)


def test_what_lies_below_the_floor_is_at_the_floor():
    waveform = clicked()
    waveform[1601] = -1.0  # without it the mean, which is removed, is not 0
    found = features(waveform, **WIDE)
    quiet = np.r_[0:8, 11:40]
    np.testing.assert_allclose(found.log_mel_AM[quiet], np.log(FLOOR), rtol=1e-6)
    np.testing.assert_allclose(found.wide_mel_AM[quiet], np.log(FLOOR), rtol=1e-6)


@pytest.mark.parametrize("bands", [80, 128])
def test_the_wide_set_is_librosas_mel_of_the_same_samples(speech, bands):
    found = features(speech, **{**PARAMS, "wide_mel_bands": bands}).wide_mel_AM
    signal = speech - speech.mean(dtype=np.float64)
    signal /= np.abs(signal).max()
    # librosa's window of 400 lies in the middle of its 512 samples.
    shifted = np.pad(signal, (56, 512 - 56 - 160))
    mel = librosa.feature.melspectrogram(
        y=shifted, sr=16_000, n_fft=512, win_length=400, hop_length=160, center=False, n_mels=bands
    )
    np.testing.assert_allclose(found, np.log(np.maximum(mel.T, FLOOR)), atol=1e-3)


def test_no_band_is_empty():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as librosa says it
        for filters in (mel_filters(26), wide_mel_filters(80), wide_mel_filters(128)):
            assert (filters.max(axis=1) > 0).all()


def test_without_a_wide_set_nothing_else_changes(speech):
    without, with_it = features(speech, **PARAMS), features(speech, **WIDE)
    assert without.wide_mel_AM.shape == (200, 0)
    np.testing.assert_array_equal(without.log_mel_AM, with_it.log_mel_AM)
    np.testing.assert_array_equal(without.mfcc_AC, with_it.mfcc_AC)


def test_long_sound_is_the_same_as_its_parts():
    """Rows are worked on in blocks; no row may depend on where a block ends."""
    long = np.tile(noise(640 * 30), 24)  # 2880 rows
    found = features(long, **WIDE)
    for rows_AM in (found.log_mel_AM, found.wide_mel_AM):
        np.testing.assert_allclose(rows_AM[1:120], rows_AM[2041:2160], atol=1e-4)


def test_loudness_does_not_change_the_features(speech):
    quiet, loud = features(speech / 10, **WIDE), features(speech, **WIDE)
    np.testing.assert_allclose(quiet.log_mel_AM, loud.log_mel_AM, atol=1e-3)
    np.testing.assert_allclose(quiet.wide_mel_AM, loud.wide_mel_AM, atol=1e-3)


def test_a_click_lands_in_the_rows_whose_window_holds_it():
    found = features(clicked(), **WIDE)
    assert np.flatnonzero(found.log_mel_AM[:, 13] > -10).tolist() == [8, 9, 10]
    # A Hann window is 0 where it begins, so row 10 does not hear its first sample.
    assert np.flatnonzero(found.wide_mel_AM[:, 40] > -15).tolist() == [8, 9]


def test_silence_gives_the_floor():
    for constant in (0.0, 0.5):
        found = features(np.full(640, constant, np.float32), **WIDE)
        np.testing.assert_allclose(found.log_mel_AM, np.log(FLOOR), rtol=1e-6)
        np.testing.assert_allclose(found.wide_mel_AM, np.log(FLOOR), rtol=1e-6)
        assert np.isfinite(found.mfcc_AC).all()


def test_what_is_no_number_counts_as_silence(speech):
    broken, silenced = speech.copy(), speech.copy()
    broken[5000:5003] = np.nan, np.inf, -np.inf
    silenced[5000:5003] = 0
    np.testing.assert_array_equal(
        features(broken, **WIDE).mfcc_AC, features(silenced, **WIDE).mfcc_AC
    )


@pytest.mark.parametrize("samples", [0, 641])
def test_part_of_a_frame_is_refused(samples):
    with pytest.raises(ValueError, match=f"640 samples a video frame, found {samples}"):
        features(np.zeros(samples, np.float32), **PARAMS)
