import numpy as np
import pytest
import scipy.linalg
import torch

from mssync.metrics import frechet


class PlainEvaluator:
    """Embeds a window as its middle frame's coordinates."""

    from_mean = False

    def __init__(self, level=0):
        self.level = level

    def embed_motion(self, motion_N5PD):
        return motion_N5PD[:, 2].flatten(1)

    def embed_audio(self, audio_N20M):
        return audio_N20M[:, 10]


@pytest.fixture
def draws():
    return np.random.default_rng(0)


@pytest.fixture
def motions(draws):
    steps = draws.normal(0, 0.002, size=(6, 120, 68, 2))
    return list((0.5 + steps.cumsum(axis=1)).astype(np.float32))


def test_gaussians_of_one_axis_have_the_textbook_distance(draws):
    real = draws.normal(size=(4000, 1))
    real = (real - real.mean()) / real.std(ddof=1)
    distance = frechet.frechet(real, 3 * real + 2).distance
    assert distance == pytest.approx(2**2 + (3 - 1) ** 2)


def test_the_distance_agrees_with_the_matrix_root(draws):
    mix = draws.normal(size=(2, 8, 8))
    real = draws.normal(size=(200, 8)) @ mix[0]
    fake = draws.normal(size=(200, 8)) @ mix[1] + 0.3
    a, b = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    shift = real.mean(axis=0) - fake.mean(axis=0)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = shift @ shift + np.trace(a + b - 2 * root)
    assert frechet.frechet(real, fake).distance == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_samples_than_features(draws):
    few = draws.normal(size=(20, 136))
    assert frechet.frechet(few, few).distance == pytest.approx(0, abs=1e-6)


def test_few_samples_of_many_features_have_the_distance_of_their_covariances(draws):
    real, fake = draws.normal(size=(2, 30, 1100))
    a, b = np.cov(real, rowvar=False), np.cov(1.5 * fake, rowvar=False)
    shift = real.mean(axis=0) - 1.5 * fake.mean(axis=0)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(min=0)).sum()
    expected = shift @ shift + np.trace(a) + np.trace(b) - 2 * shared
    assert frechet.frechet(real, 1.5 * fake).distance == pytest.approx(expected, rel=1e-6)


def test_a_larger_shift_is_a_larger_distance(motions):
    real = frechet.frame_features(motions)
    distances = [
        frechet.frechet(real, frechet.frame_features([m + shift for m in motions])).distance
        for shift in (0.0, 0.01, 0.05)
    ]
    assert distances[0] < distances[1] < distances[2]


def test_a_frozen_face_is_far_from_moving_ones(motions):
    frozen = [np.repeat(motion[:1], len(motion), axis=0) for motion in motions]
    jittered = [motion + np.float32(1e-4) for motion in motions]
    real = frechet.frame_features(motions)
    to_frozen = frechet.frechet(real, frechet.frame_features(frozen)).distance
    to_jittered = frechet.frechet(real, frechet.frame_features(jittered)).distance
    assert to_frozen > 100 * to_jittered


def test_few_samples_are_also_compared_in_the_principal_axes(draws):
    train = draws.normal(size=(500, 10)) * np.array([10, 5] + [0.01] * 8)
    basis = frechet.principal_axes(train, 2)
    real = draws.normal(size=(30, 10))
    fake = real.copy()
    fake[:, 0] += 1
    fake[:, 9] += 50

    result = frechet.frechet(real, fake, basis=basis)
    assert result.n == 30
    assert result.distance == pytest.approx(1 + 50**2)
    assert result.distance_in_axes == pytest.approx(1, rel=0.02)


def test_many_samples_need_no_axes(draws):
    train = draws.normal(size=(1024, 4))
    basis = frechet.principal_axes(train, 2)
    assert frechet.frechet(train, train, basis=basis).distance_in_axes is None


def test_every_sequence_of_120_frames_gives_three_motion_samples(motions):
    assert frechet.frame_features(motions).shape == (720, 136)
    assert frechet.time_features(motions).shape == (18, 136)
    assert frechet.motion_features(motions, PlainEvaluator()).shape == (18, 136)


def test_a_motion_sample_is_the_mean_over_its_36_windows(motions):
    features = frechet.motion_features(motions, PlainEvaluator())
    second = motions[0][40:80].reshape(40, -1)
    assert features[1] == pytest.approx(second[2:38].mean(axis=0), abs=1e-6)


def test_late_frames_weigh_four_times_as_much_as_early_ones():
    motion = np.zeros((40, 68, 2), np.float32)
    early, late = motion.copy(), motion.copy()
    early[0], late[-1] = 1, 1
    early_feature = frechet.time_features([early])[0, 0]
    late_feature = frechet.time_features([late])[0, 0]
    assert late_feature == pytest.approx(4 * early_feature)
    assert frechet.time_features([motion + 1])[0] == pytest.approx(np.ones(136))


def test_systems_of_different_size_are_refused(draws):
    with pytest.raises(ValueError, match="same samples and features"):
        frechet.frechet(draws.normal(size=(20, 3)), draws.normal(size=(21, 3)))


def test_the_evaluator_of_another_level_is_refused(motions):
    with pytest.raises(ValueError, match="level 0, found level 2"):
        frechet.motion_features(motions, PlainEvaluator(level=2))


def test_a_motion_shorter_than_a_window_is_refused(motions):
    with pytest.raises(ValueError, match="no motion has 40 frames"):
        frechet.time_features([motions[0][:39]])


def test_gradients_are_not_kept(motions):
    class Trained(PlainEvaluator):
        weight = torch.nn.Parameter(torch.ones(1))

        def embed_motion(self, motion_N5PD):
            return super().embed_motion(motion_N5PD) * self.weight

    assert frechet.motion_features(motions, Trained()).shape == (18, 136)
