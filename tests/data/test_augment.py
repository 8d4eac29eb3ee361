import numpy as np
import pytest
import torch

from mssync import pyramid
from mssync.data.augment import Augmentation, augmentation, uniforms
from mssync.landmarks import ibug


def face(frames=20, low=0.2, high=0.8, seed=0):
    """Random motion whose extent is exactly [low, high] on both axes."""
    motion = np.random.default_rng(seed).uniform(low, high, (frames, 68, 2)).astype(np.float32)
    motion[0, 0], motion[0, 1] = low, high
    return motion


def sound(rows=80, seed=0):
    return np.random.default_rng(seed).normal(-5, 3, (rows, 26)).astype(np.float32)


def change(scale=1.0, shift=(0.0, 0.0), flip=False, gain=0.0):
    return Augmentation(
        scale_N=torch.tensor([scale]),
        shift_ND=torch.tensor([shift]),
        flip_N=torch.tensor([flip]),
        gain_N=torch.tensor([gain]),
    )


def apply(drawn, motion, audio):
    """Arrays in, arrays out; one sample."""
    found = drawn.apply(torch.from_numpy(motion[None]), torch.from_numpy(audio[None]))
    return [tensor[0].numpy() for tensor in found]


def augment(motion, audio, *, audio_range, rng):
    low, high = (torch.from_numpy(bound) for bound in (motion.min((0, 1)), motion.max((0, 1))))
    uniform = torch.from_numpy(uniforms(rng, 1))
    drawn = augmentation(uniform, low[None], high[None], audio_range=audio_range)
    return apply(drawn, motion, audio)


def test_shapes_and_types_stay_and_inputs_too():
    motion, audio = face(), sound()
    motion_before, audio_before = motion.copy(), audio.copy()
    found = augment(motion, audio, audio_range=20.0, rng=np.random.default_rng(0))
    for before, input_, output in zip(
        (motion_before, audio_before), (motion, audio), found, strict=True
    ):
        assert (output.shape, output.dtype) == (input_.shape, np.float32)
        np.testing.assert_array_equal(input_, before)
        assert not np.array_equal(output, input_)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.8), (0.02, 0.98), (-0.3, 0.5), (0.6, 1.2)])
def test_every_point_stays_in_the_crop(low, high):
    for seed in range(200):
        rng = np.random.default_rng(seed)
        motion, _ = augment(face(low=low, high=high), sound(), audio_range=20.0, rng=rng)
        assert motion.min() >= -1e-6
        assert motion.max() <= 1 + 1e-6


def test_a_face_larger_than_the_crop_is_made_no_larger_and_not_shifted():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        motion, _ = augment(face(low=-0.1, high=1.1), sound(), audio_range=20.0, rng=rng)
        assert np.ptp(motion[..., 0]) <= 1.2 * 0.91
        assert motion[..., 1].min() + motion[..., 1].max() == pytest.approx(1.0, abs=1e-5)


def test_draws_cover_their_ranges():
    low, high = torch.full((5000, 2), 0.3), torch.full((5000, 2), 0.7)
    uniform = torch.from_numpy(uniforms(np.random.default_rng(0), 5000))
    drawn = augmentation(uniform, low, high, audio_range=20.0)
    assert drawn.scale_N.min() == pytest.approx(0.9, abs=0.001)
    assert drawn.scale_N.max() == pytest.approx(1.1, abs=0.001)
    assert drawn.gain_N.min() == pytest.approx(-2.0, abs=0.01)
    assert drawn.gain_N.max() == pytest.approx(2.0, abs=0.01)
    assert drawn.flip_N.float().mean() == pytest.approx(0.5, abs=0.03)
    assert drawn.shift_ND.mean(dim=0).abs().max() < 0.02
    assert drawn.shift_ND.max() > 0.25


def test_one_draw_holds_for_the_whole_clip():
    still = np.repeat(face(frames=1), 20, axis=0)
    silence = np.full((80, 26), -5.0, np.float32)
    motion, audio = augment(still, silence, audio_range=20.0, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(motion, np.repeat(motion[:1], 20, axis=0))
    assert np.ptp(audio) == 0


def test_a_gain_changes_no_difference_between_energies():
    audio = sound()
    _, louder = augment(face(), audio, audio_range=20.0, rng=np.random.default_rng(0))
    np.testing.assert_allclose(louder - louder[0, 0], audio - audio[0, 0], atol=1e-5)


def test_flipping_twice_is_nothing():
    motion, audio = face(), sound()
    once, _ = apply(change(flip=True), motion, audio)
    twice, _ = apply(change(flip=True), once, audio)
    np.testing.assert_allclose(twice, motion, atol=1e-6)
    assert not np.allclose(once, motion)


def test_a_flip_swaps_left_and_right_and_keeps_the_mouth_s_opening():
    motion = face()
    flipped, _ = apply(change(flip=True), motion, sound())
    np.testing.assert_allclose(flipped[:, 45, 0], 1 - motion[:, 36, 0], atol=1e-6)
    np.testing.assert_allclose(flipped[:, 45, 1], motion[:, 36, 1], atol=1e-6)
    np.testing.assert_allclose(ibug.mouth_opening(flipped), ibug.mouth_opening(motion), atol=1e-6)


def test_scaling_leaves_the_crop_s_centre_where_it_is():
    centre = np.full((5, 68, 2), 0.5, np.float32)
    scaled, _ = apply(change(scale=1.1), centre, sound())
    np.testing.assert_allclose(scaled, centre, atol=1e-6)
    motion = face()
    scaled, _ = apply(change(scale=1.1), motion, sound())
    assert np.ptp(scaled) == pytest.approx(1.1 * np.ptp(motion), rel=1e-5)


def test_augmenting_a_level_equals_going_down_after_augmenting():
    motion, audio = face(frames=43), sound(rows=172)
    drawn = change(scale=0.93, shift=(0.04, -0.02), flip=True, gain=1.5)
    motion_first, audio_first = apply(drawn, motion, audio)
    down_motion = pyramid.array_at_level(motion, 2)
    down_audio = pyramid.array_at_level(audio, 2)
    motion_last, audio_last = apply(drawn, down_motion, down_audio)
    np.testing.assert_allclose(pyramid.array_at_level(motion_first, 2), motion_last, atol=1e-5)
    np.testing.assert_allclose(pyramid.array_at_level(audio_first, 2), audio_last, atol=1e-4)


def test_the_same_seed_draws_the_same():
    first, again, other = (
        augment(face(), sound(), audio_range=20.0, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
