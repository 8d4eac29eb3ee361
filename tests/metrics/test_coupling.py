import numpy as np
import pytest

from mssync.landmarks import ibug
from mssync.metrics import coupling

FRAMES = 120


@pytest.fixture
def voice():
    """Loudness per frame: two bursts a second, uneven."""
    time_s = np.arange(FRAMES) / 25
    return np.clip(np.sin(2 * np.pi * time_s) + 0.5 * np.sin(2 * np.pi * 0.3 * time_s), 0, None)


@pytest.fixture
def audio(voice):
    return np.repeat(voice, 4)[:, None].repeat(26, axis=1).astype(np.float32) * 5 - 10


@pytest.fixture
def face():
    return np.random.default_rng(0).uniform(0.2, 0.8, size=(68, 2)).astype(np.float32)


def travelling(face, speed):
    """The face moved right by `speed` crop sides a second."""
    path = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 / 25)])
    motion = np.repeat(face[None], FRAMES, axis=0)
    motion[..., 0] += path[:, None]
    return motion.astype(np.float32)


def test_the_speed_of_a_head_on_a_straight_path_is_its_speed(face):
    speed = coupling.head_speed(travelling(face, np.full(FRAMES, 0.25)))
    assert speed == pytest.approx(np.full(FRAMES, 0.25), abs=1e-4)


def test_lips_have_no_part_in_head_speed(face):
    motion = np.repeat(face[None], FRAMES, axis=0)
    motion[::2, list(ibug.LIPS)] += 0.1
    assert coupling.head_speed(motion).max() == 0


def test_a_head_that_moves_when_the_voice_is_loud_is_coupled(face, voice, audio):
    assert coupling.speech_head_coupling(travelling(face, 0.02 + voice / 10), audio) > 0.95


def test_a_head_that_moves_in_the_pauses_is_coupled_the_other_way(face, voice, audio):
    calm = voice.max() - voice
    assert coupling.speech_head_coupling(travelling(face, 0.02 + calm / 10), audio) < -0.9


def test_a_static_face_is_coupled_to_nothing(face, audio):
    static = np.repeat(face[None], FRAMES, axis=0)
    assert coupling.speech_head_coupling(static, audio) == 0
    assert coupling.speech_mouth_coupling(static, audio) == 0


def test_silence_is_coupled_to_nothing(face, voice):
    silence = np.full((4 * FRAMES, 26), -18.4, np.float32)
    assert coupling.speech_head_coupling(travelling(face, voice), silence) == 0


def test_a_mouth_that_opens_with_the_voice_is_coupled(face, voice, audio):
    motion = np.repeat(face[None], FRAMES, axis=0)
    motion[:, 62], motion[:, 66] = 0.5, 0.5
    motion[:, 66, 1] += (0.01 + voice / 20).astype(np.float32)
    assert coupling.speech_mouth_coupling(motion, audio) > 0.99


def test_audio_of_another_length_is_refused(face, audio):
    with pytest.raises(ValueError, match="120 frames need 480 audio rows, found 479"):
        coupling.speech_head_coupling(np.repeat(face[None], FRAMES, axis=0), audio[1:])
