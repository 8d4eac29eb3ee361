"""The sound of a piece of a clip that begins within its media."""

import av
import numpy as np
import pytest

from mssync.data.dataset import Source
from mssync.errors import InputError
from mssync.stages._gallery import sound
from mssync.stages._scores import Excerpt

FRAMES = 60


@pytest.fixture
def media(tmp_path):
    """A grey picture and noise, both from time 0."""
    path = tmp_path / "a.mkv"
    noise = np.random.default_rng(0).integers(-9000, 9000, (1, FRAMES * 640), np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for _ in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8))
            container.mux(video.encode(picture))
        samples = av.AudioFrame.from_ndarray(noise, layout="mono")
        samples.rate = 16000
        for stream, frame in ((track, samples), (track, None), (video, None)):
            container.mux(stream.encode(frame))
    return path, noise[0] / 32768


def piece(start, frames):
    return Excerpt("a", "p", start, np.zeros((frames, 68, 2)), np.zeros((frames * 4, 26)))


def test_the_gallery_plays_the_sound_of_the_frames_it_shows(media, store):
    path, waveform = media
    source = Source(store.adopt(path), 13)
    found = sound(piece(20, 10), source, store)
    assert np.abs(found - waveform[33 * 640 : 43 * 640]).max() < 1e-3


def test_media_that_are_gone_are_told(store):
    with pytest.raises(InputError, match=r"the sound of a is gone.*make retry"):
        sound(piece(0, 9), Source("0" * 64, 0), store)
