"""Outputs of other systems: matched by name, cut, and placed as the ground truth is."""

import json

import numpy as np
import pytest

from mssync.errors import InputError
from mssync.params import Paths
from mssync.stages import _imported, _motion, _systems
from mssync.stages._scores import Excerpt

FRAMES = 60


def walk(seed):
    rng = np.random.default_rng(seed)
    face = np.random.default_rng(9).uniform(0.3, 0.7, (68, 2))
    return (face + rng.normal(0, 0.002, (2 * FRAMES, 1, 2)).cumsum(axis=0)).astype(np.float32)


@pytest.fixture
def pieces():
    return [
        Excerpt(
            f"{speaker}/clip_0.mp4",
            speaker,
            start,
            walk(seed)[start : start + FRAMES],
            np.zeros((4 * FRAMES, 26), np.float32),
        )
        for seed, speaker in enumerate(("anna", "bert"))
        for start in (0, FRAMES)
    ]


def write(folder, name, motion, suffix=".npz", zoom=(40.0, 20.0, 500.0)):
    """As `mssync generate` writes it, in a crop of its own."""
    folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crop.npy", motion)
    target = folder / f"{name}{suffix}"
    _motion.write(_motion.Motion(folder / "crop.npy", *zoom), target, suffix, {"model": "other"})
    (folder / "crop.npy").unlink()
    return target


def read(folder, pieces):
    return _imported.read(
        folder,
        pieces,
        lengths={piece.clip_id: 2 * FRAMES for piece in pieces},
        smoothing_frames=3,
        extraction=None,
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_system_that_copies_the_truth_scores_as_the_truth_whatever_its_crop(
    tmp_path, pieces, suffix
):
    write(tmp_path, "anna/clip_0", walk(0), suffix)
    write(tmp_path, "bert/clip_0", walk(1), suffix, zoom=(0.0, 0.0, 96.0))
    motions, missing = read(tmp_path, pieces)
    assert missing == {}
    for index, piece in enumerate(pieces):
        np.testing.assert_allclose(motions[index], piece.motion_TPD, atol=1e-5)


def test_a_name_without_folders_is_enough_where_it_is_the_only_one(tmp_path, pieces):
    write(tmp_path, "clip_0", walk(0))
    assert set(read(tmp_path, pieces[:2])[0]) == {0, 1}
    with pytest.raises(InputError, match=r"names like anna/clip_0\.npz, found clip_0\.npz"):
        read(tmp_path, pieces)


def test_what_is_lacking_or_broken_has_a_reason(tmp_path, pieces):
    write(tmp_path, "anna/clip_0", walk(0)[:-5])
    motions, missing = read(tmp_path, pieces)
    assert set(motions) == {0}
    assert "115 frames, 120 are needed" in missing[1]
    assert "no file of this name" in missing[2]
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/clip_0.npz").write_bytes(b"nothing")
    assert "no landmark file as mssync generate writes it" in read(tmp_path, pieces)[1][2]
    np.savez(tmp_path / "bert/clip_0.npz", landmarks_TPD=np.zeros((9, 5, 2)), fps_hz=25.0)
    assert "expected (T, 68, 2) at 25 Hz, found (9, 5, 2)" in read(tmp_path, pieces)[1][2]


def test_a_file_that_is_longer_or_shorter_than_its_clip_is_left_out(tmp_path, pieces):
    write(tmp_path, "anna/clip_0", walk(0)[: 2 * FRAMES - 13])
    write(tmp_path, "bert/clip_0", np.concatenate([walk(1), walk(1)[:13]]))
    motions, missing = read(tmp_path, pieces)
    assert motions == {}
    assert "107 frames (4.28 s) at 25 Hz, the clip has 120 frames (4.80 s)" in missing[0]
    assert "133 frames (5.32 s)" in missing[3]


def test_two_files_of_one_clip_are_refused(tmp_path, pieces):
    for suffix in (".npz", ".parquet"):
        write(tmp_path, "anna/clip_0", walk(0), suffix)
    with pytest.raises(InputError, match=r"clip_0\.npz and clip_0\.parquet are of one clip"):
        read(tmp_path, pieces)


def resolve(given, pieces, tmp_path):
    return _systems.resolve(
        given,
        pieces,
        taken=("generated", "champion"),
        paths=Paths(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="e", model_name="m"),
        lengths={piece.clip_id: 2 * FRAMES for piece in pieces},
        smoothing_frames=3,
        extraction=None,
        scratch=tmp_path,
    )


def test_a_sequence_that_one_system_lacks_is_left_out_for_all(tmp_path, pieces):
    write(tmp_path / "whole", "anna/clip_0", walk(0))
    write(tmp_path / "whole", "bert/clip_0", walk(1))
    write(tmp_path / "short", "anna/clip_0", walk(0))
    write(tmp_path / "short", "bert/clip_0", walk(1)[:-5])
    given = {"whole": str(tmp_path / "whole"), "short": str(tmp_path / "short")}
    others = resolve(given, pieces, tmp_path)
    assert [piece.name for piece in others.pieces] == [piece.name for piece in pieces[:3]]
    assert {name: len(motions) for name, motions in others.imported.items()} == {
        "whole": 3,
        "short": 3,
    }
    assert set(others.left_out) == {pieces[3].name}
    assert "are needed" in json.dumps(dict(others.left_out[pieces[3].name]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"static": "anywhere"}, "the name is taken"),
        ({"lost": "nowhere"}, "nowhere is none of: run:ID"),
    ],
)
def test_a_system_that_cannot_be_is_refused(tmp_path, pieces, given, told):
    with pytest.raises(InputError, match=told):
        resolve(given, pieces, tmp_path)


def test_videos_without_a_detector_are_refused(tmp_path, pieces):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna/clip_0.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="give landmark files"):
        read(tmp_path, pieces)
