import numpy as np
import pytest

from mssync.landmarks import motion

NOISE = 0.01


def face():
    """68 points spread over 2 x 2 inter-ocular distances of 100 px."""
    points = np.random.default_rng(1).uniform(-100, 100, (68, 2)).astype(np.float32)
    points[36], points[45] = (-50, 0), (50, 0)
    points[62], points[66] = (0, 60), (0, 80)
    return points


def moving(path_TD, *, noise=0.0, seed=0):
    track = face() + 100 * np.asarray(path_TD, np.float32)[:, None]
    rng = np.random.default_rng(seed)
    return (track + 100 * rng.normal(0, noise, track.shape)).astype(np.float32)


def swaying(ticks, *, amplitude=0.3, hz=0.3):
    phase = 2 * np.pi * hz * np.arange(ticks) / 25
    return amplitude * np.stack([np.sin(phase), 0.3 * np.cos(2 * phase)], axis=1)


def nodding(ticks):
    """Nods, and holds still in the second half."""
    path = swaying(ticks, amplitude=0.2, hz=2)
    path[ticks // 2 :] = path[ticks // 2]
    return path


def one_shot(ticks):
    return np.zeros(ticks, bool), np.zeros(ticks, np.int16)


def test_the_mouth_opening_is_in_median_inter_ocular_distances():
    track = np.stack([face()] * 5)
    track[2, 66] = (0, 110)
    track[4, 45] = (20, 0)  # a glance aside changes no other length
    np.testing.assert_allclose(
        motion.mouth_opening(track, np.zeros(len(track), np.int16)),
        [0.2, 0.2, 0.5, 0.2, 0.2],
        atol=1e-6,
    )
    assert motion.mouth_opening(track, np.zeros(len(track), np.int16)).dtype == np.float32


def test_moves_are_those_of_the_centre_and_begin_with_zero():
    track = moving([[0, 0], [0.3, 0.4], [0.3, 0.4], [0.3, 0.5]])
    np.testing.assert_allclose(
        motion.moves(track, np.zeros(len(track), np.int16)), [0, 0.5, 0, 0.1], atol=1e-5
    )
    assert motion.moves(track, np.zeros(len(track), np.int16)).dtype == np.float32


@pytest.mark.parametrize("path", [np.zeros((150, 2)), swaying(150), nodding(150)])
@pytest.mark.parametrize("seed", range(3))
def test_planted_noise_is_recovered_on_still_and_moving_heads(path, seed):
    found = motion.jitter(moving(path, noise=NOISE, seed=seed), *one_shot(150))
    assert found == pytest.approx(NOISE, rel=0.15)


def test_jitter_does_not_depend_on_the_pictures_size():
    track = moving(swaying(150), noise=NOISE)
    assert motion.jitter(10 * track, *one_shot(150)) == pytest.approx(
        motion.jitter(track, *one_shot(150)), rel=1e-4
    )


def test_a_noiseless_head_hardly_jitters():
    assert motion.jitter(moving(swaying(150)), *one_shot(150)) < NOISE / 10


def test_ticks_between_the_frames_of_a_slow_source_look_smoother():
    rng = np.random.default_rng(0)
    frames = face() + 100 * rng.normal(0, NOISE, (90, 68, 2))
    at = np.arange(148) * 15 / 25
    first, share = at.astype(int), (at % 1)[:, None, None]
    ticks = frames[first] * (1 - share) + frames[first + 1] * share
    found = motion.jitter(ticks.astype(np.float32), *one_shot(148))
    assert 0.3 * NOISE < found < 0.5 * NOISE


def test_lost_ticks_and_their_neighbours_do_not_count():
    track = moving(np.zeros((150, 2)), noise=NOISE)
    interpolated, shots = one_shot(150)
    interpolated[40:60] = True
    bad = track.copy()
    bad[40:60] += 1000 * np.random.default_rng(2).normal(size=(20, 1, 2)).astype(np.float32)
    assert motion.jitter(bad, interpolated, shots) == pytest.approx(NOISE, rel=0.15)


def test_a_cut_is_neither_noise_nor_a_move():
    path = np.zeros((150, 2))
    path[75:] = 3
    shots = np.repeat(np.array([0, 1], np.int16), 75)
    track = moving(path, noise=NOISE)
    assert motion.jitter(track, one_shot(150)[0], shots) == pytest.approx(NOISE, rel=0.15)


@pytest.mark.parametrize("ticks", [0, 1, 2, 21])
def test_too_few_ticks_have_no_jitter(ticks):
    assert motion.jitter(moving(np.zeros((ticks, 2)), noise=NOISE), *one_shot(ticks)) == 0
    assert motion.jitter(moving(np.zeros((22, 2)), noise=NOISE), *one_shot(22)) > 0


def test_a_face_that_was_never_seen_has_no_jitter():
    track = moving(np.zeros((150, 2)), noise=NOISE)
    assert motion.jitter(track, np.ones(150, bool), one_shot(150)[1]) == 0


def test_points_that_all_coincide_give_finite_scores():
    track = np.zeros((50, 68, 2), np.float32)
    assert (motion.mouth_opening(track, np.zeros(len(track), np.int16)) == 0).all()
    assert (motion.moves(track, np.zeros(len(track), np.int16)) == 0).all()
    assert motion.jitter(track, *one_shot(50)) == 0


def test_mouth_energy_is_the_spread_over_the_ticks_with_a_face():
    mouth = np.array([0.1, 0.3, 9, 0.1, 0.3], np.float32)
    lost = np.array([False, False, True, False, False])
    assert motion.mouth_energy(mouth, lost) == pytest.approx(0.1)
    assert motion.mouth_energy(mouth, np.ones(5, bool)) == 0
