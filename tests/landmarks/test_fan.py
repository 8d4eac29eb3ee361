"""The batched face_alignment backend against the package's own per-frame path.

The weights are random, so heat maps are noise; every step is compared on its own, too.
"""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import cv2
import face_alignment
import numpy as np
import pytest
import skimage.data
import torch
from face_alignment import utils
from face_alignment.detection.sfd import sfd_detector
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

from mssync.errors import InputError, ParamsError
from mssync.landmarks import fan, ibug
from mssync.landmarks.detector import Box, open_backend

BOXES = [
    (170.0, 60.0, 282.0, 190.0),
    (150.3, 31.7, 301.9, 204.2),
    (-30.0, -40.5, 90.0, 110.0),  # beyond the picture
    (400.0, 380.0, 560.0, 555.0),
    (3.0, 5.0, 505.0, 508.0),  # made smaller
    (200.0, 100.0, 224.7, 131.1),  # made larger
]


@pytest.fixture(scope="module")
def portrait():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """Random weights of the true networks, under names that carry their digests."""
    folder = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    names = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for start, network, suffix in (("2DFAN4", FAN(4), "pth.tar"), ("s3fd", s3fd(), "pth")):
            if start == "s3fd":
                _see_something(network)
            buffer = io.BytesIO()
            torch.save(network.state_dict(), buffer)
            content = buffer.getvalue()
            names.append(f"{start}-{hashlib.sha256(content).hexdigest()[:10]}.{suffix}")
            (folder / names[-1]).write_bytes(content)
    return folder, names


def _see_something(network):
    """Scores and shifts that differ from place to place, as those of a trained network do."""
    picture = torch.from_numpy(skimage.data.astronaut()[:160, 140:300].astype(np.float32))
    with torch.no_grad():
        outputs = network.eval()(picture.permute(2, 0, 1)[None] - 110)
        heads = [m for name, m in network.named_modules() if name.endswith(("_conf", "_loc"))]
        for head, output in zip(heads, outputs, strict=True):
            for value in head.parameters():
                value /= output.std()
            if len(head.bias) == 2:
                head.bias -= output.mean(dim=(0, 2, 3)) / output.std()


@pytest.fixture
def weights(weights_folder, monkeypatch):
    """The package's own tables point to them, so that it loads them too."""
    folder, names = weights_folder
    monkeypatch.setenv("TORCH_HOME", str(folder.parents[1]))
    table = face_alignment.api.models_urls
    monkeypatch.setitem(table, "2DFAN-4", f"http://127.0.0.1:9/{names[0]}")
    monkeypatch.setitem(sfd_detector.models_urls, "s3fd", f"http://127.0.0.1:9/{names[1]}")


@pytest.fixture
def params(tiny):
    return tiny.extract_landmarks.model_copy(
        update={
            "backend": "face_alignment",
            "fan_subpixel": False,
            "fan_flip": False,
            "fan_batch": 2,
            "detection_confidence": 0.5,
            "tracking_confidence": 0.0,
        }
    )


def package(*, flip=False, least=0.5):
    return face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D,
        device="cpu",
        flip_input=flip,
        compile=False,
        face_detector_kwargs={"filter_threshold": least},
    )


def places(box):
    """Centre and scale of a crop, as the package computes them from a box."""
    left, top, right, bottom = box
    centre = np.array([right - (right - left) / 2.0, bottom - (bottom - top) / 2.0])
    centre[1] -= (bottom - top) * utils.CENTER_Y_OFFSET
    return centre, (right - left + bottom - top) / utils.REFERENCE_SCALE


def random_boxes(count):
    chance = np.random.default_rng(0)
    start, size = chance.uniform(-60, 380, (count, 2)), chance.uniform(20, 300, (count, 2))
    start[::2], size[::2] = start[::2].round(), size[::2].round()
    return np.concatenate([start, start + size], axis=1)


def test_crops_are_equal_to_the_package_s_to_the_last_bit(portrait):
    boxes = np.concatenate([BOXES, random_boxes(60)])
    crops = fan.place(boxes)
    own = fan.cut(
        torch.from_numpy(portrait).expand(len(boxes), *portrait.shape), crops.corners_NB
    ).numpy()
    for box, crop in zip(boxes, own, strict=True):
        centre, scale = places(box)
        theirs = utils.crop(portrait, centre, scale).transpose(2, 0, 1)
        np.testing.assert_array_equal(crop, theirs, err_msg=str(box))


@pytest.mark.parametrize("side", [1, 2, 100, 255, 256, 257, 512, 1024])
def test_a_resized_crop_is_opencv_s(side):
    picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    own = fan.cut(torch.from_numpy(picture)[None], np.array([[0, 0, side, side]]))[0]
    np.testing.assert_array_equal(
        own.permute(1, 2, 0).numpy(), cv2.resize(picture, (256, 256), interpolation=1)
    )


def test_a_crop_outside_the_picture_is_black(portrait):
    outside = np.array([[-400, -300, -100, 0], [600, 20, 601, 21]])
    cut = fan.cut(torch.from_numpy(portrait).expand(2, *portrait.shape), outside)
    assert not cut.any()


def test_heat_maps_are_decoded_as_the_package_does():
    maps = torch.rand(4, 68, 64, 64, generator=torch.Generator().manual_seed(0))
    maps[0, :10] = 0  # a tie
    maps[1, 0, 0, 0] = maps[1, 1, 63, 63] = maps[1, 2, 0, 30] = maps[1, 3, 40, 63] = 2  # borders
    boxes = random_boxes(4)
    found = fan.decode(maps, subpixel=False).numpy()
    points = fan.place(boxes).to_picture(found[..., :2], whole_px=True)
    for index, box in enumerate(boxes):
        _, theirs, scores = utils.get_preds_fromhm(
            maps[index : index + 1].numpy().copy(), *places(box)
        )
        np.testing.assert_array_equal(points[index], theirs[0])
        np.testing.assert_array_equal(found[index, :, 2], scores[0])


@pytest.mark.parametrize("sigma", [1.0, 1.75, 2.0])
def test_a_subpixel_peak_is_found_between_the_cells(sigma):
    truth = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(1)) * 50 + 7
    maps = gaussians(truth, sigma)
    found = fan.decode(maps, subpixel=True)[..., :2]
    quarters = fan.decode(maps, subpixel=False)[..., :2]
    assert (found - truth).abs().max() < 0.01
    assert (quarters - truth).abs().max() > 0.2


def test_a_symmetric_peak_is_not_drawn_inwards_by_the_border():
    truth = torch.tensor([[[0.5, 0.5], [1.5, 20.5], [63.5, 31.5], [30.5, 62.5]]])
    torch.testing.assert_close(
        fan.decode(gaussians(truth, 1.75), subpixel=True)[..., :2], truth, atol=1e-4, rtol=0
    )


def test_noise_does_not_carry_a_point_away_from_its_peak():
    maps = torch.randn(2, 68, 64, 64, generator=torch.Generator().manual_seed(2)) - 3
    maps[0, 0] = -1
    found = fan.decode(maps, subpixel=True)
    whole = maps.flatten(2).argmax(dim=-1)
    cells = torch.stack([whole % 64, whole // 64], dim=-1) + 0.5
    assert ((found[..., :2] - cells).abs() <= 1).all()


def test_points_between_pixels_count_from_the_picture_s_corner():
    crops = fan.place(np.array([BOXES[0]]))
    left, top, right, bottom = crops.corners_NB[0]
    corners = np.array([[[0, 0], [64, 64]]], np.float32)
    np.testing.assert_allclose(
        crops.to_picture(corners, whole_px=False)[0], [[left, top], [right, bottom]]
    )
    middle = np.full((1, 1, 2), 32, np.float32)
    exact = crops.to_picture(middle, whole_px=False)
    assert np.abs(exact - crops.to_picture(middle, whole_px=True)).max() < 1.5


def test_the_mirrored_points_are_the_package_s():
    maps = torch.arange(68)[:, None, None].expand(68, 4, 4)
    np.testing.assert_array_equal(utils.shuffle_lr(maps)[:, 0, 0].numpy(), ibug.FLIP)


@pytest.mark.parametrize("flip", [False, True])
def test_points_equal_the_package_s_own_path_over_several_clips(weights, params, portrait, flip):
    theirs, mirrored = package(flip=flip), portrait[::-1, ::-1].copy()[:400]
    clips = {"one": (portrait, BOXES[:2]), "other": (mirrored, BOXES[2:4])}
    if flip:
        clips = {"one": (portrait, BOXES[:1])}

    def follow(picture, boxes):
        asked = [Box(*box, 1.0) for box in boxes]
        return backend.landmarker().points([picture] * len(boxes), asked, [[]] * len(boxes))

    changed = params.model_copy(update={"fan_flip": flip})
    with open_backend(changed, device="cpu") as backend, ThreadPoolExecutor(2) as threads:
        assert backend.shared
        answers = threads.map(follow, *zip(*clips.values(), strict=True))
        for (picture, boxes), faces in zip(clips.values(), answers, strict=True):
            for box, face in zip(boxes, faces, strict=True):
                points, scores, _ = theirs.get_landmarks_from_image(
                    picture, detected_faces=[np.array([*box, 1.0])], return_landmark_score=True
                )
                assert np.abs(face.points_PD - points[0]).max() <= 0.1
                peaks = scores[0] / (2 if flip else 1)
                assert face.confidence == pytest.approx(np.clip(peaks, 0, 1).mean(), abs=1e-4)


def test_faces_are_found_where_the_package_finds_them(weights, params, portrait):
    pictures = [portrait[:160, 140:300], portrait[20:180, 100:260], portrait[:96, 150:278]]
    theirs = package()
    with open_backend(params, device="cpu") as backend:
        found = backend.detect([*pictures, portrait[:31, :200]])
    assert found[-1] == []
    for picture, faces in zip(pictures, found[:-1], strict=True):
        wanted = np.array(theirs.face_detector.detect_from_image(picture))
        assert 2 < len(wanted) == len(faces)
        own = np.array([(face.left, face.top, face.right, face.bottom) for face in faces])
        assert np.abs(own - wanted[:, :4]).max() <= 0.1
        np.testing.assert_allclose([face.score for face in faces], wanted[:, 4], atol=1e-4)


def test_pictures_of_one_size_share_a_pass(weights_folder, portrait):
    folder, names = weights_folder
    network = s3fd().eval()
    network.load_state_dict(torch.load(folder / names[1], weights_only=True))
    pictures = [portrait[start : start + 128, 140:268] for start in (0, 20, 40)]
    batches = []

    def counted(pixels):
        batches.append(len(pixels))
        return network(pixels)

    with torch.inference_mode():
        together = fan.find_boxes(counted, torch.from_numpy(np.stack(pictures)), least_score=0.5)
        alone = [
            fan.find_boxes(network, torch.from_numpy(picture)[None], least_score=0.5)[0]
            for picture in pictures
        ]
    assert batches == [3]
    assert min(map(len, alone)) > 2
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)


def test_a_face_with_low_peaks_is_not_there(weights, params, portrait):
    strict = params.model_copy(update={"tracking_confidence": 1.0})
    with open_backend(strict, device="cpu") as backend:
        landmarker = backend.landmarker()
        assert landmarker.points([], [], []) == []
        black = np.zeros_like(portrait)
        assert landmarker.points([black], [Box(*BOXES[0], 1.0)], [[]]) == [None]


def test_missing_weights_are_told_without_asking_the_network(tmp_path, monkeypatch, params):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with (
        pytest.raises(InputError, match=r"2DFAN4-11f355bf06.pth.tar is missing") as error,
        open_backend(params, device="cpu"),
    ):
        pass
    assert "s3fd-619a316812.pth is missing" in str(error.value)
    assert "https://www.adrianbulat.com/" in str(error.value)
    assert str(tmp_path / "hub" / "checkpoints") in str(error.value)
    assert "mediapipe needs no weights" in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_cuda_device_is_refused(weights, params):
    with (
        pytest.raises(ParamsError, match=r"run\.device is cuda"),
        open_backend(params, device="cuda"),
    ):
        pass


def test_the_log_says_that_a_cpu_is_slow(weights, params, caplog):
    with open_backend(params, device="auto" if not torch.cuda.is_available() else "cpu"):
        pass
    assert "runs on the CPU, about 100 times slower" in caplog.text


def gaussians(centres_NPD, sigma):
    """Peaks of height 1 at positions in cells."""
    middles = torch.arange(64) + 0.5
    x = (middles - centres_NPD[..., 0, None]).square()
    y = (middles - centres_NPD[..., 1, None]).square()
    return torch.exp((x[..., None, :] + y[..., :, None]) / (-2 * sigma**2))
