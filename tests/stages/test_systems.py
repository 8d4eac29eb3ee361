"""Other systems beside the generator: runs, aliases, videos, and networks that compare drawings.

Real files, the real detector, real training; the weights of Inception and I3D are the tests' own.
"""

import json
import logging
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from mssync import tracking
from mssync.cli import stages as commands
from mssync.data import dataset
from mssync.errors import InputError, MsSyncError
from mssync.media.store import MediaStore, digest
from mssync.params import digest as params_digest
from mssync.params import text
from mssync.render import payload
from mssync.stages import (
    _imported,
    _scores,
    build_dataset,
    download_videos,
    extract_audio,
    extract_landmarks,
    train_generator,
    train_syncers,
)
from mssync.stages._imported import Extraction
from mssync.trained import checkpoint
from tests.networks import TinyVideoNet, save_inception, save_script


def champion_of(chain, sha256):
    """Make a generator the registry's champion."""
    tracking.register_champion(
        chain.params.paths.tracking_uri,
        chain.params.paths.model_name,
        run_id=tracking.recall_run(sha256),
        artifact=train_generator.GENERATOR,
        tags={"sha256": sha256, "dataset_revision": chain.revision},
        card="A test's champion.",
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory, small_corpus, tiny):
    """A dataset, judges, and two generators, of which the second is champion."""
    folder = tmp_path_factory.mktemp("systems")
    store, manifest, data = (
        MediaStore(folder / "store"),
        folder / "manifest.parquet",
        folder / "data",
    )
    shared = {"store": store, "workers": 2}
    download_videos.run(
        small_corpus / "sources.csv",
        manifest,
        folder / "ledger" / "download_videos",
        tiny.download_videos,
        base=str(small_corpus / "media"),
        **shared,
    )
    extract_landmarks.run(
        manifest,
        data / "landmarks",
        folder / "ledger" / "extract_landmarks",
        tiny.extract_landmarks,
        device="cpu",
        **shared,
    )
    extract_audio.run(
        manifest,
        data / "audio",
        folder / "ledger" / "extract_audio",
        tiny.extract_audio,
        **shared,
    )
    build_dataset.run(
        manifest,
        data / "landmarks",
        data / "audio",
        folder / "ledger",
        data / "dataset",
        data / "card",
        tiny.build_dataset,
    )
    params = tiny.model_copy(update={"run": tiny.run.model_copy(update={"device": "cpu"})})
    (folder / "params.yaml").write_text(text(params))
    found = SimpleNamespace(folder=folder, params=params, corpus=small_corpus, models={})
    found.revision = dataset.load(data / "dataset").revision
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MSSYNC_MEDIA", str(store.folder))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        told = {"paths": params.paths, "params_hash": params_digest(params)}
        train_syncers.run(
            data / "dataset", folder / "syncers", params.train_syncers, run=params.run, **told
        )
        for seed in (0, 1):
            out = folder / f"generator{seed}"
            train_generator.run(
                data / "dataset",
                folder / "syncers",
                out,
                params.train_generator,
                run=params.run.model_copy(update={"seed": seed}),
                **told,
            )
            found.models[seed] = checkpoint.sha256(out / train_generator.GENERATOR)
        champion_of(found, found.models[1])
        yield found


def evaluate(chain, out, **options):
    commands.evaluate(
        chain.folder / "data" / "dataset",
        chain.folder / "syncers",
        chain.folder / "generator0",
        out,
        params=chain.folder / "params.yaml",
        **options,
    )
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def videos(chain):
    """The true videos of the test's speaker, as a system that copies the truth would hand in."""
    folder = chain.folder / "imports"
    (folder / "speaker_06").mkdir(parents=True)
    for file in (chain.corpus / "media" / "speaker_06").glob("*.mp4"):
        shutil.copy(file, folder / "speaker_06" / file.name)
    return folder


@pytest.fixture(scope="module")
def scored(chain, videos):
    """One evaluation of everything that can be named on the command line."""
    weights = chain.folder / "weights"
    weights.mkdir()
    inception = save_inception(weights / "inception.pth")
    i3d = save_script(TinyVideoNet(), weights / "i3d.pt")
    run_id = tracking.recall_run(chain.models[0])
    report = evaluate(
        chain,
        chain.folder / "evaluation",
        system=[f"same=run:{run_id}", "best=alias:champion", f"copy={videos}"],
        inception=inception,
        i3d=i3d,
    )
    return SimpleNamespace(report=report, inception=inception, i3d=i3d, run_id=run_id)


def test_a_run_and_an_alias_are_scored_as_the_models_they_name(chain, scored):
    report = scored.report
    same, best = report["systems"]["same"], report["systems"]["best"]
    assert (same["kind"], same["where"]) == ("model", f"run:{scored.run_id}")
    assert same["sha256"] == chain.models[0] == report["challenger"]["sha256"]
    assert same["metrics"] == report["challenger"]["metrics"]
    assert best["sha256"] == chain.models[1] == report["champion"]["sha256"]
    assert best["metrics"] == report["champion"]["metrics"]
    assert best["metrics"] != same["metrics"]


def test_a_video_of_the_truth_scores_as_the_truth(scored):
    copied = scored.report["systems"]["copy"]
    assert (copied["kind"], scored.report["left_out"]) == ("imported", {})
    for level in copied["metrics"]["lse_d"]["all"].values():
        assert level["value"] == pytest.approx(level["ground_truth"], rel=1e-3)
    assert copied["metrics"]["frechet"]["fd_frame"]["distance"] < 1e-6
    assert copied["metrics"]["dynamics"]["mouth_error"]["value"] < 1e-3


def test_drawn_faces_are_compared_by_the_weights_that_were_given(chain, scored):
    report = scored.report
    assert report["rendered"]["weights"] == {
        name: {"file": str(file), "sha256": digest(file)}
        for name, file in (("inception", scored.inception), ("i3d", scored.i3d))
    }
    own, copied = (
        found["metrics"]["rendered"] for found in (report["challenger"], report["systems"]["copy"])
    )
    assert own.keys() == {"fid", "t_fid", "fvd"}
    for name, found in own.items():
        assert copied[name]["distance"] < 0.1 * found["distance"]
    page = (chain.folder / "evaluation" / "gallery" / "index.html").read_text()
    assert "Fréchet distances of drawn faces" in page


def test_the_gallery_shows_every_system(chain, scored):
    clips = payload.read(chain.folder / "evaluation" / "gallery" / "index.html")
    assert {"Generated", "Champion", "same", "best", "copy"} <= set(clips[0].motions)


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("old=run:0123abcd", "0123abcd"),
        ("old=alias:nobody", "has no alias nobody: mssync promote --apply sets champion"),
        ("static=alias:champion", "the name is taken"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_before_anything_is_scored(chain, tmp_path, system, told):
    with pytest.raises(MsSyncError, match=told):
        evaluate(chain, tmp_path, system=[system])
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_there_stop_it_before_anything_is_scored(chain, tmp_path):
    with pytest.raises(InputError, match=r"pytorch-fid/releases.*--inception FILE"):
        evaluate(chain, tmp_path, inception=tmp_path / "nowhere.pth")


# --- videos of other lengths, rates and names --------------------------------------------------


@pytest.fixture
def read(chain):
    """Read a folder of videos with the detector, against one sequence of each test clip."""
    clips = _scores.clips_of(dataset.load(chain.folder / "data" / "dataset"), "test")
    firsts = [
        piece
        for piece in _scores.excerpts(clips, frames=chain.params.evaluate.frames, at_most=99)
        if piece.start == 0
    ]

    def run(folder):
        motions, missing = _imported.read(
            folder,
            firsts,
            lengths={clip.clip_id: clip.frames for clip in clips},
            smoothing_frames=3,
            extraction=Extraction(chain.params.extract_landmarks, "cpu"),
        )
        named = {index: piece.clip_id for index, piece in enumerate(firsts)}
        return {named[index] for index in motions}, {
            named[index]: why for index, why in missing.items()
        }

    return run


def ffmpeg(*arguments):
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True)


def test_a_video_at_another_rate_is_read_by_its_clock_and_one_at_a_wrong_rate_is_left_out(
    chain, videos, read, tmp_path
):
    short, long = (videos / "speaker_06" / f"{name}.mp4" for name in ("clip_0", "long"))
    (tmp_path / "speaker_06").mkdir()
    # 30 pictures a second of the same seconds, and the same pictures shown too slowly
    ffmpeg("-i", short, "-vf", "fps=30", "-an", tmp_path / "speaker_06" / "clip_0.mp4")
    ffmpeg("-i", long, "-vf", "setpts=1.25*PTS", "-an", tmp_path / "speaker_06" / "long.mp4")
    (scored, missing) = read(tmp_path)
    assert scored == {"speaker_06/clip_0.mp4"}
    assert "at 25 Hz, the clip has 200 frames (8.00 s)" in missing["speaker_06/long.mp4"]
    assert "write it at the rate it was made for" in missing["speaker_06/long.mp4"]


def test_a_video_without_a_face_and_one_that_is_none_have_a_reason(read, tmp_path):
    (tmp_path / "speaker_06").mkdir()
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=128x128:r=25:d=4", tmp_path / "speaker_06/clip_0.mp4")
    (tmp_path / "speaker_06" / "long.mp4").write_bytes(b"not a video")
    scored, missing = read(tmp_path)
    assert scored == set()
    assert "face" in missing["speaker_06/clip_0.mp4"]
    assert missing["speaker_06/long.mp4"].startswith("long.mp4: ")


def test_files_of_no_test_clip_are_told(chain, videos, read, tmp_path, caplog):
    (tmp_path / "speaker_06").mkdir()
    shutil.copy(videos / "speaker_06" / "clip_0.mp4", tmp_path / "speaker_06" / "clip_0.mp4")
    shutil.copy(videos / "speaker_06" / "long.mp4", tmp_path / "speaker_06" / "lonng.mp4")
    with caplog.at_level(logging.INFO):
        scored, missing = read(tmp_path)
    assert scored == {"speaker_06/clip_0.mp4"}
    assert "has no file of this name" in missing["speaker_06/long.mp4"]
    (told,) = [each for each in caplog.records if "of no test clip" in each.getMessage()]
    assert told.levelname == "WARNING"
    assert "1 files are of no test clip and are not looked at, first speaker_06/lonng.mp4" in (
        told.getMessage()
    )


def test_a_folder_of_other_clips_is_refused_with_names_as_they_should_be(videos, read, tmp_path):
    shutil.copy(videos / "speaker_06" / "clip_0.mp4", tmp_path / "result.mp4")
    with pytest.raises(InputError, match=r"names like speaker_06/clip_0\.mp4, found result\.mp4"):
        read(tmp_path)
