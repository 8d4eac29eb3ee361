import numpy as np
import pytest
import skimage.data
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

from mssync.errors import InputError
from mssync.landmarks import detector, face_alignment_backend, ibug


@pytest.fixture
def portrait():
    return skimage.data.astronaut()


def test_mediapipe_finds_the_face_of_a_portrait(portrait, tiny):
    params = tiny.extract_landmarks
    with detector.factory("mediapipe")(params) as found:
        detection = found.detect(portrait)
    assert detection.faces == 1
    assert detection.confidence > 0.7
    points = detection.points_PD
    assert points.shape == (68, 2)
    assert (points.min(axis=0) > [150, 20]).all()
    assert (points.max(axis=0) < [300, 220]).all()


def test_the_map_puts_every_feature_in_its_place(portrait, tiny):
    with detector.factory("mediapipe")(tiny.extract_landmarks) as found:
        points = found.detect(portrait).points_PD
    centre = {name: points[list(line)].mean(axis=0) for name, (line, _) in ibug.POLYLINES.items()}
    assert centre["right_brow"][1] < centre["right_eye"][1] < centre["nostrils"][1]
    assert centre["nostrils"][1] < centre["inner_lips"][1] < points[8, 1]
    assert centre["right_eye"][0] < centre["nose_bridge"][0] < centre["left_eye"][0]
    assert points[0, 0] < points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]
    assert points[45, 0] < points[16, 0]
    assert 3 < ibug.mouth_opening(points) < 15  # a smile shows teeth


def test_an_empty_picture_shows_no_face(tiny):
    with detector.factory("mediapipe")(tiny.extract_landmarks) as found:
        assert found.detect(np.zeros((128, 128, 3), np.uint8)) is None


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="no landmark backend is called 'dlib'"):
        detector.factory("dlib")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights of the true networks, of no use but to be loaded and run."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, network in zip(face_alignment_backend.WEIGHTS, (FAN(4), s3fd()), strict=True):
            torch.save(network.state_dict(), folder / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    face_alignment_backend._network.cache_clear()
    yield
    face_alignment_backend._network.cache_clear()


def test_face_alignment_loads_weights_and_runs_both_networks(weights, tiny):
    params = tiny.extract_landmarks.model_copy(update={"detection_confidence": 0.0})
    picture = skimage.data.astronaut()[:128, 150:278]
    with detector.factory("face-alignment")(params) as found:
        points = found._network.get_landmarks_from_image(
            picture, detected_faces=[[10.0, 10.0, 110.0, 110.0, 1.0]]
        )
        detection = found.detect(picture)
    assert np.asarray(points[0]).shape == (68, 2)
    assert detection is None or detection.points_PD.shape == (68, 2)


def test_missing_face_alignment_weights_say_where_to_put_them(tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # whatever the network, no download
    face_alignment_backend._network.cache_clear()
    with (
        pytest.raises(InputError, match=r"2DFAN4-11f355bf06\.pth\.tar .* TORCH_HOME"),
        detector.factory("face-alignment")(tiny.extract_landmarks),
    ):
        pass
