import numpy as np
import pytest

from mssync.audio.levels import FLOOR_DB, clipped_ratio, loudness_db, row_levels_db, snr_db


def levels(*runs):
    """Rows made of runs: (rows, level in dB)."""
    return np.concatenate([np.full(rows, level, np.float32) for rows, level in runs])


def estimate(level_A, speech_rows):
    speech_A = np.isin(np.arange(len(level_A)), list(speech_rows)).astype(np.float32)
    return snr_db(level_A, speech_A, threshold=0.5)


def test_levels_are_relative_to_full_scale():
    assert loudness_db(np.ones(100, np.float32)) == pytest.approx(0)
    assert loudness_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-3)
    assert loudness_db(np.zeros(100, np.float32)) == FLOOR_DB


def test_each_row_has_the_level_of_its_own_samples():
    waveform = np.zeros(640, np.float32)
    waveform[160:320] = 0.1
    np.testing.assert_allclose(row_levels_db(waveform), [-120, -20, -120, -120], atol=1e-3)


def test_rows_add_up_to_the_whole():
    waveform = np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    power_A = 10 ** (row_levels_db(waveform) / 10)
    assert 10 * np.log10(power_A.mean()) == pytest.approx(loudness_db(waveform), abs=1e-3)


def test_full_scale_and_beyond_count_as_clipped():
    assert clipped_ratio(np.array([1.0, 0.5, -1.0, 0.0, -1.4], np.float32)) == pytest.approx(0.6)
    assert clipped_ratio(np.zeros(0, np.float32)) == 0


@pytest.mark.parametrize("above_db", [0, 3, 10, 20, 40])
def test_speech_in_steady_noise_is_met_within_a_decibel(above_db):
    rng = np.random.default_rng(0)
    waveform = 0.01 * rng.standard_normal(48_000).astype(np.float32)
    waveform[16_000:] += 0.01 * 10 ** (above_db / 20) * rng.standard_normal(32_000)
    assert estimate(row_levels_db(waveform), range(100, 300)) == pytest.approx(above_db, abs=1)


def test_one_bang_between_words_is_not_the_noise():
    level_A = levels((100, -60), (5, 0), (100, -20))
    assert estimate(level_A, range(105, 205)) == pytest.approx(40, abs=0.1)


def test_without_pauses_the_quietest_rows_tell_the_noise():
    level_A = levels((20, -50), (280, -20))
    assert estimate(level_A, range(300)) == pytest.approx(30, abs=1)


def test_digital_silence_is_not_taken_for_a_quiet_room():
    level_A = levels((100, FLOOR_DB), (100, -50), (100, -20))
    assert estimate(level_A, range(200, 300)) == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("level_A", "speech_rows", "expected"),
    [
        (levels((100, FLOOR_DB)), range(100), -20),  # nothing is there
        (levels((100, -20)), (), -20),  # no speech
        (levels((60, -20), (40, -60)), range(60, 100), -20),  # noise louder than speech
        (levels((60, -99), (40, -1)), range(60, 100), 80),
        (levels((4, -20)), range(4), -20),  # one frame, and all of it alike
    ],
)
def test_the_estimate_is_always_a_number_within_its_range(level_A, speech_rows, expected):
    assert estimate(level_A, speech_rows) == expected
