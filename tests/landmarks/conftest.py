from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import skimage.data


@pytest.fixture(scope="session")
def portrait():
    """A face of about 110 px, and 160 px of what is around it."""
    return skimage.data.astronaut()[0:256, 96:352]


@pytest.fixture(scope="session")
def scene(portrait):
    """A picture of 640 x 360 px with faces on a grey wall: (left, top, side) of each."""

    def paint(*places, wall=120):
        rng = np.random.default_rng(0)
        picture = rng.integers(wall - 10, wall + 10, (360, 640, 3), dtype=np.uint8)
        for left, top, side in places:
            face = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
            shown = picture[top : top + side, left : left + side]
            shown[:] = face[: shown.shape[0], : shown.shape[1]]
        return picture

    return paint


@pytest.fixture
def as_frames():
    """Pictures as frames at 25 a second."""

    def frames(pictures, *, scale=1.0):
        return [
            SimpleNamespace(time_s=k / 25, picture_HWC=picture, scale=scale, interlaced=False)
            for k, picture in enumerate(pictures)
        ]

    return frames
