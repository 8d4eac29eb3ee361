"""A face that speaks: the landmarks of a portrait, opened and moved by a synthetic voice."""

from dataclasses import dataclass

import mediapipe
import numpy as np
import pytest
import skimage.data

from mssync.landmarks import ibug

FRAMES = 120
RATE_HZ = 16_000


@dataclass(frozen=True)
class Speech:
    motion_TPD: np.ndarray
    waveform: np.ndarray


@pytest.fixture(scope="session")
def portrait():
    """Landmarks (68, 2) of skimage's portrait, in its square crop."""
    image = skimage.data.astronaut()
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True) as mesh:
        found = mesh.process(image).multi_face_landmarks[0].landmark
    points = ibug.from_mediapipe(np.array([(p.x * 512, p.y * 512) for p in found], np.float32))
    low, high = points.min(axis=0), points.max(axis=0)
    return ((points - (low + high) / 2) / ((high - low).max() * 1.3) + 0.5).astype(np.float32)


@pytest.fixture(scope="session")
def speak(portrait):
    """Make speech: the jaw falls and the head turns with syllables of `syllables_hz`."""

    def make(syllables_hz=3.0, seed=0):
        time_s = np.arange(FRAMES) / 25
        opening = np.clip(np.sin(2 * np.pi * syllables_hz * time_s), 0, None)
        opening *= 0.6 + 0.4 * np.sin(2 * np.pi * 0.4 * time_s)
        motion = np.repeat(portrait[None], FRAMES, axis=0)
        for points, drop in (((57, 66), 0.06), ((56, 58, 65, 67), 0.05), (range(6, 11), 0.045)):
            motion[:, list(points), 1] += drop * opening[:, None]
        motion[..., 0] += 0.02 * np.sin(2 * np.pi * 0.5 * time_s)[:, None]
        motion[..., 1] += 0.012 * np.sin(2 * np.pi * 0.8 * time_s + 1)[:, None]

        clock_s = np.arange(FRAMES * RATE_HZ // 25) / RATE_HZ
        loudness = np.interp(clock_s, time_s, 0.03 + opening)
        tone = np.sin(2 * np.pi * 140 * clock_s) + 0.5 * np.sin(2 * np.pi * 700 * clock_s)
        hiss = 0.1 * np.random.default_rng(seed).normal(size=len(clock_s))
        waveform = 0.4 * loudness * (tone + hiss)
        return Speech(motion.astype(np.float32), waveform.astype(np.float32))

    return make
