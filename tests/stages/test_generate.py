"""A face and a sound in, a moving face out: real detector, real media, a generator made here."""

import json
import os
import subprocess
import sys

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from PIL import Image

from mssync import tracking
from mssync.errors import InputError, ToolError
from mssync.landmarks import crop
from mssync.media import decode
from mssync.media.sound import read_sound
from mssync.models.generator import Generator
from mssync.stages import _generate, extract_audio
from mssync.stages._generate import Choice, Request
from mssync.trained import checkpoint
from mssync.trained.networks import load_generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def video(small_corpus):
    return small_corpus / "media" / "speaker_06" / "clip_0.mp4"


@pytest.fixture(scope="module")
def truth(small_corpus):
    return np.load(small_corpus / "truth" / "speaker_06" / "clip_0.npz")["landmarks_TPD"]


def save_generator(folder, tiny, truth, *, mel_bands=26, velocity=0.002):
    """A small generator whose statistics are those of a face, and whose steps are small."""
    torch.manual_seed(0)
    size = tiny.train_generator.generator.model_dump() | {
        "mel_bands": mel_bands,
        "observed_frames": 3,
    }
    generator = Generator(**size)
    left, top, side = crop.square_crop(truth, 1.3)
    motion = torch.from_numpy((truth - np.array([left, top], np.float32)) / np.float32(side))
    generator.standardise.fit(motion.flatten(1).mean(0), motion.flatten(1).std(0))
    generator.audio.standardise.fit(torch.full((mel_bands,), -6.0), torch.full((mel_bands,), 3.0))
    generator.velocity_scale_X.fill_(velocity)
    checkpoint.save(folder, generator.state_dict(), {"size": size})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny, truth):
    return save_generator(tmp_path_factory.mktemp("model") / "generator", tiny, truth)


@pytest.fixture(scope="module")
def photo(video, tmp_path_factory):
    """The video's first picture, as a PNG."""
    clock = decode.read_clock(video)
    frame = next(decode.frames(video, clock, max_fps_hz=30, max_side_px=1280))
    path = tmp_path_factory.mktemp("photo") / "face.png"
    Image.fromarray(frame.picture_HWC).save(path)
    return path


@pytest.fixture(scope="module")
def speech(video, tmp_path_factory):
    """1.51 s of the video's sound: 37.75 frames."""
    waveform = read_sound(video, decode.read_clock(video)).waveform_N
    path = tmp_path_factory.mktemp("speech") / "talk.wav"
    soundfile.write(path, waveform[16_000 : 16_000 + 24_160], 16_000)
    return path


@pytest.fixture
def generate(tmp_path, tiny, model, photo, speech):
    def run(*outs, source=photo, audio=speech, choice=None, **asked):
        outs = [tmp_path / name for name in outs]
        if "preview" in asked:
            asked["preview"] = tmp_path / asked["preview"]
        return _generate.run(Request(source, audio, outs, **asked), choice or Choice(model), tiny)

    return run


def stream_length(path, kind):
    """Seconds and frames of a stream, counted by decoding it."""
    with av.open(str(path)) as container:
        frames = list(container.decode(**{kind: 0}))
    if kind == "video":
        return len(frames) / 25, len(frames)
    return sum(frame.samples for frame in frames) / frames[0].sample_rate, len(frames)


def test_every_file_is_as_long_as_the_sound(generate, tmp_path):
    made = generate("a.mp4", "a.npz", "a.parquet", preview="p.mp4")
    assert made.frames == 38
    for name in ("a.mp4", "p.mp4"):
        assert stream_length(tmp_path / name, "video") == (1.52, 38)
        assert stream_length(tmp_path / name, "audio")[0] == pytest.approx(1.52, abs=0.025)
        assert decode.read_clock(tmp_path / name).fps_hz == pytest.approx(25)
        sound = read_sound(tmp_path / name, decode.read_clock(tmp_path / name)).waveform_N
        assert np.abs(sound).max() > 0.05
    assert np.load(tmp_path / "a.npz")["landmarks_TPD"].shape == (38, 68, 2)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 38
    assert not list(tmp_path.glob(".*"))


def test_the_sound_of_the_video_is_that_of_the_file(generate, tmp_path, speech):
    generate("a.mp4")
    given, _ = soundfile.read(speech, dtype="float32")
    heard = read_sound(tmp_path / "a.mp4", decode.read_clock(tmp_path / "a.mp4")).waveform_N
    shifts = range(-160, 161, 4)
    likeness = [np.dot(np.roll(heard[: len(given)], shift), given) for shift in shifts]
    assert abs(shifts[int(np.argmax(likeness))]) <= 32  # 2 ms


def test_the_landmarks_are_those_of_one_call_of_generate(generate, tmp_path, tiny, model, speech):
    generate("a.npz")
    found = np.load(tmp_path / "a.npz")
    # the same features as extract_audio computes, from a video with this sound
    samples, _ = soundfile.read(speech, dtype="float32")
    padded = np.pad(samples, (0, 38 * 640 - len(samples)))
    video = tmp_path / "same.mkv"
    with av.open(str(video), "w") as container:
        shown = container.add_stream("ffv1", rate=25, width=16, height=16, pix_fmt="yuv420p")
        heard = container.add_stream("flac", rate=16_000, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p")
        for number in range(38):
            picture.pts = number
            container.mux(shown.encode(picture))
        sound = av.AudioFrame.from_ndarray(
            np.round(padded * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        sound.sample_rate, sound.pts = 16_000, 0
        container.mux(heard.encode(sound))
        for stream in (shown, heard):
            container.mux(stream.encode(None))
    row = extract_audio.listen(video, params=tiny.extract_audio)
    audio = torch.from_numpy(np.asarray(row["log_mel_AM"]).reshape(1, -1, 26))
    source = torch.tensor(json.loads(str(found["provenance"]))["source_landmarks_px"])
    corner = torch.tensor([float(found[name]) for name in ("crop_left_px", "crop_top_px")])
    unit = ((source - corner) / float(found["crop_side_px"])).float()
    at_once = load_generator(model, CPU).generate(unit, audio)[0].numpy()
    assert np.abs(np.diff(at_once, axis=0)).max() > 1e-4  # it moves
    np.testing.assert_allclose(found["crop_TPD"], at_once, atol=2e-4)


def test_weights_of_16_bits_stay_near_and_are_told(generate, tmp_path):
    generate("a.npz")
    generate("b.npz", precision="bfloat16")
    exact, near = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    moved = np.abs(exact["crop_TPD"] - exact["crop_TPD"][0]).max()
    assert 0 < np.abs(near["crop_TPD"] - exact["crop_TPD"]).max() < 0.1 * moved
    told = [json.loads(str(found["provenance"]))["precision"] for found in (exact, near)]
    assert told == ["float32", "bfloat16"]


def test_a_face_lies_in_its_crop_as_in_training(generate, tmp_path, truth):
    generate("a.npz")
    found = np.load(tmp_path / "a.npz")
    left, _, side = crop.square_crop(truth, 1.3)
    assert float(found["crop_side_px"]) == pytest.approx(side, rel=0.06)
    assert abs(float(found["crop_left_px"]) - left) < 0.06 * side
    np.testing.assert_allclose(found["landmarks_TPD"][0], truth[0], atol=0.06 * side)


def test_both_landmark_files_say_the_same_and_where_it_comes_from(
    generate, tmp_path, model, photo, speech
):
    generate("a.npz", "a.parquet")
    arrays, table = np.load(tmp_path / "a.npz"), pq.read_table(tmp_path / "a.parquet")
    facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    pixels = np.array(table["source_px"].to_pylist(), np.float32).reshape(-1, 68, 2)
    np.testing.assert_array_equal(pixels, arrays["landmarks_TPD"])
    np.testing.assert_allclose(
        arrays["crop_TPD"] * arrays["crop_side_px"]
        + [arrays["crop_left_px"], arrays["crop_top_px"]],
        pixels,
        atol=1e-3,
    )
    assert table["time_s"].to_pylist()[:2] == [0.0, 0.04]
    assert float(facts["fps_hz"]) == arrays["fps_hz"] == 25
    told = json.loads(facts["provenance"])
    assert told == json.loads(str(arrays["provenance"]))
    assert told["model_sha256"] == checkpoint.sha256(model)
    assert told["source"] == photo.name
    assert told["audio"] == speech.name
    assert told["synthetic"] is True


def test_a_moment_of_a_video_is_a_source_too(generate, tmp_path, video, truth):
    generate("a.npz", source=video, at_s=2.0)
    found = np.load(tmp_path / "a.npz")
    source = np.array(json.loads(str(found["provenance"]))["source_landmarks_px"])
    assert np.abs(source - truth[50]).mean() < np.abs(source - truth[0]).mean()


def test_of_several_faces_one_is_taken_and_said(generate, tmp_path, photo, caplog):
    face = np.asarray(Image.open(photo))
    small = np.asarray(Image.fromarray(face).resize((192, 192)))
    both = np.hstack([np.pad(small, [(64, 0), (0, 0), (0, 0)], mode="edge"), face])
    Image.fromarray(both).save(tmp_path / "two.png")
    generate("wide.npz", source=tmp_path / "two.png")
    assert "shows 2 faces" in caplog.text
    assert "number 2, the widest, is taken: --face takes another one" in caplog.text
    generate("first.npz", source=tmp_path / "two.png", face=1)
    assert np.load(tmp_path / "wide.npz")["landmarks_TPD"][0, 30, 0] > 192
    assert np.load(tmp_path / "first.npz")["landmarks_TPD"][0, 30, 0] < 192
    with pytest.raises(InputError, match="has no face 3: expected 1 to 2"):
        generate("third.npz", source=tmp_path / "two.png", face=3)


def test_what_is_wrong_is_one_message_and_leaves_nothing(generate, tmp_path, video, photo, speech):
    empty = tmp_path / "empty.png"
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(empty)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    (tmp_path / "there.npz").write_text("mine")
    (tmp_path / "letter.txt").write_text("dear reader")
    before = sorted(tmp_path.iterdir())
    wrong = [
        (["a.npz"], {"source": empty}, "shows no face, in 200 x 200 px"),
        (["a.npz"], {"source": tmp_path / "none.png"}, "none.png does not exist: name a photo"),
        (["a.npz"], {"source": tmp_path / "letter.txt"}, "this is no video, it is text"),
        (["a.npz"], {"source": video, "at_s": 99.0}, "--at 99 is beyond its end"),
        (["a.npz"], {"audio": photo}, "Expected a file with sound that ffmpeg reads"),
        (["a.npz"], {"audio": tmp_path / "silence.wav"}, "is silent: its level is"),
        (["a.npz"], {"choice": Choice(tmp_path / "none")}, "none holds no checkpoint"),
        (["a.avi"], {}, "a.avi: expected a file that ends in .mp4 or .npz or .parquet"),
        (["a.npz"], {"preview": "a.npz"}, "--preview .*a.npz: expected a file that ends in .mp4"),
        (["there.npz"], {}, "there.npz is there already: name another file, or --force"),
        (["a.npz", "a.npz"], {}, "name one file twice"),
        ([photo], {"force": True}, "ends in"),
        ([video], {"source": video, "force": True}, "is what is read: name another file"),
    ]
    for outs, asked, told in wrong:
        with pytest.raises(InputError, match=told):
            generate(*outs, **asked)
    assert sorted(tmp_path.iterdir()) == before
    generate("there.npz", force=True)
    assert np.load(tmp_path / "there.npz")["landmarks_TPD"].shape == (38, 68, 2)


def test_a_motion_that_diverges_leaves_nothing(generate, tmp_path, tiny, truth):
    wild = save_generator(tmp_path / "wild" / "generator", tiny, truth, velocity=float("nan"))
    with pytest.raises(ToolError, match="the motion is no number any more from"):
        generate("a.npz", choice=Choice(wild))
    assert not (tmp_path / "a.npz").exists()


def test_a_model_that_hears_other_bands_is_refused(generate, tmp_path, tiny, truth):
    other = save_generator(tmp_path / "other" / "generator", tiny, truth, mel_bands=20)
    with pytest.raises(InputError, match=r"hears 20 mel bands, extract_audio\.mel_bands is 26"):
        generate("a.npz", choice=Choice(other))


def test_a_run_and_the_champion_of_the_store_can_be_named(
    generate, tmp_path, tiny, model, monkeypatch
):
    uri, name = f"sqlite:///{tmp_path / 'mlflow.db'}", tiny.paths.model_name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match="the registry has no champion of"):
        generate("a.npz", choice=Choice(model, champion=True))
    sha256 = checkpoint.sha256(model)
    with tracking.mlflow_run(uri, "test", name="g", key="k", tags={}, params={}) as tracker:
        tracker.tag({tracking.MODEL_TAG: sha256})
        tracker.log_files(model, "generator")
        tracker.made(sha256)
    run_id = tracking.recall_run(sha256)
    tracking.register_champion(
        uri,
        name,
        run_id=run_id,
        artifact="generator",
        tags={"sha256": sha256, "dataset_revision": "r"},
        card="# A card",
    )
    by_run = generate("a.npz", choice=Choice(model, run_id=run_id))
    by_name = generate("b.npz", choice=Choice(model, champion=True))
    assert by_run.model == f"run {run_id}"
    assert by_name.model == "champion, version 1"
    assert by_run.provenance["model_sha256"] == by_name.provenance["model_sha256"] == sha256
    with pytest.raises(ToolError, match="nobody"):
        generate("c.npz", choice=Choice(model, run_id="nobody"))


def test_the_command_says_what_it_wrote_and_fails_in_one_message(
    root, tmp_path, model, photo, speech
):
    def mssync(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mssync", "generate", *map(str, arguments)],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )

    given = ("--source", photo, "--audio", speech, "--params", root / "params.test.yaml")
    done = mssync(*given, "--out", "a.npz", "--model", model)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["a.npz"]), done.stderr
    assert done.stdout.startswith("38 frames, 1.52 s, by ")
    failed = mssync(*given, "--out", "b.npz")
    assert failed.returncode == 1
    assert "--model models/generator holds no checkpoint" in failed.stderr
    assert "Traceback" not in failed.stderr
