"""Sound on the video's clock, whatever its channels, streams and timestamps."""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from mssync.errors import ClipRejectedError
from mssync.media import decode, ffmpeg
from mssync.media.sound import read_sound

RATE_HZ = 16_000


@pytest.fixture
def clip(tmp_path):
    """A video of two seconds with the given streams of sound.

    A stream is (C, N) samples, or pieces of them with the time at which they are said to begin.
    """

    def make(*streams, rate_hz=RATE_HZ, codec="pcm_f32le", layout="stereo", name="clip.mkv"):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video = container.add_stream("mpeg4", rate=25, width=64, height=48)
            tracks = [container.add_stream(codec, rate=rate_hz, layout=layout) for _ in streams]
            for _ in range(50):
                container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
            container.mux(video.encode())
            for track, stream in zip(tracks, streams, strict=True):
                pieces = stream if isinstance(stream, list) else [(0.0, stream)]
                for time_s, samples_CN in pieces:
                    packed = np.ascontiguousarray(samples_CN.T, np.float32).reshape(1, -1)
                    frame = av.AudioFrame.from_ndarray(packed, "flt", layout)
                    frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                    for packet in track.encode(frame):
                        packet.pts = packet.dts = round(time_s / packet.time_base)
                        container.mux(packet)
        return path

    return make


def run(*options):
    command = [ffmpeg.executable(), "-y", "-v", "error", *map(str, options)]
    subprocess.run(command, check=True)


def read(path):
    return read_sound(path, decode.read_clock(path))


def tone(seconds=2.0, hz=440, loud=0.5):
    return loud * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)


def clicks(seconds, *, every_s=0.5):
    """One sample each, mono as stereo."""
    samples = np.zeros((2, round(seconds * RATE_HZ)))
    samples[:, :: round(every_s * RATE_HZ)] = 0.9
    return samples


def found_s(waveform_N):
    return np.flatnonzero(np.abs(waveform_N) > 0.4) / RATE_HZ


def pieces(samples_CN, times_s):
    """Pieces of 20 ms, said to begin at these times."""
    parts = np.split(samples_CN, np.arange(320, samples_CN.shape[1], 320), axis=1)
    return list(zip(times_s, parts, strict=False))


def test_equal_channels_and_silent_ones_are_averaged(clip):
    both, one = tone(), np.zeros(2 * RATE_HZ)
    np.testing.assert_allclose(read(clip(np.stack([both, both]))).waveform_N, both, atol=1e-3)
    np.testing.assert_allclose(read(clip(np.stack([both, one]))).waveform_N, both / 2, atol=1e-3)


@pytest.mark.parametrize("second", [-1.0, -0.9])
def test_channels_that_cancel_each_other_do_not_silence_the_sound(clip, second):
    first = tone()
    found = read(clip(np.stack([first, second * first])))
    np.testing.assert_allclose(found.waveform_N, first, atol=1e-3)


def test_channels_that_differ_are_averaged_though_some_cancels(clip):
    first, other = tone(hz=440), tone(hz=300)
    found = read(clip(np.stack([first + other, other - first]) / 2))
    np.testing.assert_allclose(found.waveform_N, other / 2, atol=1e-3)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f64le"])
def test_full_scale_is_one_in_every_format(clip, codec):
    found = read(clip(np.stack([tone(loud=0.9)] * 2), codec=codec)).waveform_N
    np.testing.assert_allclose(found, tone(loud=0.9), atol=0.02)


def test_a_silent_stream_is_passed_over(clip):
    silent, heard = np.zeros((2, 2 * RATE_HZ)), np.stack([tone()] * 2)
    found = read(clip(silent, silent + 2e-5, heard, heard / 2))
    assert (found.tracks, found.track) == (4, 2)
    np.testing.assert_allclose(found.waveform_N, tone(), atol=1e-3)


def test_of_several_streams_that_are_heard_the_first_is_taken(clip):
    quiet, loud = np.stack([tone(loud=0.01)] * 2), np.stack([tone()] * 2)
    found = read(clip(quiet, loud))
    assert (found.tracks, found.track) == (2, 0)


def test_silence_alone_is_silence(clip):
    silent = np.zeros((2, 2 * RATE_HZ))
    found = read(clip(silent, silent))
    assert (found.tracks, found.track) == (2, 0)
    assert not found.waveform_N.any()
    assert len(found.waveform_N) == 50 * 640


def test_what_is_no_number_is_silence(clip):
    broken = np.stack([tone()] * 2)
    broken[:, 5000], broken[:, 6000], broken[:, 7000] = np.nan, np.inf, 1e30
    found = read(clip(broken)).waveform_N
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 20
    np.testing.assert_allclose(found[8000:], tone()[8000:], atol=1e-3)


def test_sound_stays_where_it_is_when_some_is_missing(clip):
    samples, times_s = clicks(2), np.arange(100) * 0.02
    kept = [piece for piece in pieces(samples, times_s) if not 0.6 < piece[0] < 0.9]
    found = read(clip(kept))
    np.testing.assert_allclose(found_s(found.waveform_N), [0, 0.5, 1, 1.5], atol=1e-3)
    assert not found.waveform_N[round(0.63 * RATE_HZ) : round(0.87 * RATE_HZ)].any()


@pytest.mark.parametrize("speed", [0.98, 0.998, 1.002, 1.02])
def test_a_clock_of_its_own_does_not_carry_the_sound_away(clip, speed):
    samples = np.roll(clicks(2), RATE_HZ // 4)
    found = read(clip(pieces(samples, np.arange(100) * 0.02 * speed)))
    heard_s = found_s(found.waveform_N)
    for time_s in np.array([0.25, 0.75, 1.25, 1.75]) * speed:
        assert np.abs(heard_s - time_s).min() <= 0.0125


@pytest.mark.parametrize("seed", range(3))
def test_timestamps_that_stagger_leave_the_sound_whole(clip, seed):
    late_s = np.random.default_rng(seed).uniform(-0.02, 0.02, 100)
    times_s = np.maximum.accumulate(np.maximum(0, np.arange(100) * 0.02 + late_s))
    sound = np.random.default_rng(seed).uniform(-0.5, 0.5, 2 * RATE_HZ)
    found = read(clip(pieces(np.stack([sound] * 2), times_s))).waveform_N
    lag = round(RATE_HZ * 0.01)
    likeness = np.correlate(found, sound[lag:-lag], "valid") / np.square(sound[lag:-lag]).sum()
    assert likeness.max() > 0.99  # in one piece, at most a hundredth of a second early or late


def test_sound_that_goes_on_after_the_picture_ends_where_its_packets_end(clip):
    length_s = 60
    found = read(clip(pieces(clicks(length_s), np.arange(50 * length_s) * 0.02)))
    assert found.end_s == pytest.approx(length_s, abs=1e-3)
    assert len(found.waveform_N) == 50 * 640
    np.testing.assert_allclose(found_s(found.waveform_N), [0, 0.5, 1, 1.5], atol=1e-3)


def test_sound_that_is_over_before_or_begins_after_the_picture_is_silence_under_it(tmp_path):
    for late_s in (-20, 20):
        path = tmp_path / "clip.mkv"
        inputs = ["-f", "lavfi", "-itsoffset", str(20 + late_s), "-i", "sine=d=3"]
        inputs += ["-f", "lavfi", "-itsoffset", "20", "-i", "color=red:s=64x48:r=25:d=2"]
        run(*inputs, "-c:a", "pcm_s16le", str(path))
        found = read(path)
        assert not found.waveform_N.any()
        assert found.start_s == pytest.approx(late_s, abs=0.05)
        assert found.end_s == pytest.approx(late_s + 3, abs=0.05)


@pytest.mark.parametrize(
    ("codec", "channels"),
    [("pcm_s16le", 1), ("pcm_s16le", 16), ("aac", 1), ("aac", 8), ("wavpack", 12), ("wavpack", 16)],
)
def test_many_channels_are_averaged(tmp_path, codec, channels):
    path = tmp_path / "clip.mkv"
    layout = {1: "mono", 8: "7.1", 12: "7.1.4", 16: "hexadecagonal"}[channels]
    sound = "|".join(["0.5*sin(2*PI*440*t)"] * channels)
    inputs = ["-f", "lavfi", "-i", "color=red:s=64x48:d=1"]
    inputs += ["-f", "lavfi", "-i", f"aevalsrc='{sound}':s=48000:c={layout}:d=1"]
    run(*inputs, "-c:a", codec, path)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].layout.nb_channels == channels
    found = read(path).waveform_N[1600:-3200]
    assert np.sqrt(2 * np.square(found).mean()) == pytest.approx(
        0.5, abs=0.07
    )  # a low one is damped


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 96_000])
def test_a_sine_keeps_its_phase_at_every_rate(clip, rate_hz):
    times_s = np.arange(2 * rate_hz) / rate_hz
    sine = 0.5 * np.sin(2 * np.pi * 440 * times_s)
    found = read(clip(np.stack([sine] * 2), rate_hz=rate_hz)).waveform_N
    inner = slice(400, -400)
    np.testing.assert_allclose(found[inner], tone()[inner], atol=2e-3)


def test_a_video_without_sound_says_so(tmp_path):
    path = tmp_path / "mute.mp4"
    ffmpeg.encode((np.zeros((64, 64, 3), np.uint8) for _ in range(10)), path, fps_hz=25)
    with pytest.raises(ClipRejectedError) as error:
        read(path)
    assert error.value.reason == "no_audio"


def test_a_stream_that_cannot_be_decoded_is_passed_over(tmp_path):
    path = tmp_path / "clip.avi"
    sounds = ["-f", "lavfi", "-i", "sine=d=2"] * 2
    streams = ["-map", "0", "-map", "1", "-map", "2", "-c:a:0", "libmp3lame", "-c:a:1", "pcm_s16le"]
    run("-f", "lavfi", "-i", "color=red:s=64x48:d=2", *sounds, *streams, path)
    for kept in ({b"01wb", b"02wb"}, {b"02wb"}, set()):
        content = bytearray(path.read_bytes())
        for name in {b"01wb", b"02wb"} - kept:
            _damage(content, name)
        path.write_bytes(content)
        if kept:
            found = read(path)
            assert (found.tracks, found.track) == (2, 2 - len(kept))
            assert np.abs(found.waveform_N).max() > 0.1
    # Samples cannot be damaged, only changed.
    assert np.isfinite(read(path).waveform_N).all()


def _damage(content, name):
    """Overwrite the chunks of an AVI file that have this name."""
    position = content.index(b"movi")
    end = content.index(b"idx1")
    while (position := content.find(name, position, end)) >= 0:
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        content[position + 8 : position + 8 + size] = bytes(size)
        position += 8 + size


@pytest.mark.parametrize(
    ("file", "tracks", "track"),
    [("two_audio_tracks.mp4", 2, 1), ("audio_8k_stereo_real.mp4", 2, 0), ("audio_51.mp4", 1, 0)],
)
def test_the_sound_of_real_files_is_heard(real_clips, file, tracks, track):
    found = read(real_clips / "awkward" / file)
    assert (found.tracks, found.track) == (tracks, track)
    assert np.abs(found.waveform_N).max() > 0.1
    assert abs(found.end_s - len(found.waveform_N) / RATE_HZ) < 0.1
