import numpy as np
import pytest
import torch

from mssync.landmarks import ibug
from mssync.losses.rigidity import rigidity
from mssync.metrics import baselines
from tests.talkers import talkers

FRAMES = 120
SETTINGS = {"piece_frames": 10, "candidates": 20, "continuity": 0.3, "blend_frames": 5}


@pytest.fixture(scope="module")
def pairs():
    """Two clips of four people each, 8 s long, in crop units."""
    made = talkers(4, clips=2, frames=200)
    return [
        ((points / 256).astype(np.float32), sound.astype(np.float32))
        for points, sound in made.values()
    ]


@pytest.fixture(scope="module")
def strangers(pairs):
    """A bank without the first person."""
    return baselines.bank(pairs[2:])


def retrieve(source, audio, searched, **changes):
    return baselines.retrieve(source, audio, searched, **(SETTINGS | changes))


def fastest(motion):
    """Largest step of any point in a frame."""
    return np.linalg.norm(np.diff(motion, axis=0), axis=-1).max()


@pytest.mark.parametrize("start", [0, 37, 80])
def test_a_piece_of_a_training_clip_is_found_again_exactly(pairs, start):
    motion, audio = pairs[3]
    taken, heard = motion[start:][:FRAMES], audio[4 * start :][: 4 * FRAMES]
    found = retrieve(taken[0], heard, baselines.bank(pairs))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, taken, atol=1e-5)


def test_a_join_moves_no_point_faster_than_training_clips_do(pairs, strangers):
    motion, audio = pairs[0]
    limit = max(fastest(trained) for trained, _ in pairs[2:])
    for start in (0, 40, 80):
        found = retrieve(motion[start], audio[4 * start :][: 4 * FRAMES], strangers)
        assert fastest(found) <= limit


@pytest.mark.parametrize("blend_frames", [1, 10])
def test_a_gap_that_cannot_be_avoided_fades_in_the_frames_it_is_given(pairs, blend_frames):
    """The sound of a face's way to the right, its end first: the face must go back."""
    face, audio = pairs[0][0][0], pairs[0][1]
    step = np.float32(0.002)
    way = np.repeat(face[None], 200, axis=0)
    way[1:, 66, 1] += 0.01  # so that it is the first frame that the source is
    way[..., 0] += step * np.arange(200, dtype=np.float32)[:, None]
    heard = np.concatenate([audio[4 * 80 : 4 * 120], audio[: 4 * 40]])
    settings = {"piece_frames": 40, "candidates": 1, "blend_frames": blend_frames}
    found = retrieve(face, heard, baselines.bank([(way, audio)]), **settings)
    np.testing.assert_allclose(found[10:40], way[90:120], atol=1e-5)
    np.testing.assert_allclose(found[50:], way[10:40], atol=1e-5)
    gap = 120 * step
    assert 0.5 * gap / blend_frames < fastest(found[35:]) <= np.pi / 2 * gap / blend_frames + step


def test_the_face_stays_the_sources_whoever_moved_it(pairs, strangers):
    motion, audio = pairs[0]
    found = retrieve(motion[0], audio[: 4 * FRAMES], strangers)
    np.testing.assert_allclose(found[0], motion[0], atol=1e-6)

    def unlike_source(faces):
        return rigidity(torch.from_numpy(faces[None, :FRAMES]), torch.from_numpy(motion[:1]))

    assert unlike_source(found) < unlike_source(motion)
    assert unlike_source(found) < min(unlike_source(other) for other, _ in pairs[2:])


def test_a_larger_face_that_stands_elsewhere_moves_the_source_as_if_it_were_its_own(pairs):
    motion, audio = pairs[3]
    moved = (motion * 1.5 + np.float32([0.2, -0.3])).astype(np.float32)
    found = retrieve(motion[0], audio[: 4 * FRAMES], baselines.bank([(moved, audio)]))
    np.testing.assert_allclose(found, motion[:FRAMES], atol=1e-5)


def test_lips_that_were_never_heard_before_still_follow_the_sound(pairs, strangers):
    openings = []
    for motion, audio in pairs[:2]:
        found = retrieve(motion[0], audio[: 4 * FRAMES], strangers)
        openings.append([ibug.mouth_opening(face) for face in (found, motion[:FRAMES])])
    assert np.mean([np.corrcoef(own, true)[0, 1] for own, true in openings]) > 0.5


def test_the_same_input_gives_the_same_motion_in_blocks_of_any_size(pairs, strangers, monkeypatch):
    motion, audio = pairs[0]
    found = [retrieve(motion[0], audio[: 4 * FRAMES], strangers) for _ in range(2)]
    monkeypatch.setattr(baselines, "_BLOCK_FRAMES", 77)
    found.append(retrieve(motion[0], audio[: 4 * FRAMES], strangers))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)


def test_a_sequence_that_pieces_do_not_divide_is_as_long_as_its_sound(pairs, strangers):
    motion, audio = pairs[0]
    for frames in (5, 41, 119):
        assert retrieve(motion[0], audio[: 4 * frames], strangers).shape == (frames, 68, 2)


def test_a_silent_and_motionless_set_moves_nothing(pairs):
    still = np.repeat(pairs[0][0][:1], 60, axis=0), np.full((240, 26), -18, np.float32)
    found = retrieve(pairs[1][0][0], pairs[1][1][: 4 * 50], baselines.bank([still]))
    np.testing.assert_allclose(found, np.repeat(pairs[1][0][:1], 50, axis=0), atol=1e-6)


def test_clips_that_are_shorter_than_a_piece_are_refused(pairs):
    motion, audio = pairs[0]
    short = baselines.bank([(motion[:9], audio[:36])])
    with pytest.raises(ValueError, match="as long as a piece of 10 frames, the longest has 9"):
        retrieve(motion[0], audio[: 4 * FRAMES], short)
    with pytest.raises(ValueError, match="200 frames need 800 audio rows, found 799"):
        baselines.bank([(motion, audio[1:])])
    with pytest.raises(ValueError, match="one training clip or more, found none"):
        baselines.bank([])
