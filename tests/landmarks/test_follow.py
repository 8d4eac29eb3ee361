import numpy as np
import pytest

from mssync.landmarks.detector import open_backend
from mssync.landmarks.follow import follow


@pytest.fixture
def followed(tiny, as_frames):
    def run(pictures, *, scale=1.0, **changed):
        params = tiny.extract_landmarks.model_copy(update=changed)
        with open_backend(params, device="cpu") as backend:
            return follow(as_frames(pictures, scale=scale), backend, params)

    return run


def middle(face):
    return face.points_PD.mean(axis=0)


def test_a_face_that_moves_is_found_on_every_frame(followed, scene):
    lefts = range(40, 340, 5)
    seen = followed([scene((left, 60, 240)) for left in lefts])
    assert all(seen.faces)
    moved = np.array([middle(face)[0] for face in seen.faces])
    np.testing.assert_allclose(np.diff(moved), 5, atol=2.5)
    np.testing.assert_allclose(moved - moved[0], np.array(lefts) - lefts[0], atol=4)
    assert (seen.shot_N == 0).all()
    assert seen.most_faces == 1


def test_the_widest_face_is_followed_whichever_comes_first(followed, scene):
    small_first = [scene((20, 40, 160))] * 6 + [scene((20, 40, 160), (340, 40, 280))] * 30
    seen = followed(small_first)
    assert middle(seen.faces[30])[0] > 340
    assert seen.faces[0] is None  # the wide one was not there yet
    assert seen.rivalled >= 5
    assert seen.most_faces == 2
    assert 0 <= seen.rival_mouth_energy < 5


def test_two_faces_are_never_mixed(followed, scene):
    rng = np.random.default_rng(1)
    pictures = [
        scene((20 + int(rng.integers(0, 6)), 40, 230), (330 + int(rng.integers(0, 6)), 60, 250))
        for _ in range(40)
    ]
    seen = followed(pictures)
    places = [middle(face)[0] for face in seen.faces if face]
    assert len(places) >= 36
    assert min(places) > 320


def test_with_one_face_at_a_time_the_first_wide_one_is_kept(followed, scene):
    pictures = [scene((20, 40, 220))] * 10 + [scene((20, 40, 220), (330, 40, 280))] * 10
    seen = followed(pictures, max_faces=1)
    assert all(middle(face)[0] < 320 for face in seen.faces if face)


def test_a_face_that_goes_and_comes_back_is_the_same(followed, scene):
    pictures = [scene((100, 60, 240))] * 12 + [scene()] * 8 + [scene((130, 60, 240))] * 12
    seen = followed(pictures)
    found = [face is not None for face in seen.faces]
    assert all(found[:12])
    assert not any(found[12:20])
    assert sum(found[20:]) >= 7  # searched on every fifth frame


def test_a_cut_begins_a_shot_with_a_face_of_its_own(followed, scene):
    pictures = [scene((20, 60, 240), wall=60)] * 30 + [scene((340, 60, 280), wall=220)] * 30
    seen = followed(pictures)
    assert seen.shot_N.tolist() == [0] * 30 + [1] * 30
    assert all(seen.faces)
    assert middle(seen.faces[29])[0] < 280 < 340 < middle(seen.faces[30])[0]


def test_a_small_face_in_a_wide_picture_is_found(followed, scene):
    seen = followed([scene((500, 40, 90))] * 10)
    assert all(seen.faces)
    assert all(middle(face)[0] > 500 for face in seen.faces)


def test_points_are_in_pixels_at_full_size(followed, scene):
    pictures = [scene((100, 60, 240))] * 6
    once, twice = followed(pictures), followed(pictures, scale=2.0)
    np.testing.assert_allclose(twice.faces[5].points_PD, 2 * once.faces[5].points_PD, rtol=1e-5)


def test_the_result_does_not_depend_on_the_clip_before(followed, scene):
    pictures = [scene((60 + 3 * k, 60, 240)) for k in range(12)]
    alone = followed(pictures)
    followed([scene((340, 60, 280))] * 12)
    again = followed(pictures)
    for one, other in zip(alone.faces, again.faces, strict=True):
        np.testing.assert_array_equal(one.points_PD, other.points_PD)


def test_a_long_clip_is_followed_across_windows(followed, scene):
    pictures = [scene((40 + 2 * k, 60, 240)) for k in range(130)]
    seen = followed(pictures)
    assert all(seen.faces)
    assert len(seen.times_s) == 130
    steps = np.diff([middle(face)[0] for face in seen.faces])
    np.testing.assert_allclose(steps, 2, atol=2)


def test_repeated_frames_are_counted(followed, scene):
    one, other = scene((100, 60, 240)), scene((108, 60, 240))
    seen = followed([one, one, other, other, one, one])
    assert seen.repeated == 3


def test_nothing_to_see_is_nothing_found(followed, scene):
    seen = followed([scene()] * 7)
    assert seen.faces == [None] * 7
    assert seen.searched == 0
