"""What is said of landmarks whose truth is known."""

import numpy as np
import pytest

from mssync import records
from mssync.demo import accuracy
from mssync.landmarks import ibug
from mssync.params import load
from mssync.stages.extract_landmarks import follow


@pytest.fixture
def truth(corpus):
    return accuracy.true_landmarks(corpus, "speaker_00/clip_0.mp4")


def as_row(landmarks_TPD):
    ticks = len(landmarks_TPD)
    return {
        "landmarks_TPD": landmarks_TPD.astype(np.float32).ravel(),
        "interpolated_T": np.zeros(ticks, np.bool_),
        "shot_T": np.zeros(ticks, np.int16),
    }


def test_the_truth_has_no_error_and_its_own_jitter(truth):
    found = accuracy.measure([(as_row(truth), truth)])
    assert found.error == accuracy.Spread(0.0, 0.0)
    assert found.mouth_correlation == pytest.approx(1.0)
    assert found.jitter == found.true_jitter


def test_errors_are_in_per_cent_of_the_distance_of_the_outer_eye_corners(truth):
    moved = truth.copy()
    moved[:, ibug.JAW, 0] += 0.1 * ibug.interocular_distance(truth)[:, None]
    found = accuracy.measure([(as_row(moved), truth)])
    assert found.regions["jaw"].mean == pytest.approx(10.0, abs=0.01)
    assert found.regions["lips"].mean == 0
    assert found.error.mean == pytest.approx(10.0 * 17 / 68, abs=0.01)
    assert found.error.p95 == pytest.approx(10.0, abs=0.01)


def test_noise_of_one_per_cent_is_a_jitter_of_one_per_cent(truth):
    still = np.repeat(truth[:1], 200, axis=0)
    scale = ibug.interocular_distance(still)[0]
    noise = np.random.default_rng(0).normal(0, 0.01 * scale, still.shape)
    found = accuracy.measure([(as_row(still + noise), truth_of_length(still))])
    assert found.jitter == pytest.approx(1.0, rel=0.15)
    assert found.true_jitter == 0


def truth_of_length(still):
    still = still.copy()
    still[::2, 66, 1] += 1  # a mouth that moves, for its correlation
    return still


def test_landmarks_of_another_length_than_their_truth_are_no_pair(truth):
    with pytest.raises(ValueError, match=f"truth has {len(truth)} ticks, the landmarks have 10"):
        accuracy.measure([(as_row(truth[:10]), truth)])


def test_the_summary_tells_what_the_landmarks_of_the_corpus_are_worth(corpus, root, tmp_path):
    clip = "speaker_01/clip_0.mp4"
    params = load(root / "params.test.yaml").extract_landmarks
    row = follow(corpus / "media" / clip, params=params)
    records.write(
        tmp_path / "part-0.parquet",
        [{"clip_id": clip, "sha256": "0", "content": "0"} | row],
        records.LANDMARKS,
    )
    line = accuracy.summary_line(tmp_path, corpus)
    found = accuracy.measure([(row, accuracy.true_landmarks(corpus, clip))])
    assert line.startswith("Landmarks against the truth, 1 clips, ")
    assert f"error {found.error.mean:.1f}, 95th percentile {found.error.p95:.1f};" in line
    assert 0 < found.error.mean < 5 < found.error.p95 < 15
    assert found.mouth_correlation > 0.9


def test_there_is_nothing_to_say_of_clips_without_truth(corpus, tmp_path):
    assert accuracy.summary_line(tmp_path / "nothing", corpus) == ""
    assert accuracy.true_landmarks(corpus, "https://videos.example/1.mp4") is None
