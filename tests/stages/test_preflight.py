"""Each cause of a sync expert that stays at chance, planted into synthetic talkers."""

import subprocess
import sys

import numpy as np
import pytest

from mssync.errors import InputError
from mssync.params import BuildDataset
from mssync.stages import _preflight
from tests.handmade import build, write_inputs
from tests.talkers import talkers as make_talkers

SPEAKERS, FRAMES, SPARE = 12, 150, 10
PINNED = {"s10": "val", "s11": "test"}
# What is planted must reach the dataset.
OPEN = {"max_av_offset_ms": 640.0, "max_av_drift_ms_per_s": 1000.0}


@pytest.fixture(scope="module")
def talkers():
    """Two clips of each speaker, `SPARE` frames longer."""
    return make_talkers(SPEAKERS, clips=2, frames=FRAMES + SPARE)


@pytest.fixture
def look(tmp_path, tiny):
    """Build a dataset of (points, log mel energies) by clip, and look at it."""

    def run(clips):
        given = {
            clip: {"points": points[:FRAMES], "log_mel": log_mel[: 4 * FRAMES], "frames": FRAMES}
            for clip, (points, log_mel) in clips.items()
        }
        write_inputs(tmp_path, given, pinned=PINNED)
        section = tiny.build_dataset.model_dump() | OPEN | {"val_ratio": 0, "test_ratio": 0}
        build(tmp_path, BuildDataset(**section))
        return _preflight.run(tmp_path / "data" / "dataset", most=1000, seed=0)

    return run


def causes(found):
    return [fault.cause for fault in found.faults]


def test_good_clips_have_no_fault_and_beat_guessing(look, talkers):
    found = look(talkers)
    assert causes(found) == []
    assert found.looked_at == 2 * SPEAKERS
    assert found.splits["train"]["speakers"] == SPEAKERS - 2
    assert found.probe.accuracy > 3 * found.probe.chance
    assert found.probe.p_value < 1e-6
    assert found.believed_ratio > 0.8
    assert found.correlation > 0.3
    assert abs(np.median(found.offsets_ms)) < 40


@pytest.mark.parametrize("frames", [-6, 6])
def test_shifted_sound_is_named(look, talkers, frames):
    if frames > 0:  # late: the sound of an earlier moment
        shifted = {c: (points[frames:], sound) for c, (points, sound) in talkers.items()}
    else:
        shifted = {c: (points, sound[-4 * frames :]) for c, (points, sound) in talkers.items()}
    found = look(shifted)
    assert causes(found) == ["sound_shifted"]
    assert np.median(found.offsets_ms) == pytest.approx(40 * frames, abs=30)


def test_shuffled_sound_is_named(look, talkers):
    names = list(talkers)
    shuffled = {
        clip: (talkers[clip][0], talkers[names[(number + 7) % len(names)]][1])
        for number, clip in enumerate(names)
    }
    found = look(shuffled)
    assert causes(found) == ["sound_of_another_clip"]
    assert found.probe.accuracy < 2 * found.probe.chance


def test_frozen_faces_are_named(look, talkers):
    frozen = {
        clip: (np.repeat(points[:1], len(points), axis=0) if number % 2 else points, sound)
        for number, (clip, (points, sound)) in enumerate(talkers.items())
    }
    found = look(frozen)
    assert causes(found) == ["frozen_faces"]
    assert found.frozen_ratio == pytest.approx(0.5, abs=0.02)


def test_a_silent_half_is_named(look, talkers):
    def silenced(sound):
        quiet = sound.copy()
        quiet[2 * FRAMES :] = np.log(1e-8)
        return quiet

    found = look({clip: (points, silenced(sound)) for clip, (points, sound) in talkers.items()})
    assert causes(found) == ["silence"]
    assert found.silent_ratio > 0.5


def test_one_person_under_two_names_is_named(look, talkers):
    rng = np.random.default_rng(0)
    points, sound = talkers["s03/0"]
    copy = (
        1.5 * points + rng.normal(0, 0.1, points.shape),
        sound - 1 + rng.normal(0, 0.05, sound.shape),
    )
    found = look({**talkers, "other/0": copy})
    assert causes(found) == ["one_person_two_names"]
    assert found.duplicates == [("other/0", "s03/0")]
    assert "other/0 of other and s03/0 of s03" in found.faults[0].detail


def test_too_little_to_tell_is_no_fault(look, talkers):
    found = look({clip: talkers[clip] for clip in ("s00/0", "s10/0", "s11/0")})
    assert found.probe is None or found.probe.windows < 100
    assert "nothing_to_learn" not in causes(found)


def test_few_are_looked_at_and_always_the_same(look, talkers, tmp_path):
    look(talkers)
    once, again = (_preflight.run(tmp_path / "data" / "dataset", most=8, seed=3) for _ in range(2))
    assert once == again
    assert once.looked_at == 8


def test_the_command_prints_and_fails_with_a_fault(look, talkers, tmp_path, root):
    def command():
        return subprocess.run(
            [sys.executable, "-m", "mssync", "preflight", "--params", root / "params.test.yaml",
             "--json", "found.json"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    look(talkers)
    good = command()
    assert (good.returncode, good.stderr) == (0, "")
    assert "no fault found" in good.stdout
    assert (tmp_path / "found.json").exists()
    look({clip: (points[6:], sound) for clip, (points, sound) in talkers.items()})
    bad = command()
    assert bad.returncode == 1
    assert "FAULT sound_shifted: the sound is" in bad.stdout
    assert "+240 ms" in bad.stdout


def test_no_dataset_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no dataset"):
        _preflight.run(tmp_path, most=10, seed=0)
