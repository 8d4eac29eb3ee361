import av
import numpy as np
import pytest

from mssync import records
from mssync.audio.features import FLOOR
from mssync.demo.speech import Voice, synthesise
from mssync.errors import ClipRejectedError
from mssync.media import ffmpeg
from mssync.records import AUDIO, AUDIO_SCORES
from mssync.stages.extract_audio import listen

IDENTITY = {"clip_id": "a", "sha256": "b", "content": "c"}


@pytest.fixture(scope="module")
def speech():
    voice = Voice(pitch_hz=120.0, rate=1.0, formant_scale=1.0)
    return synthesise(3.0, voice, np.random.default_rng(0)).waveform_N


@pytest.fixture
def clip(tmp_path):
    """A grey video of so many frames at 25 Hz, with a sound."""

    def make(waveform, frames=75):
        path = tmp_path / "clip.mp4"
        pictures = (np.full((64, 64, 3), 100 + k % 50, np.uint8) for k in range(frames))
        ffmpeg.encode(pictures, path, fps_hz=25, waveform=waveform)
        return path

    return make


@pytest.fixture
def params(tiny):
    return tiny.extract_audio


def later(source, target, late_s):
    """Copy a clip with its sound moved."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        streams = {stream.index: write.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                shift = round(late_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            write.mux(packet)
    return target


@pytest.mark.parametrize("wide", [0, 80])
def test_a_row_fills_the_table(clip, params, speech, tmp_path, wide):
    row = listen(clip(speech), params=params.model_copy(update={"wide_mel_bands": wide}))
    table = tmp_path / "part.parquet"
    records.write(table, [IDENTITY | row], AUDIO)
    [stored] = records.read(table, AUDIO)
    rows = 4 * int(stored["frames"])
    lengths = {"log_mel_AM": 26, "mfcc_AC": 13, "wide_mel_AM": wide, "loudness_A": 1, "speech_A": 1}
    assert rows == 300
    assert {name: len(stored[name]) / rows for name in lengths} == lengths
    assert all(np.isfinite(stored[name]).all() for name in (*lengths, *AUDIO_SCORES))


def test_speech_scores_as_speech(clip, params, speech):
    row = listen(clip(speech), params=params)
    assert row["speech_ratio"] > 0.5
    assert row["snr_db"] > 20
    assert -30 < row["loudness_db"] < -5
    assert row["clipped_ratio"] == 0
    assert row["audio_tracks"] == 1
    assert row["length_mismatch_s"] < 0.1


def test_the_threshold_decides_what_counts_as_speech(clip, params, speech):
    row = listen(clip(speech), params=params.model_copy(update={"speech_threshold": 0.99}))
    assert row["speech_ratio"] == pytest.approx(np.mean(row["speech_A"] >= 0.99))
    assert row["speech_ratio"] < np.mean(row["speech_A"] >= 0.5)


def test_digital_silence_has_the_least_of_everything(clip, params):
    row = listen(clip(np.zeros(48_000, np.float32)), params=params)
    assert not row["speech_A"].any()
    np.testing.assert_allclose(row["loudness_A"], -120)
    np.testing.assert_allclose(row["log_mel_AM"], np.log(FLOOR), rtol=1e-6)
    assert (row["speech_ratio"], row["snr_db"], row["loudness_db"]) == (0, -20, -120)


def test_sound_that_ends_early_leaves_silent_rows(clip, params, speech):
    row = listen(clip(speech[:32_000]), params=params)
    beyond = slice(212, None)  # the coder's last packet may reach 64 ms further
    assert len(row["loudness_A"]) == 300
    assert not row["speech_A"][beyond].any()
    assert (row["loudness_A"][beyond] == -120).all()
    # Only the clip's mean, which is removed, is left there.
    assert row["log_mel_AM"].reshape(300, -1)[beyond].max() < np.log(FLOOR) + 3
    assert row["length_mismatch_s"] == pytest.approx(1, abs=0.1)
    assert row["audio_start_s"] == pytest.approx(0, abs=0.03)
    assert row["audio_end_s"] == pytest.approx(2, abs=0.1)


def test_sound_that_begins_late_leaves_silent_rows(clip, params, speech, tmp_path):
    on_time = listen(clip(speech[:32_000]), params=params)
    late = later(tmp_path / "clip.mp4", tmp_path / "late.mkv", late_s=0.8)
    row = listen(late, params=params)
    before = slice(0, 70)
    assert not row["speech_A"][before].any()
    assert (row["loudness_A"][before] == -120).all()
    heard = [np.flatnonzero(found["loudness_A"] > -40) for found in (on_time, row)]
    assert heard[1][0] - heard[0][0] == pytest.approx(80, abs=8)
    assert row["length_mismatch_s"] == pytest.approx(0.8, abs=0.1)
    assert row["audio_start_s"] == pytest.approx(0.8, abs=0.1)


def test_clipping_is_seen_through_a_lossy_coder(clip, params, speech):
    clean = listen(clip(speech), params=params)
    clipped = listen(clip(np.clip(30 * speech, -1, 1)), params=params)
    assert clean["clipped_ratio"] == 0
    assert clipped["clipped_ratio"] > 0.003


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_clips_have_all_rows(clip, params, speech, frames):
    row = listen(clip(speech[: frames * 640], frames=frames), params=params)
    assert row["frames"] == frames
    assert len(row["speech_A"]) == 4 * frames
    assert all(np.isfinite(row[name]).all() for name in row)


def test_a_clip_without_sound_is_rejected(clip, params):
    with pytest.raises(ClipRejectedError) as caught:
        listen(clip(None), params=params)
    assert caught.value.reason == "no_audio"
