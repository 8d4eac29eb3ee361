import numpy as np
import pytest
import torch

from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.data.sequences import Sequences
from mssync.errors import StageFailedError


def clip(frames, name="a", offset=0.0):
    """A clip whose every value tells its time, in frames."""
    motion = np.broadcast_to(np.arange(frames)[:, None, None] + offset, (frames, 68, 2))
    audio = np.broadcast_to(np.arange(4 * frames)[:, None] / 4 + offset, (4 * frames, 26))
    return Clip(name, name, "train", motion.astype(np.float32), audio.astype(np.float32))


def sequences_of(clips, *, frames, context_frames):
    return Sequences(
        pack_clips(clips), frames=frames, context_frames=context_frames, device=torch.device("cpu")
    )


def draw(sequences, step=0, batch=16, audio_range=None):
    return sequences.draw(step, batch=batch, seed=3, audio_range=audio_range)


def test_a_step_draws_the_same_crops_whenever_it_is_asked():
    sequences = sequences_of([clip(200), clip(300, "b", 1000)], frames=43, context_frames=5)
    for audio_range in (None, 10.0):
        first, again = (draw(sequences, 7, audio_range=audio_range) for _ in range(2))
        assert torch.equal(first.motion_BTPD, again.motion_BTPD)
        assert torch.equal(first.audio_BAM, again.audio_BAM)
    assert not torch.equal(first.motion_BTPD, draw(sequences, 8).motion_BTPD)


def test_audio_and_motion_are_of_the_same_frames():
    batch = draw(sequences_of([clip(200)], frames=43, context_frames=5))
    assert batch.motion_BTPD.shape == (16, 53, 68, 2)
    assert batch.audio_BAM.shape == (16, 212, 26)
    for motion, audio in ((batch.motion_BTPD, batch.audio_BAM), batch.inner):
        assert torch.equal(motion[:, :, 0, 0], audio[:, ::4, 0])


def test_the_inner_part_is_the_crop_without_its_context():
    batch = draw(sequences_of([clip(200)], frames=43, context_frames=5))
    motion, audio = batch.inner
    assert motion.shape[1] == 43
    assert audio.shape[1] == 172
    assert torch.equal(motion[:, 0], batch.motion_BTPD[:, 5])


def test_every_crop_is_drawn_and_long_clips_more_often():
    sequences = sequences_of([clip(12), clip(17, "b", 1000)], frames=10, context_frames=0)
    starts = draw(sequences, batch=2000).motion_BTPD[:, 0, 0, 0].tolist()
    found, counts = np.unique(starts, return_counts=True)
    assert found.tolist() == [0, 1, 2, *range(1000, 1008)]
    assert counts.min() > 0.6 * 2000 / 11


def test_clips_too_short_for_their_context_are_left_out():
    sequences = sequences_of([clip(60), clip(100, "b", 1000)], frames=43, context_frames=21)
    assert sequences.context_frames == 21
    assert sequences.too_short == 1
    assert (draw(sequences).motion_BTPD >= 1000).all()


def test_context_shrinks_when_no_clip_has_enough():
    clips = [clip(60), clip(50, "b", 1000), clip(30, "c", 2000)]
    sequences = sequences_of(clips, frames=43, context_frames=21)
    assert sequences.context_frames == 3
    assert sequences.too_short == 1
    assert draw(sequences).motion_BTPD.shape[1] == 49


def test_clips_that_hold_no_crop_stop_the_stage():
    with pytest.raises(StageFailedError, match="longest of 1 has 42"):
        sequences_of([clip(42)], frames=43, context_frames=21)


def test_augmentation_changes_the_crops_and_leaves_the_clips():
    source = clip(100)
    before = source.motion_TPD.copy()
    sequences = sequences_of([source], frames=43, context_frames=0)
    assert not torch.equal(
        draw(sequences, audio_range=10.0).motion_BTPD, draw(sequences).motion_BTPD
    )
    np.testing.assert_array_equal(source.motion_TPD, before)


def test_centred_crops_are_one_of_each_clip():
    clips = [clip(47, offset=100 * number) for number in range(5)]
    batches = list(sequences_of(clips, frames=43, context_frames=0).centred(2))
    assert [len(batch.motion_BTPD) for batch in batches] == [2, 2, 1]
    starts = torch.cat([batch.motion_BTPD[:, 0, 0, 0] for batch in batches])
    assert starts.tolist() == [2, 102, 202, 302, 402]
