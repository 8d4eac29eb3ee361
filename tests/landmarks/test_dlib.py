import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from mssync.errors import InputError
from mssync.landmarks import dlib_backend, ibug
from mssync.landmarks.detector import Box
from mssync.landmarks.pose import pose

MODEL = Path(os.environ.get(dlib_backend.MODEL_VARIABLE) or dlib_backend.DEBIAN_MODEL)
needs_library = pytest.mark.skipif(
    not importlib.util.find_spec("dlib"), reason="dlib is not installed: pip install 'mssync[dlib]'"
)
needs_model = pytest.mark.skipif(
    not MODEL.is_file(), reason=f"no dlib model at {MODEL}: apt-get install libdlib-data"
)


@pytest.fixture(scope="module")
def portrait():
    return skimage.data.astronaut()


@pytest.fixture
def backend(tiny):
    with dlib_backend.dlib_backend(tiny.extract_landmarks) as found:
        yield found


@needs_library
@needs_model
def test_the_face_of_a_portrait_is_found_with_a_score(backend, portrait):
    empty = np.zeros((200, 300, 3), np.uint8)
    boxes, none = backend.detect([portrait, empty])
    assert none == []
    assert 0.8 < boxes[0].score < 1
    assert 150 < boxes[0].left < boxes[0].right < 300
    assert 50 < boxes[0].top < boxes[0].bottom < 200
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)


@needs_library
@needs_model
def test_eyes_and_mouth_are_where_mediapipe_sees_them(backend, portrait):
    import mediapipe

    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True) as mesh:
        face = mesh.process(portrait).multi_face_landmarks[0]
    expected = ibug.from_mediapipe(512 * np.array([(p.x, p.y) for p in face.landmark], np.float32))
    box = backend.detect([portrait])[0][0]
    (found,) = backend.landmarker().points([portrait], [box], [[]])
    assert found.confidence == pytest.approx(box.score, abs=0.1)
    assert found.points_PD.dtype == np.float32
    for part in (ibug.RIGHT_EYE, ibug.LEFT_EYE, ibug.OUTER_LIPS, ibug.INNER_LIPS):
        off = np.linalg.norm(found.points_PD[part] - expected[part], axis=-1).mean()
        assert off < 0.05 * ibug.interocular_distance(expected)
    np.testing.assert_allclose(pose(found.points_PD[None]), pose(expected[None]), atol=6)


@needs_library
@needs_model
def test_small_pictures_are_enlarged(backend, portrait):
    small = portrait[30:230:2, 120:320:2]  # the face is 45 px wide
    (boxes,) = backend.detect([small])
    assert len(boxes) == 1
    assert 30 < boxes[0].width < 60


@needs_library
@needs_model
def test_a_face_that_has_left_its_box_is_lost(backend, portrait):
    box = backend.detect([portrait])[0][0]
    covered = portrait.copy()
    covered[: int(box.bottom), 150:300] = 128
    moved = np.roll(portrait, 150, axis=1)
    found = backend.landmarker().points([portrait, covered, moved], [box] * 3, [[]] * 3)
    assert found[0] is not None
    assert found[1:] == [None, None]


@needs_library
@needs_model
def test_a_face_that_moved_a_little_is_still_found(backend, portrait):
    box = backend.detect([portrait])[0][0]
    moved = np.roll(portrait, 8, axis=1)
    here, there = backend.landmarker().points([portrait, moved], [box] * 2, [[]] * 2)
    off = there.points_PD - here.points_PD - [8, 0]
    assert np.abs(off).mean() < 2


@needs_library
@needs_model
def test_boxes_beyond_the_picture_hold_no_face(backend, portrait):
    outside = [
        Box(-400, -300, -300, -200, 0.9),
        Box(-40.5, -30.2, 60.1, 70.7, 0.9),
        Box(-1498, 0, -498, 512, 0.9),  # two pixels of it are inside
        Box(20, 20, 20, 20, 0.9),
    ]
    assert backend.landmarker().points([portrait] * 4, outside, [[]] * 4) == [None] * 4


@needs_library
@needs_model
@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_threshold_of_the_detector_follows_the_parameter(portrait, tiny, confidence):
    params = tiny.extract_landmarks.model_copy(update={"detection_confidence": confidence})
    with dlib_backend.dlib_backend(params) as found:
        (boxes,) = found.detect([portrait])
    assert (len(boxes) > 1) == (confidence == 0)


@needs_library
def test_a_missing_model_says_what_to_install(tmp_path, monkeypatch, tiny):
    monkeypatch.setenv(dlib_backend.MODEL_VARIABLE, str(tmp_path / "none.dat"))
    with (
        pytest.raises(InputError, match=r"none\.dat.*libdlib-data.*commercial.*mediapipe"),
        dlib_backend.dlib_backend(tiny.extract_landmarks),
    ):
        pass


@needs_library
def test_a_file_that_is_no_model_is_refused(tmp_path, monkeypatch, tiny):
    (tmp_path / "model.dat").write_bytes(b"no model")
    monkeypatch.setenv(dlib_backend.MODEL_VARIABLE, str(tmp_path / "model.dat"))
    with (
        pytest.raises(InputError, match=r"model\.dat cannot be read as a model"),
        dlib_backend.dlib_backend(tiny.extract_landmarks),
    ):
        pass


def test_a_missing_library_says_what_to_install(monkeypatch, tiny):
    monkeypatch.setitem(sys.modules, "dlib", None)  # as if it were not installed
    with (
        pytest.raises(InputError, match=r"pip install 'mssync\[dlib\]'.*commercial.*mediapipe"),
        dlib_backend.dlib_backend(tiny.extract_landmarks),
    ):
        pass
