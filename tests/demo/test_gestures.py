from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from mssync.demo.gestures import draw_speaker, dress, targets
from mssync.demo.portrait import Portrait, load_image
from mssync.demo.speech import synthesise
from mssync.landmarks import ibug


def _head_speed(moved):
    return np.linalg.norm(np.diff(moved[:, 27], axis=0), axis=1).mean()


@pytest.fixture(scope="module")
def portrait(corpus):
    with np.load(corpus / "portrait.npz") as stored:
        return Portrait(load_image(), stored["knots_KX"])


@pytest.fixture(scope="module")
def speaker():
    return draw_speaker(np.random.default_rng(4))


@pytest.fixture(scope="module")
def said(speaker):
    return synthesise(16.0, speaker.voice, np.random.default_rng(5))


@pytest.fixture(scope="module")
def rest(portrait, speaker):
    return dress(portrait, speaker).knots_KX


@pytest.fixture(scope="module")
def moved(rest, said, speaker):
    return targets(rest, said, speaker, np.random.default_rng(6), frames=400)


def test_the_mouth_opens_with_the_vowels(moved, said):
    opening = ibug.mouth_opening(moved)
    assert np.corrcoef(opening, said.openness_R[::4])[0, 1] > 0.98


def test_rounded_lips_are_narrower(moved, said):
    width = np.linalg.norm(moved[:, 48] - moved[:, 54], axis=-1)
    shut = said.openness_R[::4] < 0.3
    spread, rounded = said.spread_R[::4] > 0.5, said.spread_R[::4] < -0.5
    assert width[shut & rounded].mean() < 0.85 * width[shut & spread].mean()


def test_the_head_follows_the_slow_part_of_the_sound(moved, said):
    amplitude = 10 ** (2 * said.loudness_R)
    slow = gaussian_filter1d(amplitude, 15)[::4]
    assert np.corrcoef(moved[:, 27, 1], slow)[0, 1] > 0.7


def test_the_head_moves_less_in_silence(rest, said, speaker, moved):
    silence = replace(
        said,
        **{name: np.zeros_like(getattr(said, name))
           for name in ("openness_R", "spread_R", "loudness_R", "pitch_R")},
    )  # fmt: skip
    still = targets(rest, silence, speaker, np.random.default_rng(6), frames=400)
    speed = [
        np.linalg.norm(np.diff(track[:, 27], axis=0), axis=1).mean() for track in (moved, still)
    ]
    assert speed[1] < 0.5 * speed[0]


def test_the_eyes_blink(moved):
    gap = np.linalg.norm(moved[:, 37] - moved[:, 41], axis=-1)
    assert gap.min() < 0.6 * np.median(gap)
    assert (gap < 0.7 * np.median(gap)).mean() < 0.2


def test_the_face_stays_in_the_picture(moved):
    assert moved[:, :68].min() > 0.05
    assert moved[:, :68].max() < 0.95


def test_twelve_speakers_have_twelve_faces(portrait):
    faces = []
    for seed in range(12):
        own = dress(portrait, draw_speaker(np.random.default_rng(seed)))
        points = own.knots_KX[:68, :2]
        faces.append((points - points[27]) / ibug.interocular_distance(points))
    distances = [np.abs(a - b).max() for i, a in enumerate(faces) for b in faces[:i]]
    assert min(distances) > 0.03


def test_a_speaker_at_rest_has_its_mouth_shut(rest):
    assert ibug.mouth_opening(rest) < 0.06 * ibug.interocular_distance(rest)


def test_too_little_speech_is_refused(rest, said, speaker):
    with pytest.raises(ValueError, match="401 frames need 1604 rows"):
        targets(rest, said, speaker, np.random.default_rng(0), frames=401)
