"""All eight stages on eight small clips: real files, the real detector, real training."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench import ablation
from mssync import records, tracking, versions
from mssync.data import dataset
from mssync.data.pack import open_pack, pack_clips
from mssync.demo.server import serve
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.download.takedown import EMPTY
from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.ledger import ATTEMPTS, DECISIONS, read_decisions
from mssync.media.store import MediaStore
from mssync.params import digest
from mssync.parts import read_parts
from mssync.render.report import summary
from mssync.stages import (
    build_dataset,
    download_videos,
    evaluate,
    extract_audio,
    extract_landmarks,
    promote,
    train_generator,
    train_syncers,
)


def run_chain(folder, small_corpus, params):
    """Every stage once, in `folder`, as `dvc repro` would."""
    data, ledger, store = folder / "data", folder / "ledger", MediaStore(folder / "store")
    data.mkdir(exist_ok=True)
    (data / "sources.csv").write_bytes((small_corpus / "sources.csv").read_bytes())
    manifest, workers = data / "manifest.parquet", 2
    with serve(small_corpus) as url:
        download_videos.run(
            data / "sources.csv",
            manifest,
            ledger / "download_videos",
            params.download_videos,
            store=store,
            workers=workers,
            base=url,
            access=Access(policy=Policy(mirrors=("127.0.0.1",))),
        )
    shared = {"store": store, "workers": workers}
    extract_landmarks.run(
        manifest,
        data / "landmarks",
        ledger / "extract_landmarks",
        params.extract_landmarks,
        device="cpu",
        **shared,
    )
    extract_audio.run(
        manifest, data / "audio", ledger / "extract_audio", params.extract_audio, **shared
    )
    build_dataset.run(
        manifest,
        data / "landmarks",
        data / "audio",
        ledger,
        data / "dataset",
        data / "card",
        params.build_dataset,
    )
    models = folder / "models"
    shared = {"run": params.run, "paths": params.paths}
    train_syncers.run(
        data / "dataset",
        models / "syncers",
        params.train_syncers,
        params_hash=digest(params),
        **shared,
    )
    train_generator.run(
        data / "dataset",
        models / "syncers",
        models / "generator",
        params.train_generator,
        params_hash=digest(params),
        **shared,
    )
    evaluate.run(
        data / "dataset",
        models / "syncers",
        models / "generator",
        folder / "evaluation",
        params.evaluate,
        store=store,
        **shared,
    )
    promote.run(
        folder / "evaluation" / "metrics.json",
        folder / "promotion" / "decision.json",
        params.promote,
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory, small_corpus, tiny):
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_chain(folder, small_corpus, tiny)
        yield SimpleNamespace(folder=folder, params=tiny, corpus=small_corpus)


def snapshot(folder):
    """Content of every file that DVC would version."""
    ignored = {ATTEMPTS, download_videos.STATE}
    return {
        path.relative_to(folder): path.read_bytes()
        for name in ("data", "ledger", "models", "promotion")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and path.name not in ignored
    }


def test_every_clip_of_the_list_comes_through(chain):
    clips = dataset.load_clips(chain.folder / "data" / "dataset")
    assert {split: len(found) for split, found in clips.items()} == {
        "train": 5,
        "val": 1,
        "test": 2,
    }


def test_training_packed_every_split_as_the_clips_are_read(chain):
    version = dataset.load(chain.folder / "data" / "dataset")
    for split, clips in dataset.load_clips(version.folder).items():
        assert (dataset.pack_folder(version.folder, version.revision) / split).is_dir()
        disk, memory = open_pack(version, split), pack_clips(clips)
        rows = [
            pack.level(0, kernel=7, device=torch.device("cpu")).rows_SX for pack in (disk, memory)
        ]
        np.testing.assert_array_equal(rows[0].numpy(), rows[1].numpy())
        np.testing.assert_array_equal(disk.frames_C, memory.frames_C)
        np.testing.assert_array_equal(disk.low_CD, memory.low_CD)
        assert disk.statistics.audio_range == memory.statistics.audio_range


def test_every_stage_decides_on_every_clip_once(chain):
    for stage in ("download_videos", "extract_landmarks", "extract_audio", "build_dataset"):
        decisions = read_decisions(chain.folder / "ledger" / stage / DECISIONS)
        assert len({decision.clip_id for decision in decisions}) == len(decisions) == 8


def test_the_landmarks_are_those_the_faces_were_drawn_with(chain):
    errors, correlations = [], []
    for row in read_parts(chain.folder / "data" / "landmarks", records.LANDMARKS):
        truth = np.load(chain.corpus / "truth" / row["clip_id"].replace(".mp4", ".npz"))
        true_TPD = truth["landmarks_TPD"]
        found_TPD = records.shaped(row["landmarks_TPD"], int(row["frames"]), 68, 2)
        assert found_TPD.shape == true_TPD.shape
        scale = ibug.interocular_distance(true_TPD).mean()
        errors.append(np.linalg.norm(found_TPD - true_TPD, axis=-1).mean() / scale)
        openings = ibug.mouth_opening(found_TPD), ibug.mouth_opening(true_TPD)
        correlations.append(np.corrcoef(*openings)[0, 1])
    assert np.mean(errors) <= 0.05
    assert np.mean(correlations) >= 0.9


def test_the_sound_is_on_the_clock_of_the_lips(chain):
    """The mouth of the truth opens with the loudness of the features, and with no other shift."""
    audio = {
        row["clip_id"]: records.shaped(row["log_mel_AM"], -1, 4, 26)
        for row in read_parts(chain.folder / "data" / "audio", records.AUDIO)
    }
    shifts = range(-8, 9)
    curves = []
    for clip_id, log_mel in audio.items():
        truth = np.load(chain.corpus / "truth" / clip_id.replace(".mp4", ".npz"))
        opening = ibug.mouth_opening(truth["landmarks_TPD"])[8:-8]
        loudness = log_mel.mean(axis=(1, 2))
        moved = [loudness[8 + s : len(loudness) - 8 + s] for s in shifts]
        curves.append([np.corrcoef(opening, one)[0, 1] for one in moved])
    best = shifts[int(np.mean(curves, axis=0).argmax())]
    assert abs(best) <= 1


def test_a_second_run_does_nothing_again_and_changes_nothing(chain):
    before = snapshot(chain.folder)
    attempts = {
        stage: len(records.read(chain.folder / "ledger" / stage / ATTEMPTS, None))
        for stage in ("extract_landmarks", "extract_audio")
    }
    run_chain(chain.folder, chain.corpus, chain.params)
    assert snapshot(chain.folder) == before
    for stage, count in attempts.items():
        assert len(records.read(chain.folder / "ledger" / stage / ATTEMPTS, None)) == count


def test_the_metrics_have_ceiling_floors_and_the_generated_score(chain):
    metrics = json.loads((chain.folder / "evaluation" / "metrics.json").read_text())
    assert metrics["sequences"] >= 2
    for points in ("all", "no_lips"):
        entry = metrics["challenger"]["metrics"]["lse_d"][points]["level0"]
        assert {"value", "ground_truth", "other_audio", "shifted_audio", "static"} <= set(entry)
        assert entry["value"] > 0


def test_what_needs_no_model_is_scored_as_the_generator_is(chain):
    report = json.loads((chain.folder / "evaluation" / "metrics.json").read_text())
    generated = tracking.flatten(report["challenger"]["metrics"])
    assert set(report["baselines"]) == {"retrieval", "static"}
    for baseline in report["baselines"].values():
        assert set(tracking.flatten(baseline["metrics"])) == set(generated)
    static = report["baselines"]["static"]["metrics"]
    for points in ("all", "no_lips"):
        for entry in static["lse_d"][points].values():
            assert entry["value"] == entry["static"]
    assert static["rigidity"]["value"] == pytest.approx(0, abs=1e-6)
    assert static["head_speed_loudness"]["value"] == 0
    page = (chain.folder / "evaluation" / "gallery" / "index.html").read_text()
    assert "Ground truth beside Generated beside Retrieval" in page


def test_every_run_says_where_it_comes_from(chain, tracked_runs):
    runs = {run.info.run_name: run for run in tracked_runs(chain.folder)}
    assert sorted(runs) == ["train-generator", "train-syncers"]
    revision = dataset.load_metadata(chain.folder / "data" / "dataset")["revision"]
    for run in runs.values():
        assert run.data.tags["dataset_revision"] == revision
        assert run.info.status == "FINISHED"
        for tag in ("git_sha", "git_dirty", "params_hash", "seed", "image_digest", "kfp_run_id"):
            assert run.data.tags[tag]
    assert "eval.lse_d.all.level0.value" in runs["train-generator"].data.metrics


def test_media_that_are_gone_stop_the_stage_and_say_what_to_do(chain, tmp_path, store):
    with pytest.raises(InputError, match=r"the media of 8 clips.*make retry"):
        extract_audio.run(
            chain.folder / "data" / "manifest.parquet",
            tmp_path / "audio",
            tmp_path / "ledger",
            chain.params.extract_audio,
            store=store,
            workers=1,
        )


def test_the_summary_shows_the_result_and_where_to_look(chain):
    text = summary(chain.folder)
    assert "level 0, all points" in text
    assert str(chain.folder / "evaluation" / "gallery" / "index.html") in text
    assert "Decision: " in text


def test_applying_a_promotion_makes_a_champion_that_the_next_evaluation_meets(chain):
    folder, params = chain.folder, chain.params
    decision_file = folder / "promotion" / "decision.json"
    decision = json.loads(decision_file.read_text()) | {"decision": promote.PROMOTE}
    decision_file.write_text(json.dumps(decision))
    assert promote.apply(decision_file, params.promote, params.paths) == "1"
    assert promote.apply(decision_file, params.promote, params.paths) == "1"
    other = folder / "other.json"
    other.write_text(
        json.dumps(decision | {"challenger": decision["challenger"] | {"sha256": "0" * 64}})
    )
    with pytest.raises(InputError, match="taken against no champion, the registry's champion is"):
        promote.apply(other, params.promote, params.paths)
    champion = tracking.champion(params.paths.tracking_uri, params.paths.model_name)
    assert champion.sha256 == decision["challenger"]["sha256"]

    report = evaluate.run(
        folder / "data" / "dataset",
        folder / "models" / "syncers",
        folder / "models" / "generator",
        folder / "again",
        params.evaluate,
        run=params.run,
        paths=params.paths,
        store=MediaStore(folder / "store"),
    )
    assert report["champion"]["version"] == "1"
    for points in ("all", "no_lips"):
        champion_scores = report["champion"]["metrics"]["lse_d"][points]
        for level, entry in report["challenger"]["metrics"]["lse_d"][points].items():
            assert champion_scores[level]["value"] == entry["value"]
    equal = promote.run(folder / "again" / "metrics.json", folder / "d.json", params.promote)
    assert equal["decision"] == promote.REFUSE


@pytest.fixture
def repository(chain, root, tmp_path):
    """The chain's folder as a clone of the project in which everything is up to date."""
    folder = tmp_path / "project"
    for name in ("data", "ledger", "models", "evaluation", "promotion"):
        shutil.copytree(chain.folder / name, folder / name)
    shutil.copytree(root / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(root / name, folder / name)
    shutil.copyfile(root / "params.test.yaml", folder / "params.yaml")
    (folder / "data" / "takedown.csv").write_text(EMPTY)
    git(folder, "init", "--quiet")
    versions.dvc(folder, "init")
    versions.dvc(folder, "commit", "--force")
    git(folder, "add", ".")
    git(folder, "add", "--force", "data/sources.csv", "data/takedown.csv", "dvc.lock")
    git(folder, "commit", "--quiet", "--message", "what experiments start from")
    return folder


def git(folder, *arguments):
    named = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)


def test_an_experiment_trains_the_generator_anew_and_nothing_before_it(
    repository, chain, monkeypatch, capsys
):
    monkeypatch.setenv("MSSYNC_MEDIA", str(chain.folder / "store"))
    told = versions.dvc(
        repository, "exp", "run", "--name", "longer", "--set-param", "train_generator.steps=5"
    )
    ran = [line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")]
    assert ran == ["train-generator", "evaluate", "promote"]

    scores = json.loads((repository / "evaluation" / "scores.json").read_text())
    monkeypatch.chdir(repository)
    ablation.main(score=["fd_motion", "lse_d.level0"])
    own = scores["generated"]
    expected = f"| 0 | {own['fd_motion']:.3g} | {own['lse_d']['level0']:.3g} |"
    assert capsys.readouterr().out.splitlines()[-1] == expected
