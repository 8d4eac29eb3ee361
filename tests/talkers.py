"""Synthetic talkers without a video: landmarks and sound that belong together, made in seconds."""

import numpy as np

from mssync.audio.features import features
from mssync.data.clips import Clip
from mssync.demo import gestures, speech
from mssync.demo.portrait import Portrait, find_knots, load_image


def talkers(speakers, *, clips, frames):
    """Points (T, 68, 2) in pixels and log mel energies (4 T, 26) by clip id, `s00/0` the first.

    Args:
        speakers: How many people.
        clips: Of each of them.
        frames: Length of every clip.
    """
    image = load_image()
    knots = find_knots(image)
    found = {}
    for number in range(speakers):
        speaker = gestures.draw_speaker(np.random.default_rng([0, number]))
        portrait = gestures.dress(Portrait(image, knots), speaker)
        for clip in range(clips):
            rng = np.random.default_rng([1, number, clip])
            said = speech.synthesise(frames / 25, speaker.voice, rng)
            motion = gestures.targets(portrait.knots_KX, said, speaker, rng, frames=frames)
            points = 256 * motion[:, :68] + rng.normal(0, 0.1, (frames, 68, 2))
            sound = features(said.waveform_N, pre_emphasis=0.97, mel_bands=26, mfcc=13)
            found[f"s{number:02d}/{clip}"] = (points, sound.log_mel_AM)
    return found


def talking_clip(number, frames, split="train"):
    """A face whose mouth opens with the loudness of its speech, which a small net learns fast."""
    rng = np.random.default_rng(number)
    noise = rng.normal(size=4 * frames + 12)
    loudness = np.convolve(noise, np.hanning(15)[1:], mode="valid")[: 4 * frames] / 2
    motion = np.repeat(rng.uniform(0.3, 0.7, (1, 68, 2)), frames, axis=0)
    motion[:, 65:, 1] += 0.05 * np.resize(loudness[::4], frames)[:, None]
    audio = np.resize(loudness, 4 * frames)[:, None] * 2 + rng.normal(-6, 0.3, (4 * frames, 26))
    return Clip(
        f"{split}{number}",
        f"{split}{number}",
        split,
        (motion + rng.normal(0, 0.001, motion.shape)).astype(np.float32),
        audio.astype(np.float32),
    )
