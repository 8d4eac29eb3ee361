import math

import numpy as np
import pytest

from mssync.selection.envelope import MAX_LAG_FRAMES, coupling, envelope
from tests.handmade import loudness, opening

FRAMES = 250
MOUTH_T = opening(np.arange(FRAMES) / 25).astype(np.float32)
ALL_T = np.ones(FRAMES, bool)


@pytest.mark.parametrize("late_frames", [-12, -3, 0, 1, 7, 15])
def test_sound_that_is_late_has_a_positive_lag(late_frames):
    sound = envelope(loudness(FRAMES, lag_s=late_frames / 25))
    correlation, lag_s = coupling(MOUTH_T, sound, ALL_T)
    assert lag_s == pytest.approx(late_frames / 25)
    assert correlation > 0.99


def test_the_envelope_of_a_frame_is_centred_on_its_tick():
    """A burst from half a frame before tick 50 to half a frame after it is of frame 50 alone."""
    rows_s = np.arange(4 * 100) / 100
    burst = (rows_s >= 50 / 25 - 0.021) & (rows_s < 50 / 25 + 0.019)
    found = envelope(np.where(burst, -10, -120).astype(np.float32))
    assert (found > 1e-3).nonzero()[0].tolist() == [50]


def test_ticks_that_are_not_counted_have_no_say():
    wrong = MOUTH_T.copy()
    counted = ALL_T.copy()
    wrong[60:120], counted[60:120] = 5 * np.sin(np.arange(60)), False
    sound = envelope(loudness(FRAMES))
    assert coupling(wrong, sound, ALL_T)[0] < 0.5
    assert coupling(wrong, sound, counted) == pytest.approx(coupling(MOUTH_T, sound, counted))


def test_loudness_does_not_matter_and_correlation_is_pearsons():
    quiet, loud = (envelope(loudness(FRAMES) + gain) for gain in (-60, 0))
    assert coupling(MOUTH_T, quiet, ALL_T) == pytest.approx(coupling(MOUTH_T, loud, ALL_T))
    noise = np.random.default_rng(0).random(FRAMES).astype(np.float32)
    correlation, lag_s = coupling(MOUTH_T, noise, ALL_T)
    lag = round(lag_s * 25)
    mouth = MOUTH_T[max(0, -lag) : FRAMES - max(0, lag)]
    sound = noise[max(0, lag) : FRAMES + min(0, lag)]
    assert correlation == pytest.approx(np.corrcoef(mouth, sound)[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("mouth", "sound"),
    [
        (np.full(FRAMES, 0.1), envelope(loudness(FRAMES))),
        (MOUTH_T, np.zeros(FRAMES)),
        (MOUTH_T, np.full(FRAMES, 0.3)),
    ],
)
def test_what_is_constant_is_coupled_to_nothing(mouth, sound):
    assert coupling(mouth.astype(np.float32), sound.astype(np.float32), ALL_T) == (0, 0)


def test_too_little_to_compare_is_not_a_number():
    few = np.arange(FRAMES) < 5
    for counted, sound in ((few, envelope(loudness(FRAMES))), (ALL_T, np.zeros(0, np.float32))):
        assert all(math.isnan(value) for value in coupling(MOUTH_T, sound, counted))


def test_a_lag_that_half_the_ticks_cannot_tell_of_does_not_win():
    """At lag 15 only five of twenty pairs exist, and two curves of five points often agree."""
    frames = 20
    rng = np.random.default_rng(0)
    for _ in range(50):
        mouth, sound = rng.random((2, frames)).astype(np.float32)
        lag_s = coupling(mouth, sound, np.ones(frames, bool))[1]
        assert abs(lag_s) <= (frames / 2) / 25 < MAX_LAG_FRAMES / 25
