"""Drawn faces and the networks that compare them, with weights that the tests make."""

import numpy as np
import pytest
import torch
from torch import nn

from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.metrics import inception, rendered
from mssync.metrics.frechet import frechet
from mssync.metrics.i3d import I3d
from tests.networks import TinyVideoNet, save_inception, save_script

CPU = torch.device("cpu")


class OneArgument(nn.Module):
    def forward(self, x: torch.Tensor):
        return x.mean(dim=[2, 3, 4])


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    return save_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="module")
def pictures(inception_file):
    return inception.load(inception_file, CPU)


@pytest.fixture
def videos(tmp_path):
    return I3d(save_script(TinyVideoNet(), tmp_path / "i3d.pt"), CPU)


@pytest.fixture(scope="module")
def motions():
    rng = np.random.default_rng(0)
    face = rng.uniform(0.3, 0.7, (68, 2))
    steps = rng.normal(0, 0.004, (2, 80, 1, 2)).cumsum(axis=1)
    return list((face + steps).astype(np.float32))


def disturbed(motions, spread):
    rng = np.random.default_rng(1)
    return [(motion + rng.normal(0, spread, motion.shape)).astype(np.float32) for motion in motions]


def test_a_face_is_a_pixel_a_point_in_the_channel_of_its_part():
    face = np.full((1, ibug.POINTS, 2), 0.5, np.float32)
    face[0, 0], face[0, 30], face[0, 60] = (0.25, 0.75), (0.0, 1.0), (-3.0, 7.0)
    drawn = rendered.draw(face)
    assert drawn.shape == (3, 1, 224, 224)
    lit = [set(map(tuple, channel[0].nonzero().tolist())) for channel in drawn]
    middle, edge = (112, 112), (221, 0)
    assert lit == [{(168, 56), middle}, {edge, middle}, {edge, middle}]


def test_the_network_has_the_size_of_the_published_one(pictures):
    # 21,802,784 of Keras' InceptionV3 without its top, less the moving means and variances of
    # 17,216 channels, which torch counts as buffers, and with their scales, which Keras leaves out.
    own = sum(each.numel() for each in pictures.parameters())
    assert own == 21_802_784 - 2 * 17_216 + 17_216
    assert pictures(torch.zeros(1, 3, 64, 80)).shape == (1, 2048)


@pytest.mark.parametrize("distance", ["fid", "t_fid", "fvd"])
def test_more_noise_is_farther_and_none_is_at_no_distance(distance, motions, pictures, videos):
    extract = {
        "fid": lambda given: rendered.frame_features(given, pictures, CPU, every_frames=40),
        "t_fid": lambda given: rendered.time_features(given, pictures, CPU),
        "fvd": lambda given: rendered.video_features(given, videos, CPU),
    }[distance]
    real = extract(motions)
    assert len(real) == 4
    some, much = (frechet(real, extract(disturbed(motions, each))) for each in (0.004, 0.08))
    assert frechet(real, real).distance < 1e-6 * some.distance
    assert 0 < some.distance < much.distance


def test_fid_looks_at_as_many_frames_as_it_is_asked_to(motions, videos):
    seen = []

    def network(batch):
        seen.append(len(batch))
        return batch.flatten(1)[:, :5]

    rendered.frame_features(motions, network, CPU, every_frames=10)
    assert sum(seen) == 2 * 2 * 4


def test_missing_weights_are_told_with_their_source_and_their_option(tmp_path):
    for load, option, source in (
        (inception.load, "--inception", "pytorch-fid/releases"),
        (I3d, "--i3d", "fvd-comparison"),
    ):
        with pytest.raises(InputError, match=f"(?s){source}.*{option}"):
            load(tmp_path / "nowhere.pt", CPU)


def changed(state, what):
    if what == "classes":
        return state | {"fc.weight": torch.zeros(1000, 2048)}
    if what == "shape":
        return state | {"Mixed_6a.branch3x3.conv.weight": torch.zeros(3, 3)}
    if what == "key":
        return {name: value for name, value in state.items() if not name.startswith("Mixed_5b")}
    return {"weights": state}


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("classes", r"fc.weight should be \(1008, 2048\), found \(1000, 2048\).*Torchvision"),
        ("shape", r"Mixed_6a.branch3x3.conv.weight should be \(384, 288, 3, 3\), found \(3, 3\)"),
        ("key", r"lacks 35 of \d+ tensors, first Mixed_5b.branch1x1.conv.weight"),
        ("nested", "is no state dict: expected Inception-v3 as pytorch-fid publishes it"),
    ],
)
def test_other_weights_are_refused_by_the_tensor_that_differs(inception_file, tmp_path, what, told):
    state = torch.load(inception_file, weights_only=True)
    file = tmp_path / "other.pth"
    torch.save(changed(state, what), file)
    with pytest.raises(InputError, match=told):
        inception.load(file, CPU)


def test_a_pickle_is_not_run(tmp_path):
    file, trace = tmp_path / "evil.pth", tmp_path / "trace"

    class Evil:
        def __reduce__(self):
            return trace.touch, ()

    torch.save({"fc.weight": Evil()}, file)
    with pytest.raises(InputError, match="cannot be read as weights"):
        inception.load(file, CPU)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (OneArgument(), "takes no rescale"),
        (TinyVideoNet(7), r"gives \(4, 7\): expected the TorchScript"),
    ],
)
def test_another_video_network_is_refused(tmp_path, motions, network, told):
    file = save_script(network, tmp_path / "other.pt")
    with pytest.raises(InputError, match=told):
        rendered.video_features(motions, I3d(file, CPU), CPU)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    file = tmp_path / "noise.pt"
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as TorchScript"):
        I3d(file, CPU)
    with pytest.raises(InputError, match="cannot be read as weights"):
        inception.load(file, CPU)
