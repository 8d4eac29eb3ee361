import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mssync.audio.features import features, stream_log_mel
from mssync.errors import InputError
from mssync.media import ffmpeg
from mssync.media.recording import measure, record

MEMORY_BYTES = 4_000_000_000


def tone(seconds, rate_hz=16_000, hz=220.0, gain=0.3):
    return (gain * np.sin(np.arange(round(seconds * rate_hz)) * 2 * np.pi * hz / rate_hz)).astype(
        np.float32
    )


def written(path, samples_NC, rate_hz=16_000, **options):
    soundfile.write(path, samples_NC, rate_hz, **options)
    return path


def heard(recording):
    return np.concatenate(list(recording.blocks()))


def test_a_recording_fills_whole_frames_and_is_what_the_file_holds(tmp_path):
    samples = tone(1.01)
    recording = measure(written(tmp_path / "a.flac", samples, subtype="PCM_24"))
    assert (recording.samples, recording.frames) == (16_160, 26)
    waveform = heard(recording)
    assert len(waveform) == 26 * 640
    assert np.abs(waveform[: len(samples)] - samples).max() < 1e-3
    assert not waveform[len(samples) :].any()


def test_streamed_features_are_those_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    samples = tone(3.3, 44_100) * rng.uniform(0, 1, round(3.3 * 44_100)).astype(np.float32) + 0.05
    recording = measure(written(tmp_path / "a.flac", samples, 44_100))
    rows = stream_log_mel(
        recording.blocks(),
        mean=recording.mean,
        peak=recording.peak,
        pre_emphasis=0.97,
        mel_bands=26,
    )
    whole = features(heard(recording), pre_emphasis=0.97, mel_bands=26, mfcc=13).log_mel_AM
    streamed = np.concatenate(list(rows))
    assert streamed.shape == whole.shape == (4 * recording.frames, 26)
    np.testing.assert_allclose(streamed, whole, atol=1e-4)


def test_channels_that_cancel_each_other_are_not_silence(tmp_path):
    samples = tone(1.0)
    recording = measure(written(tmp_path / "a.flac", np.stack([samples, -samples], axis=1)))
    assert recording.channel is not None
    assert np.abs(heard(recording)).max() > 0.25


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak_bytes(seconds):
        recording = measure(written(tmp_path / f"{seconds}.flac", tone(seconds)))
        tracemalloc.start()
        rows = stream_log_mel(
            recording.blocks(), mean=0, peak=recording.peak, pre_emphasis=0.97, mel_bands=26
        )
        count = sum(len(block) for block in rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 100 * seconds
        return peak

    assert peak_bytes(120) < 1.2 * peak_bytes(12)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.wav", "a.aiff", "a.w64"])
def test_any_kind_of_sound_is_read(tmp_path, name):
    recording = record(
        written(tmp_path / name, tone(1.0, 48_000), 48_000), tmp_path, memory_bytes=MEMORY_BYTES
    )
    assert recording.duration_s == pytest.approx(1.0, abs=0.06)  # coders add some padding
    assert np.abs(heard(recording)).max() == pytest.approx(0.3, abs=0.05)


def silent_video(path):
    ffmpeg.encode([np.zeros((16, 16, 3), np.uint8)] * 5, path, fps_hz=25)
    return path


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path, "does not exist: name a file with sound"),
        (lambda path: path.mkdir() or path, "is a folder"),
        (lambda path: path.touch() or path, "Expected a file with sound"),
        (lambda path: path.write_text("a letter") and path, "Expected a file with sound"),
        (silent_video, "there is no audio stream"),
        (lambda path: written(path, np.zeros(16_000), format="WAV"), "is silent: its level is"),
    ],
)
def test_what_holds_no_sound_is_one_message(tmp_path, make, told):
    with pytest.raises(InputError, match=told):
        record(make(tmp_path / "sound.mp4"), tmp_path, memory_bytes=MEMORY_BYTES)


def test_without_ffmpeg_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    ffmpeg.executable.cache_clear()
    with pytest.raises(ffmpeg.ToolError, match=r"there is no ffmpeg.*Install ffmpeg"):
        record(written(tmp_path / "a.wav", tone(1.0)), tmp_path, memory_bytes=MEMORY_BYTES)
    monkeypatch.undo()
    ffmpeg.executable.cache_clear()
    assert Path(ffmpeg.executable()).exists()
