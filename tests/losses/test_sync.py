import pytest
import torch

from mssync.losses.sync import pyramid_sync_loss, scored_windows


class Loudness:
    """A guide that compares the height of point 62 with the loudness of its rows."""

    from_mean = False

    def __init__(self, level):
        self.level = level

    def embed_motion(self, motion_N5PD):
        height_N5 = motion_N5PD[:, :, 62, 1]
        return height_N5 - height_N5.mean(dim=1, keepdim=True)

    def embed_audio(self, audio_N20M):
        loudness_N5 = audio_N20M.mean(dim=2).unflatten(1, (5, 4)).mean(dim=2)
        return loudness_N5 - loudness_N5.mean(dim=1, keepdim=True)


GUIDES = [Loudness(level) for level in range(4)]


def talking(frames):
    """Point 62 goes with the loudness, slowly enough for every level."""
    random = torch.Generator().manual_seed(0)
    loudness = torch.randn(2, frames, generator=random).cumsum(1)
    audio = loudness.repeat_interleave(4, dim=1)[..., None].repeat(1, 1, 26)
    motion = torch.rand(2, 1, 68, 2, generator=random).repeat(1, frames, 1, 1)
    motion[:, :, 62, 1] = loudness
    return motion, audio


def loss(motion, audio, guides=GUIDES, generated=range(22, 64), valid_only=True):
    return pyramid_sync_loss(
        motion, audio, guides, kernel=7, generated=generated, valid_only=valid_only
    )


def test_motion_that_follows_its_audio_costs_minus_one_at_level_0():
    assert loss(*talking(85)).by_level[0].item() == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_late_motion_costs_more_at_every_level(level):
    motion, audio = talking(85)
    late = motion.roll(2 * 2**level, dims=1)
    by_level = loss(motion, audio).by_level
    assert loss(late, audio).by_level[level] > by_level[level] + 0.1


def test_the_loss_is_the_mean_of_its_levels():
    result = loss(*talking(85))
    assert result.loss.item() == pytest.approx(sum(map(float, result.by_level.values())) / 4)
    assert set(result.windows) == {0, 1, 2, 3}
    assert all(result.windows.values())


@pytest.mark.parametrize(
    ("valid_only", "windows"), [(True, [39, 14, 2, 0]), (False, [39, 18, 7, 2])]
)
def test_43_frames_without_context_have_the_papers_windows(valid_only, windows):
    generated = range(1, 43)
    result = loss(*talking(43), generated=generated, valid_only=valid_only)
    assert list(result.windows.values()) == windows
    assert set(result.by_level) == {level for level, count in enumerate(windows) if count}


def test_context_of_21_frames_frees_a_level_3_window_of_padding():
    counts = [
        len(scored_windows(85, level, kernel=7, generated=range(22, 64), valid_only=True))
        for level in range(4)
    ]
    assert counts == [46, 28, 12, 1]


def test_windows_of_real_frames_only_are_left_out():
    motion, audio = talking(85)
    far = motion.clone()
    far[:, :18] += torch.rand(2, 18, 68, 2)
    far[:, 68:] += torch.rand(2, 17, 68, 2)
    assert loss(far, audio, GUIDES[:1]).loss == loss(motion, audio, GUIDES[:1]).loss


def test_gradients_reach_every_generated_frame_through_the_coarsest_level():
    motion, audio = talking(85)
    motion = motion.roll(8, dims=1).requires_grad_()
    loss(motion, audio, GUIDES[3:]).loss.backward()
    assert (motion.grad[:, 22:64, 62, 1] != 0).all()


def test_motion_that_reaches_no_level_is_refused():
    with pytest.raises(ValueError, match=r"43 frames hold no window of levels \[3\]"):
        loss(*talking(43), guides=GUIDES[3:], generated=range(1, 43))


def test_audio_of_another_length_is_refused():
    motion, audio = talking(43)
    with pytest.raises(ValueError, match="172 audio rows, found 168"):
        loss(motion, audio[:, 4:])
