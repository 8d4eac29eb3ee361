import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from mssync import pyramid
from mssync.data import dataset
from mssync.data.clips import Clip
from mssync.data.pack import Pack, open_pack, pack_clips
from mssync.data.sequences import Sequences
from mssync.data.windows import Windows
from tests.handmade import build, write_inputs

CPU = torch.device("cpu")


def clip(number, frames):
    rng = np.random.default_rng(number)
    return Clip(
        f"clip{number}",
        "someone",
        "train",
        rng.random((frames, 68, 2), dtype=np.float32),
        rng.normal(-6, 3, (4 * frames, 26)).astype(np.float32),
    )


CLIPS = [clip(number, frames) for number, frames in enumerate((43, 90, 7, 101, 2))]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_level_holds_what_the_pyramid_makes_of_each_clip(level):
    found = pack_clips(CLIPS).level(level, kernel=7, device=CPU)
    for number, each in enumerate(CLIPS):
        samples = int(found.samples_C[number])
        reaches = all(pyramid.length(each.frames, above) > 3 for above in range(level))
        assert samples == (pyramid.length(each.frames, level) if reaches else 0)
        if not samples:
            continue
        motion, audio = found.take(found.first_C[number : number + 1], samples)
        np.testing.assert_array_equal(motion[0], pyramid.array_at_level(each.motion_TPD, level))
        rows = pyramid.array_at_level(each.audio_AM, level)
        np.testing.assert_array_equal(audio[0, : len(rows)], rows)
        missing = audio.shape[1] - len(rows)
        np.testing.assert_array_equal(
            audio[0, len(rows) :], rows[len(rows) - 1 - missing : len(rows) - 1][::-1]
        )


def test_statistics_are_those_of_all_frames():
    many = CLIPS + [clip(number, 400) for number in range(10, 60)]  # more than one piece
    found = pack_clips(many).statistics
    motion = np.concatenate([each.motion_TPD for each in many]).astype(np.float64)
    audio = np.concatenate([each.audio_AM for each in many]).astype(np.float64)
    change = np.concatenate([np.diff(each.motion_TPD, axis=0) for each in many])
    np.testing.assert_allclose(found.motion_mean_PD, motion.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.motion_std_PD, motion.std(0), rtol=1e-5)
    np.testing.assert_allclose(found.audio_mean_M, audio.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.audio_std_M, audio.std(0), rtol=1e-5)
    np.testing.assert_allclose(
        found.velocity_rms_PD, np.sqrt(np.square(change, dtype=np.float64).mean(0)), rtol=1e-5
    )
    low, high = np.quantile(audio, [0.001, 0.999])
    assert found.audio_range == pytest.approx(high - low, abs=2 * np.ptp(audio) / 65536 + 1e-3)


def test_statistics_of_no_clip_are_refused():
    with pytest.raises(ValueError, match="no clip"):
        _ = pack_clips([]).statistics


def test_a_pack_on_disk_gives_the_batches_of_one_in_memory(tmp_path):
    memory = pack_clips(CLIPS)
    np.save(tmp_path / "level0.npy", memory.level(0, kernel=7, device=CPU).rows_SX.numpy())
    disk = Pack(
        np.load(tmp_path / "level0.npy", mmap_mode="c"),
        *(memory.frames_C, memory.low_CD, memory.high_CD),
        folder=tmp_path,
    )
    for level in (0, 2):
        ours, theirs = (
            Windows(pack, level=level, kernel=7, valid_only=False, device=CPU).draw(
                "cross_clip", 5, seed=1, groups=2, largest=6, audio_range=9.0
            )
            for pack in (disk, memory)
        )
        assert torch.equal(ours.motion_GN5PD, theirs.motion_GN5PD)
        assert torch.equal(ours.audio_GN20M, theirs.audio_GN20M)
    crops = [
        Sequences(pack, frames=43, context_frames=5, device=CPU)
        .draw(3, batch=4, seed=0, audio_range=9.0)
        .motion_BTPD
        for pack in (disk, memory)
    ]
    assert torch.equal(*crops)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("level0.npy", "level1-kernel7.npy", "level2-kernel7.npy")
    ]


def test_a_full_disk_is_an_error_and_no_signal(tmp_path, monkeypatch):
    memory = pack_clips(CLIPS)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    rows = memory.level(0, kernel=7, device=CPU).rows_SX.numpy()
    disk = Pack(rows, memory.frames_C, memory.low_CD, memory.high_CD, folder=tmp_path)
    with pytest.raises(OSError, match="No space left"):
        disk.level(1, kernel=7, device=CPU)
    assert not (tmp_path / "level1-kernel7.npy").exists()


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory):
    """Folder of a dataset on disk."""
    folder = tmp_path_factory.mktemp("built")
    write_inputs(folder, {f"p{number}/a": {} for number in range(8)})
    build(folder, tiny.build_dataset)
    return folder / "data" / "dataset"


def pack(folder):
    """Pack the training split, and bring it down to the second level."""
    found = open_pack(dataset.load(folder), "train")
    return found.level(2, kernel=7, device=CPU)


def files(folder):
    """Which file has each name."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


class Overtaken(dataset.Dataset):
    """A dataset that another process packs while this one reads it."""

    def clips(self, *splits, only=None):
        for number, clip in enumerate(super().clips(*splits, only=only)):
            if number == self.metadata["overtaken_at"]:
                other = get_context("spawn").Process(target=pack, args=(self.folder,))
                other.start()
                other.join()
                assert other.exitcode == 0
                self.metadata["left"] = files(
                    dataset.pack_folder(self.folder, self.revision) / "train"
                )
            yield clip


@pytest.mark.parametrize("number", [0, 1])
def test_of_two_that_pack_at_once_both_use_what_the_first_one_made(built, number):
    version = dataset.load(built)
    folder = dataset.pack_folder(built, version.revision) / "train"
    shutil.rmtree(folder.parent, ignore_errors=True)
    facts = version.metadata | {"overtaken_at": number}
    overtaken = Overtaken(built, facts, version.rows)
    found = open_pack(overtaken, "train").level(2, kernel=7, device=CPU)
    made = overtaken.metadata["left"]
    assert set(made) == {"facts.npz"} | {
        *("level0.npy", "level1-kernel7.npy", "level2-kernel7.npy")
    }
    assert files(folder) == made
    assert torch.equal(found.rows_SX, pack(built).rows_SX)
    assert {path.name for path in folder.parent.iterdir()} == {"train"}


def test_a_level_that_several_make_at_once_is_the_same_file_for_all(tmp_path):
    memory = pack_clips(CLIPS)
    rows = memory.level(0, kernel=7, device=CPU).rows_SX.numpy()
    packs = [
        Pack(rows, memory.frames_C, memory.low_CD, memory.high_CD, folder=tmp_path)
        for _ in range(8)
    ]

    def make(pack, level):
        return pack.level(level, kernel=7, device=CPU).rows_SX

    with ThreadPoolExecutor(8) as threads:
        for level in (1, 2, 3):
            found = threads.map(make, packs, [level] * 8)
            assert all(torch.equal(rows_SX, make(memory, level)) for rows_SX in found)
    assert set(files(tmp_path)) == {f"level{level}-kernel7.npy" for level in (1, 2, 3)}


def test_what_is_left_of_a_pack_is_made_anew(built):
    version = dataset.load(built)
    whole = pack(built).rows_SX.clone()
    folder = dataset.pack_folder(built, version.revision) / "train"
    (folder / "facts.npz").unlink()
    (folder / "level0.npy").write_bytes(b"half")
    assert torch.equal(pack(built).rows_SX, whole)
