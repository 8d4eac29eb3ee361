import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.landmarks import tracks
from mssync.landmarks.detector import Face


def face(x):
    points = np.stack([np.full(68, x), np.arange(68)], axis=1).astype(np.float32)
    return Face(points, 0.9)


def observe(times_s, *, lost=(), cuts=()):
    """A face that moves 100 px a second to the right; shots begin at `cuts`."""
    times_s = np.asarray(times_s, float)
    shots = np.searchsorted(cuts, np.arange(len(times_s)), side="right").astype(np.int16)
    return times_s, shots, [None if i in lost else face(100 * t) for i, t in enumerate(times_s)]


def test_at_25_fps_the_detections_are_kept_as_they_are():
    times_s = np.arange(10) / 25
    track = tracks.track(*observe(times_s), 10)
    np.testing.assert_allclose(track.landmarks_TPD[:, 0, 0], 100 * times_s, atol=1e-5)
    assert not track.interpolated_T.any()
    assert (track.confidence_T > 0.89).all()


@pytest.mark.parametrize("fps", [24, 29.97, 30, 50])
def test_other_rates_are_interpolated_by_timestamp(fps):
    track = tracks.track(*observe(np.arange(int(2 * fps) + 1) / fps), 50)
    np.testing.assert_allclose(track.landmarks_TPD[:, 0, 0], 4 * np.arange(50), atol=1e-3)
    assert not track.interpolated_T.any()


def test_a_variable_rate_is_interpolated_by_timestamp():
    rng = np.random.default_rng(0)
    times_s = np.sort(np.append(rng.uniform(0, 1, 60), [0, 1]))
    track = tracks.track(*observe(times_s), 26)
    np.testing.assert_allclose(track.landmarks_TPD[:, 0, 0], 4 * np.arange(26), atol=1e-3)


def test_a_lost_face_is_interpolated_in_place_and_marked():
    track = tracks.track(*observe(np.arange(10) / 25, lost=(4, 5)), 10)
    assert np.flatnonzero(track.interpolated_T).tolist() == [4, 5]
    np.testing.assert_allclose(track.landmarks_TPD[4:6, 0, 0], [16, 20], atol=1e-4)
    assert (track.confidence_T[4:6] == 0).all()
    assert track.tracked_ratio == 0.8


def test_frames_missing_from_the_file_are_marked_too():
    times_s = np.delete(np.arange(20) / 25, [7, 8, 9, 10])
    track = tracks.track(*observe(times_s), 20)
    assert np.flatnonzero(track.interpolated_T).tolist() == [7, 8, 9, 10]


def test_a_clip_without_a_face_is_rejected():
    with pytest.raises(ClipRejectedError, match="no face in any of 3 frames") as error:
        tracks.track(*observe([0.0, 0.04, 0.08], lost=(0, 1, 2)), 3)
    assert error.value.reason == "no_face"


def test_nothing_is_interpolated_across_a_cut():
    times_s, shots, faces = observe(np.arange(20) / 25, lost=(8, 9, 10), cuts=(10,))
    track = tracks.track(times_s, shots, faces, 20)
    assert track.shot_T.tolist() == [0] * 10 + [1] * 10
    np.testing.assert_allclose(track.landmarks_TPD[8:10, 0, 0], 28, atol=1e-4)  # tick 7's
    np.testing.assert_allclose(track.landmarks_TPD[10, 0, 0], 44, atol=1e-4)  # tick 11's
    assert np.flatnonzero(track.interpolated_T).tolist() == [8, 9, 10]


def test_a_tick_between_two_shots_is_lost():
    times_s, shots, faces = observe([0.0, 0.03, 0.06, 0.09, 0.12], cuts=(2,))
    track = tracks.track(times_s, shots, faces, 4)
    assert np.flatnonzero(track.interpolated_T).tolist() == [1]
    assert track.landmarks_TPD[1, 0, 0] == pytest.approx(3.0)


def test_a_shot_without_a_face_shows_the_one_before_and_is_lost():
    times_s, shots, faces = observe(np.arange(12) / 25, lost=(4, 5, 6, 7), cuts=(4, 8))
    track = tracks.track(times_s, shots, faces, 12)
    assert np.flatnonzero(track.interpolated_T).tolist() == [4, 5, 6, 7]
    np.testing.assert_allclose(track.landmarks_TPD[4:8, 0, 0], 12, atol=1e-4)


def test_twelve_frames_a_second_leave_no_hole():
    track = tracks.track(*observe(np.arange(13) / 12), 26)
    np.testing.assert_allclose(track.landmarks_TPD[:, 0, 0], 4 * np.arange(26), atol=1e-3)
    assert not track.interpolated_T.any()


def test_the_longest_run_is_counted():
    assert tracks.longest_run(np.array([True, False, True, True, False])) == 2
    assert tracks.longest_run(np.zeros(3, bool)) == 0
