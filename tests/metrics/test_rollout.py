import numpy as np
import pytest

from mssync.metrics import rollout
from tests.metrics.test_sync import ScribeEvaluator, clip, hidden_curve

FRAMES = 1000


def unsteady(pair, seed):
    """Motion that follows its sound as well as real motion does: not quite."""
    motion, audio = pair
    noise = np.random.default_rng(seed).normal(0, 0.5, (len(motion), 1, 1))
    return (motion + noise).astype(np.float32), audio


@pytest.fixture(scope="module")
def real():
    return [unsteady(clip(hidden_curve(seed, 300 + 60)), seed) for seed in range(8)]


@pytest.fixture(scope="module")
def long():
    return [unsteady(clip(hidden_curve(100 + seed, FRAMES + 60)), seed) for seed in range(3)]


def losing_track(pair, per_frame):
    """Motion that is late by ever more of a frame."""
    motion, audio = pair
    late = (np.arange(len(motion)) * (1 - per_frame)).round().astype(int)
    return motion[late], audio


@pytest.mark.parametrize(("level", "blocks"), [(0, 25), (1, 8), (2, 8), (3, 20)])
def test_blocks_are_those_of_the_design_and_reach_a_thousand_frames(long, real, level, blocks):
    curve = rollout.sync_drift(long, real, ScribeEvaluator(level), kernel=7)["lse_d"]
    assert curve.values_NB.shape == (3, blocks)
    assert curve.starts[-1] + curve.block_frames in (960, 1000)
    assert curve.counts.tolist() == [3] * blocks


def test_a_block_is_scored_as_if_it_stood_alone(long):
    motion, audio = long[0]
    whole = rollout.sync_drift(long[:1], [], ScribeEvaluator(), kernel=7)["distance_at_0"]
    alone = rollout.sync_drift([(motion[80:120], audio[320:480])], [], ScribeEvaluator(), kernel=7)[
        "distance_at_0"
    ]
    assert whole.values_NB[0, 2] == alone.values_NB[0, 0]


def test_motion_that_holds_its_track_stays_in_the_real_band(long, real):
    curve = rollout.sync_drift(long, real, ScribeEvaluator(), kernel=7)["distance_at_0"]
    assert curve.outside < 0.3
    change = curve.change(rng=np.random.default_rng(0), resamples=200)
    assert change.n == 3


def test_motion_that_loses_its_track_leaves_the_band_in_the_end(long, real):
    drifting = [losing_track(pair, 0.02) for pair in long]
    curve = rollout.sync_drift(drifting, real, ScribeEvaluator(), kernel=7)["distance_at_0"]
    assert curve.mean[-5:].mean() > 2 * curve.mean[:3].mean()
    assert curve.outside > 0.3
    change = curve.change(rng=np.random.default_rng(0), resamples=200)
    assert change.low > 0


def test_a_shorter_sequence_ends_and_the_count_says_so(long, real):
    short = (long[0][0][:200], long[0][1][:800])
    curve = rollout.sync_drift([*long[1:], short], real, ScribeEvaluator(), kernel=7)["lse_d"]
    assert curve.counts.tolist() == [3] * 5 + [2] * 20
    assert np.isfinite(curve.mean).all()


def face():
    return np.random.default_rng(0).uniform(0.2, 0.8, size=(68, 2)).astype(np.float32)


def test_a_face_that_walks_away_is_ever_farther_from_its_place():
    motion = np.repeat(face()[None], 400, axis=0)
    motion[..., 0] += np.linspace(0, 0.3, 400, dtype=np.float32)[:, None]
    found = rollout.movement_drift([motion], [np.repeat(face()[None], 100, axis=0)])
    assert (np.diff(found["place"].mean) > 0).all()
    assert found["place"].outside == 1
    assert found["shape"].mean == pytest.approx(np.zeros(10), abs=1e-4)
    assert found["head_speed"].mean[3] == pytest.approx(found["head_speed"].mean[5], rel=0.05)


def test_a_face_that_falls_apart_loses_its_shape():
    motion = np.repeat(face()[None], 200, axis=0)
    noise = (
        np.random.default_rng(1).normal(size=motion.shape) * np.linspace(0, 0.1, 200)[:, None, None]
    )
    found = rollout.movement_drift([(motion + noise).astype(np.float32)], [motion])
    assert (np.diff(found["shape"].mean) > 0).all()


def test_sequences_without_a_block_are_refused():
    motion = np.repeat(face()[None], 39, axis=0)
    with pytest.raises(ValueError, match="block of 40 frames"):
        rollout.movement_drift([motion], [])
