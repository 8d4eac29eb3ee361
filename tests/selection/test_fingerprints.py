"""Real clips, encoded anew by ffmpeg in the ways of a re-upload, read by the real extraction."""

import subprocess

import numpy as np
import pytest

from mssync import records
from mssync.audio.features import features
from mssync.landmarks import ibug
from mssync.media import ffmpeg
from mssync.selection import duplicates, fingerprints
from mssync.stages import extract_audio, extract_landmarks

FLIP = "hflip,scale=trunc(iw/4)*2:trunc(ih/4)*2"
CHANGES = {
    "low bitrate": ["-crf", "36", "-b:a", "32k"],
    "trimmed": ["-ss", "0.517", "-t", "2.9", "-b:a", "96k"],
    "quieter, 30 fps": ["-af", "volume=-12dB", "-r", "30", "-b:a", "64k"],
    "mirrored, half as large": ["-vf", FLIP, "-b:a", "64k"],
    "all of it": ["-ss", "0.533", "-vf", FLIP, "-r", "30", "-af", "volume=-9dB", "-b:a", "48k"],
}


@pytest.fixture(scope="module")
def words(small_corpus, tiny, tmp_path_factory):
    """Words of sound and motion: of all clips, and of the first one by what was done to it."""
    folder = tmp_path_factory.mktemp("reuploads")
    media = sorted((small_corpus / "media").rglob("*.mp4"))

    def listen_and_look(path):
        sound = extract_audio.listen(path, params=tiny.extract_audio)
        face = extract_landmarks.follow(path, params=tiny.extract_landmarks, device="cpu")
        points = records.shaped(face["landmarks_TPD"], -1, ibug.POINTS, 2)
        log_mel = records.shaped(sound["log_mel_AM"], len(points) * 4, -1)
        return {
            duplicates.SOUND: fingerprints.of_sound(log_mel),
            duplicates.MOTION: fingerprints.of_motion(points),
        }

    def changed(arguments, name):
        target = folder / f"{name}.mp4"
        command = [ffmpeg.executable(), "-v", "error", "-i", media[0], *arguments, target]
        subprocess.run(command, check=True)
        return target

    others = [listen_and_look(path) for path in media]
    again = {
        name: listen_and_look(changed(arguments, number))
        for number, (name, arguments) in enumerate(CHANGES.items())
    }
    return others, again


# What is left of four seconds after all of it has too little movement to be sure of.
FOUND = [(duplicates.SOUND, change) for change in CHANGES] + [
    (duplicates.MOTION, change) for change in list(CHANGES)[:-1]
]


@pytest.mark.parametrize(("kind", "change"), FOUND, ids=lambda found: getattr(found, "name", found))
def test_a_reupload_is_found_and_nothing_else(words, kind, change):
    others, again = words
    listed = [*(clip[kind] for clip in others), again[change][kind]]
    new = np.arange(len(listed)) == len(listed) - 1
    found = duplicates.find(listed, new, kind)
    assert [(match.first, match.second) for match in found] == [(0, len(listed) - 1)]
    assert found[0].error < 0.2


@pytest.mark.parametrize("kind", [duplicates.SOUND, duplicates.MOTION], ids=lambda kind: kind.name)
def test_different_clips_of_one_portrait_are_not_the_same_footage(words, kind):
    listed = [clip[kind] for clip in words[0]]
    assert duplicates.find(listed, np.ones(len(listed), bool), kind) == []


def test_silence_and_a_still_face_have_no_words():
    silence = np.full((400, 26), np.log(1e-8), np.float32)
    assert not fingerprints.of_sound(np.concatenate([silence + 15, silence]))[140:].any()
    face = np.random.default_rng(0).uniform(0, 100, (1, 68, 2)).astype(np.float32)
    assert not fingerprints.of_motion(np.repeat(face, 100, axis=0)).any()


def test_gain_and_size_change_no_bit():
    rng = np.random.default_rng(0)
    sound = rng.uniform(-5, 5, (400, 26)).astype(np.float32)
    one, other = fingerprints.of_sound(sound), fingerprints.of_sound(sound - 3)
    assert np.mean(one == other) > 0.95
    face = np.cumsum(rng.standard_normal((100, 68, 2)), axis=0).astype(np.float32) + 500
    assert (fingerprints.of_motion(face) == fingerprints.of_motion(2 * face)).all()


@pytest.mark.parametrize("ticks", [1, 31, 32, 33])
def test_short_clips_have_a_word_for_every_tick_or_none(ticks):
    face = np.random.default_rng(0).uniform(0, 100, (ticks, 68, 2)).astype(np.float32)
    sound = np.zeros((4 * ticks, 26), np.float32)
    assert len(fingerprints.of_motion(face)) == len(fingerprints.of_sound(sound)) == ticks


def test_a_steady_hum_has_no_words():
    """Else two clips of nothing but the hum of the mains would be taken for one."""
    time_s = np.arange(16000 * 4) / 16000
    hum = sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in range(1, 12)).astype(np.float32)
    heard = features(hum, pre_emphasis=0.97, mel_bands=26, mfcc=13).log_mel_AM
    words = fingerprints.of_sound(heard)
    # but for where the sound ends, and so changes
    assert (words[:-10] == fingerprints.NO_WORD).mean() > 0.9
