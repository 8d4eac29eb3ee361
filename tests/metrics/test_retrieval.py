import pytest
import torch

from mssync.metrics.retrieval import accuracy_at_1, wilson_interval


def random(windows, seed):
    return torch.randn(windows, 16, generator=torch.Generator().manual_seed(seed))


def test_motion_that_equals_its_audio_is_always_found():
    motion = random(48, 0)
    accuracy = accuracy_at_1([(motion, motion)])
    assert (accuracy.correct, accuracy.windows, accuracy.value) == (48, 48, 1.0)


def test_motion_of_another_window_is_never_found():
    motion = random(12, 0)
    assert accuracy_at_1([(motion, motion.roll(1, dims=0))]).value == 0.0


def test_unrelated_embeddings_are_found_by_chance():
    groups = [(random(12, 2 * i), random(12, 2 * i + 1)) for i in range(100)]
    accuracy = accuracy_at_1(groups)
    low, high = accuracy.interval
    assert accuracy.chance == pytest.approx(1 / 12)
    assert low < accuracy.chance < high


def test_embeddings_that_collapsed_score_chance():
    same = torch.ones(8, 16)
    assert accuracy_at_1([(same, same)]).value == pytest.approx(1 / 8)


def test_groups_of_different_sizes_weigh_by_their_windows():
    accuracy = accuracy_at_1(
        [(random(4, 0), random(4, 0)), (random(12, 1), random(12, 1).roll(1, 0))]
    )
    assert (accuracy.correct, accuracy.windows) == (4, 16)
    assert accuracy.chance == pytest.approx(2 / 16)


def test_embeddings_that_differ_little_are_told_apart():
    motion = 100 + 1e-3 * random(48, 0)
    assert accuracy_at_1([(motion, motion)]).value == 1.0


@pytest.mark.parametrize("groups", [[], [(torch.ones(1, 4), torch.ones(1, 4))]])
def test_nothing_to_choose_from_is_refused(groups):
    with pytest.raises(ValueError, match="group"):
        accuracy_at_1(groups)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (90, 100, 0.8256, 0.9448),
    ],
)
def test_wilson_s_interval_has_its_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_make_no_proportion_are_refused(successes, trials):
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, trials)
