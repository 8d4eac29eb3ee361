import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from mssync.errors import ClipRejectedError
from mssync.media import ffmpeg
from mssync.media.still import read_still

LIMITS = {"max_side_px": 1280, "max_pixels": 9_000_000}


@pytest.fixture
def face():
    return skimage.data.astronaut()[:256, 100:356]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff"])
def test_a_photo_is_read_in_its_colours(face, tmp_path, name):
    Image.fromarray(face).save(tmp_path / name, quality=95)
    frame, time_s = read_still(tmp_path / name, None, **LIMITS)
    assert (frame.picture_HWC.shape, frame.scale, time_s) == ((256, 256, 3), 1.0, 0.0)
    assert np.abs(frame.picture_HWC.astype(int) - face).mean() < 6


def test_a_photo_is_turned_as_its_camera_says_and_made_smaller(face, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    photo = Image.fromarray(np.rot90(face)).resize((512, 512))
    photo.save(tmp_path / "a.jpg", exif=exif, quality=95)
    frame, _ = read_still(tmp_path / "a.jpg", None, max_side_px=256, max_pixels=1)
    assert frame.scale == 2.0
    assert np.abs(frame.picture_HWC.astype(int) - face).mean() < 8


def test_grey_deep_and_transparent_photos_are_read(face, tmp_path):
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    for number, pixels in enumerate([grey, grey.astype(np.uint16) * 257, np.dstack([face, grey])]):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        assert read_still(path, None, **LIMITS)[0].picture_HWC.shape == (256, 256, 3)


def test_a_video_gives_what_it_shows_at_a_time(tmp_path):
    pictures = (np.full((32, 32, 3), 10 * number, np.uint8) for number in range(20))
    ffmpeg.encode(pictures, tmp_path / "a.mp4", fps_hz=25, crf=1)
    for at_s, level in [(None, 0), (0.2, 50), (0.76, 190)]:
        frame, time_s = read_still(tmp_path / "a.mp4", at_s, **LIMITS)
        assert time_s == pytest.approx(at_s or 0.0)
        assert abs(frame.picture_HWC.mean() - level) < 4
    with pytest.raises(ClipRejectedError, match=r"--at 2 is beyond its end: expected 0 to 0.76"):
        read_still(tmp_path / "a.mp4", 2.0, **LIMITS)


@pytest.mark.parametrize(
    ("content", "at_s", "told"),
    [
        (b"\x89PNG\r\n\x1a\n and no more", None, "the photo is damaged"),
        (b"\x89PNG\r\n\x1a\n", 1.0, "--at names a time in a video, this is a photo"),
        (b"\0\0\0\x18ftypheic\0\0", None, "HEIF or AVIF: save it as PNG or JPEG"),
        (b"%PDF-1.7\n\0", None, "a document"),
        (b"", None, "the file is empty"),
    ],
)
def test_what_is_no_picture_says_what_it_is(tmp_path, content, at_s, told):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ClipRejectedError, match=told):
        read_still(tmp_path / "a.png", at_s, **LIMITS)
