"""Offsets planted into clips of which the truth is known."""

import math

import numpy as np
import pytest

from mssync.demo import corpus
from mssync.selection.offset import UNKNOWN, estimate
from mssync.stages import extract_audio, extract_landmarks

BELIEVED = 0.9  # as in params.yaml


@pytest.fixture(scope="module")
def talkers(tmp_path_factory, tiny):
    """Landmarks as the real detector finds them, and sound, of five synthetic speakers: 10 s."""
    spec = corpus.CorpusSpec(
        speakers=5, clips_per_speaker=1, clip_s=10, test_speakers=0, val_speakers=0
    )
    made = corpus.make(tmp_path_factory.mktemp("talkers") / "demo", spec, workers=2)
    found = []
    for path in sorted((made / "media").rglob("*.mp4")):
        face = extract_landmarks.follow(path, params=tiny.extract_landmarks, device="cpu")
        sound = extract_audio.listen(path, params=tiny.extract_audio)
        points = np.asarray(face["landmarks_TPD"], np.float32).reshape(-1, 68, 2)
        found.append((points, np.asarray(sound["log_mel_AM"], np.float32).reshape(-1, 26)))
    return found


def late(points, log_mel, frames):
    """The part of a clip that has both, when the sound comes `frames` later."""
    first, end = max(0, frames), min(len(points), len(points) + frames)
    return points[first:end], log_mel[4 * (first - frames) : 4 * (end - frames)]


def told(points, log_mel):
    return estimate(points, log_mel, np.ones(len(points), bool))


@pytest.mark.parametrize("frames", range(-10, 11))
def test_planted_shifts_are_recovered_within_a_frame(talkers, frames):
    for points, log_mel in talkers:
        found = told(*late(points, log_mel, frames))
        assert abs(found.offset_ms - 40 * frames) <= 40
        assert found.confidence > BELIEVED


def test_half_a_frame_is_told(talkers):
    for points, log_mel in talkers:
        shifted = told(points[:-1], log_mel[2:-2])  # the sound is 20 ms early
        straight = told(points[:-1], log_mel[:-4])
        assert shifted.offset_ms - straight.offset_ms == pytest.approx(-20, abs=8)


@pytest.mark.parametrize("percent", [-1.0, -0.4, 0.0, 0.4, 1.0])
def test_planted_drift_is_told(talkers, percent):
    """The sound runs slower by so much: 10 ms a second for 1 %."""
    for points, log_mel in talkers:
        rows = np.arange(4 * len(points) - 20) / (1 + percent / 100)
        slower = log_mel[np.minimum(np.round(rows).astype(int) + 8, len(log_mel) - 1)]
        found = told(points[2 : len(slower) // 4 + 2], slower[: len(slower) // 4 * 4])
        assert found.drift_ms_per_s == pytest.approx(10 * percent, abs=2.5)
        assert found.confidence > BELIEVED


def test_another_voice_is_not_believed(talkers):
    """The synthetic voices share a rhythm: four in five are told, on real ones more (docs)."""
    wrong = [
        told(points[:n], log_mel[: 4 * n]).confidence
        for one, (points, _) in enumerate(talkers)
        for other, (_, log_mel) in enumerate(talkers)
        if one != other and (n := min(len(points), len(log_mel) // 4))
    ]
    right = [told(points, log_mel).confidence for points, log_mel in talkers]
    assert min(right) > max(0.95, np.quantile(wrong, 0.8))
    assert np.mean(np.array(wrong) > BELIEVED) <= 0.2


def test_noise_is_seldom_believed(talkers):
    """Chance alone reaches the threshold now and then: 12 of 500 times where it was measured."""
    rng = np.random.default_rng(0)
    found = np.array(
        [
            told(points, rng.normal(0, 1, log_mel.shape).astype(np.float32)).confidence
            for _ in range(20)
            for points, log_mel in talkers
        ]
    )
    assert np.mean(found > BELIEVED) <= 0.08
    assert found.max() < 0.99


def test_silence_tells_nothing(talkers):
    for points, log_mel in talkers:
        assert told(points, np.full_like(log_mel, math.log(1e-8))) == UNKNOWN


def test_a_still_face_and_few_frames_tell_nothing(talkers):
    points, log_mel = talkers[0]
    assert told(np.repeat(points[:1], len(points), axis=0), log_mel) == UNKNOWN
    assert told(points[:30], log_mel[:120]) == UNKNOWN
    mostly_lost = np.arange(len(points)) < 39
    assert estimate(points, log_mel, mostly_lost) == UNKNOWN


def test_short_clips_have_no_drift(talkers):
    points, log_mel = talkers[0]
    found = told(points[:199], log_mel[:796])
    assert math.isnan(found.drift_ms_per_s)
    assert abs(found.offset_ms) <= 40


def test_lost_ticks_do_not_count(talkers):
    points, log_mel = talkers[0]
    counted = np.ones(len(points), bool)
    counted[50:90] = False
    spoiled = points.copy()
    spoiled[50:90] = np.random.default_rng(0).uniform(0, 100, (40, 68, 2))
    found = estimate(spoiled, log_mel, counted)
    assert abs(found.offset_ms) <= 40
    assert found.confidence > BELIEVED


def test_every_second_tick_is_enough(talkers):
    """So counts what was filmed at 12.5 frames a second."""
    for points, log_mel in talkers:
        counted = np.arange(len(points)) % 2 == 0
        between = points.copy()
        between[1:-1:2] = (points[:-2:2] + points[2::2]) / 2
        found = estimate(between, log_mel, counted)
        assert abs(found.offset_ms) <= 40
        assert abs(found.drift_ms_per_s) <= 2.5
        assert found.confidence > BELIEVED
