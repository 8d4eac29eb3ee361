from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from mssync import pyramid
from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.data.windows import MIN_GROUP, Windows


def numbered_clip(number, frames):
    """Every coordinate of frame t is 1000 number + t, every energy of row r 1000 number + r / 4."""
    motion = np.broadcast_to(np.arange(frames)[:, None, None], (frames, 68, 2))
    audio = np.broadcast_to(np.arange(4 * frames)[:, None] / 4, (4 * frames, 26))
    return Clip(
        clip_id=f"clip{number}",
        speaker_id=f"speaker{number}",
        split="train",
        motion_TPD=(1000 * number + motion).astype(np.float32),
        audio_AM=(1000 * number + audio).astype(np.float32),
    )


def windows_in(clips, level=0, kernel=7, valid_only=True, from_mean=False):
    return Windows(
        pack_clips(clips),
        level=level,
        kernel=kernel,
        valid_only=valid_only,
        device=torch.device("cpu"),
        from_mean=from_mean,
    )


def windows_of(*frames, level=0, valid_only=True):
    clips = [numbered_clip(number, count) for number, count in enumerate(frames)]
    return windows_in(clips, level, valid_only=valid_only)


def clips_and_starts(batch):
    """Clip and first frame of each window of a batch of level 0, both (G, N)."""
    first = batch.motion_GN5PD[:, :, 0, 0, 0].numpy()
    return first // 1000, first % 1000


def test_windows_are_five_samples_and_the_twenty_rows_of_the_same_time():
    batch = windows_of(60, 90).draw("cross_clip", 0, seed=0, groups=3, largest=8)
    assert batch.motion_GN5PD.shape == (3, 8, 5, 68, 2)
    assert batch.audio_GN20M.shape == (3, 8, 20, 26)
    first = batch.motion_GN5PD[:, :, :1, 0, 0].numpy()
    np.testing.assert_array_equal(batch.motion_GN5PD[..., 5, 1], first + np.arange(5))
    np.testing.assert_allclose(batch.audio_GN20M[..., 3], first + np.arange(20) / 4)


@pytest.mark.parametrize("audio_range", [None, 5.0])
@pytest.mark.parametrize("level", [0, 1])
def test_displacements_are_windows_less_the_mean_face_of_their_clip(level, audio_range):
    random = np.random.default_rng(0)
    clips = []
    for number, frames in enumerate((40, 60, 50)):
        motion = random.uniform(0.3, 0.7, (1, 68, 2)) + random.normal(0, 0.02, (frames, 68, 2))
        audio = random.normal(size=(4 * frames, 26))
        clips.append(Clip(str(number), "", "train", motion.astype("f4"), audio.astype("f4")))
    still = [
        replace(clip, motion_TPD=np.repeat(clip.motion_TPD.mean(axis=0)[None], clip.frames, axis=0))
        for clip in clips
    ]
    # what augmentation may do depends on where the clip's points go: the still ones must touch
    # the same ends
    for clip, mean in zip(clips, still, strict=True):
        mean.motion_TPD[0] = clip.motion_TPD.min(axis=0)
        mean.motion_TPD[-1] = clip.motion_TPD.max(axis=0)

    def draw(given, **options):
        windows = windows_in(given, level, **options)
        return windows.draw("cross_clip", 3, seed=0, groups=2, largest=8, audio_range=audio_range)

    displaced, plain = draw(clips, from_mean=True), draw(clips)
    assert torch.equal(displaced.audio_GN20M, plain.audio_GN20M)
    means = draw(still).motion_GN5PD[:, :, 2]
    expected = plain.motion_GN5PD - means[:, :, None]
    inside = draw(still).motion_GN5PD.diff(dim=2).abs().amax(dim=(2, 3, 4)) < 1e-6
    assert inside.any()
    torch.testing.assert_close(displaced.motion_GN5PD[inside], expected[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [1, 2])
def test_windows_of_higher_levels_are_those_of_the_pyramid(level):
    clip = Clip(
        "a",
        "a",
        "train",
        np.random.default_rng(0).random((101, 68, 2), dtype=np.float32),
        np.random.default_rng(1).random((404, 26), dtype=np.float32),
    )
    windows = windows_in([clip], level, valid_only=False)
    motion = pyramid.array_at_level(clip.motion_TPD, level)
    audio = pyramid.array_at_level(clip.audio_AM, level)
    starts = np.arange(windows.count)
    batch = windows.gather(starts[None])
    assert windows.count == len(motion) - 4
    for start in starts[:-1]:
        np.testing.assert_array_equal(batch.motion_GN5PD[0, start], motion[start : start + 5])
        rows = audio[4 * start : 4 * start + 20]
        np.testing.assert_array_equal(batch.audio_GN20M[0, start][: len(rows)], rows)


@pytest.mark.parametrize(("pairs", "largest"), [("cross_clip", 30), ("same_clip", 12)])
def test_windows_of_a_group_never_overlap(pairs, largest):
    windows = windows_of(31, 64, 120, 77)
    for step in range(50):
        batch = windows.draw(pairs, step, seed=0, groups=4, largest=largest)
        for clips, starts in zip(*clips_and_starts(batch), strict=True):
            for clip in set(clips):
                of_clip = sorted(starts[clips == clip])
                assert all(later - earlier >= 5 for earlier, later in pairwise(of_clip))


def test_same_clip_groups_come_from_one_clip_and_cross_clip_groups_from_several():
    windows = windows_of(100, 100, 100)
    same, _ = clips_and_starts(windows.draw("same_clip", 0, seed=0, groups=8, largest=12))
    cross, _ = clips_and_starts(windows.draw("cross_clip", 0, seed=0, groups=8, largest=12))
    assert (same == same[:, :1]).all()
    assert len(set(same[:, 0])) > 1
    assert all(len(set(group)) > 1 for group in cross)


@pytest.mark.parametrize("pairs", ["cross_clip", "same_clip"])
def test_every_window_is_drawn_about_as_often_as_any_other(pairs):
    windows = windows_of(43, 43)
    drawn = np.zeros((2, 39))
    for step in range(300):
        batch = windows.draw(pairs, step, seed=0, groups=4, largest=7)
        clips, starts = clips_and_starts(batch)
        np.add.at(drawn, (clips.astype(int), starts.astype(int)), 1)
    assert drawn.min() > 0.6 * drawn.mean()
    assert drawn.max() < 1.4 * drawn.mean()


def test_a_group_is_as_large_as_what_exists():
    windows = windows_of(60, 30)  # 56 and 26 windows
    assert windows.group_size("cross_clip", 48) == 11 + 5
    assert windows.group_size("cross_clip", 8) == 8
    assert windows.group_size("same_clip", 12) == 11


def test_shorter_clips_give_smaller_groups_of_the_same_clip():
    windows = windows_of(30, 120)
    sizes = {
        windows.draw("same_clip", step, seed=0, groups=2, largest=12).motion_GN5PD.shape[1]
        for step in range(30)
    }
    assert sizes == {5, 12}


@pytest.mark.parametrize(("level", "count"), [(0, 39), (1, 14), (2, 2), (3, 0)])
def test_padded_windows_are_left_out_on_request(level, count):
    assert windows_of(43, level=level).count == count
    everything = windows_of(43, level=level, valid_only=False)
    assert everything.count == [39, 18, 7, 2][level]


def test_clips_too_short_for_a_level_are_counted():
    windows = windows_of(43, 43, 90, level=3)
    assert (windows.too_short, windows.count) == (2, len(pyramid.valid_windows(90, 3)))


def test_a_kernel_wider_than_a_clip_leaves_no_window():
    clips = [numbered_clip(0, 20)]
    windows = windows_in(clips, 1, kernel=41, valid_only=False)
    assert (windows.too_short, windows.count) == (1, 0)


@pytest.mark.parametrize("pairs", ["cross_clip", "same_clip"])
def test_a_level_without_a_group_says_so(pairs):
    for windows in (windows_of(20), windows_of(43, level=3)):
        assert windows.group_size(pairs, 48) < MIN_GROUP
        with pytest.raises(ValueError, match=f"no {pairs} group of 4 windows"):
            windows.draw(pairs, 0, seed=0, groups=1, largest=48)


def test_a_sample_is_spread_over_all_windows():
    windows = windows_of(40, 4, 25)
    every = windows.sample(1000).motion_GN5PD
    assert every.shape[:2] == (1, windows.count)
    assert len(torch.unique(every[0, :, 0, 0, 0])) == windows.count
    few = windows.sample(3).motion_GN5PD[0]
    assert torch.equal(few, every[0, [0, (windows.count - 1) // 2, windows.count - 1]])


def test_no_clip_is_refused():
    with pytest.raises(ValueError, match="no clip"):
        windows_of()


def test_tiles_hold_every_window_that_does_not_overlap_once():
    windows, rng = windows_of(60, 43), np.random.default_rng(0)  # 12 and 8 windows
    cross = windows.tile("cross_clip", 6, rng)
    assert [len(group) for group in cross.groups] == [6, 6, 6]
    assert cross.dropped == 2
    starts = np.concatenate(cross.groups)
    assert len(set(starts)) == 18
    assert all(start % 5 == 0 for start in starts if start < 60)


def test_tiles_of_one_clip_are_as_large_as_the_clip_gives():
    tiling = windows_of(60, 43, 23).tile("same_clip", 12, np.random.default_rng(0))
    assert [len(group) for group in tiling.groups] == [12, 8, 4]
    assert tiling.dropped == 0
    tiling = windows_of(22, 12).tile("same_clip", 12, np.random.default_rng(0))
    assert [len(group) for group in tiling.groups] == [4]
    assert tiling.dropped == 2


def test_no_window_makes_no_tile():
    tiling = windows_of(43, level=3).tile("cross_clip", 48, np.random.default_rng(0))
    assert (tiling.groups, tiling.dropped) == ([], 0)


@pytest.mark.parametrize("pairs", ["cross_clip", "same_clip"])
def test_a_step_of_a_seed_draws_the_same_batch_whenever_it_is_asked(pairs):
    windows = windows_of(60, 90)
    batches = [
        windows.draw(pairs, step, seed=seed, groups=2, largest=8, audio_range=9.0)
        for seed, step in ((1, 7), (1, 7), (1, 8), (2, 7))
    ]
    assert torch.equal(batches[0].motion_GN5PD, batches[1].motion_GN5PD)
    assert torch.equal(batches[0].audio_GN20M, batches[1].audio_GN20M)
    for other in batches[2:]:
        assert not torch.equal(batches[0].audio_GN20M, other.audio_GN20M)


def test_augmentation_is_one_draw_for_each_clip_of_each_group():
    flat = [
        Clip(
            f"{number}",
            f"{number}",
            "train",
            np.random.default_rng(0).uniform(0.2, 0.8, (1, 68, 2)).astype(np.float32).repeat(60, 0),
            np.full((240, 26), 100.0 * number, np.float32),
        )
        for number in range(2)
    ]
    windows = windows_in(flat)
    batch = windows.draw("cross_clip", 0, seed=0, groups=2, largest=12, audio_range=10.0)
    faces = set()
    for group in range(2):
        number = batch.audio_GN20M[group, :, 0, 0] > 50
        for of_clip in (number, ~number):
            motion, audio = batch.motion_GN5PD[group, of_clip], batch.audio_GN20M[group, of_clip]
            assert len(motion) > 1
            assert (motion == motion[0, 0]).all()
            assert (audio == audio[0, 0, 0]).all()
            faces.add(motion[0, 0].numpy().tobytes())
    assert len(faces) == 4
