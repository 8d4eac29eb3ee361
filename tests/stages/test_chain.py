"""All eight stages on eight small clips: real files, the real detector, real training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import torch

from bench import ablation
from mssync import records, tracking, versions
from mssync.cli import stages as commands
from mssync.data import dataset, history
from mssync.data.pack import open_pack, pack_clips
from mssync.download.takedown import EMPTY
from mssync.errors import InputError, ToolError
from mssync.landmarks import ibug
from mssync.ledger import ATTEMPTS, DECISIONS, read_decisions
from mssync.media.store import MediaStore
from mssync.params import digest, text
from mssync.parts import read_parts
from mssync.render import payload
from mssync.render.plots import number
from mssync.render.report import summary
from mssync.stages import (
    _gate,
    _model_card,
    _reproduce,
    download_videos,
    evaluate,
    extract_audio,
    promote,
    train_generator,
)
from mssync.stages._training import tracked
from mssync.trained import checkpoint
from tests.chain import run_chain
from tests.mlflow_server import Server


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


def test_the_gallery_shows_every_system_with_its_synchrony_over_time(chain):
    folder = chain.folder / "evaluation"
    shown = payload.read(folder / "gallery" / "index.html")
    assert len(shown) == chain.params.evaluate.gallery_clips
    for clip in shown:
        assert list(clip.motions) == ["Ground truth", "Generated", "Retrieval"]
        assert len(clip.waveform) == clip.frames * 640
        for trace in clip.traces:
            assert trace.systems.keys() == clip.motions.keys()
    assert {path.suffix for path in (folder / "plots").iterdir()} == {".svg"}
    assert (chain.folder / "models" / "syncers" / "accuracy.svg").exists()


def test_scores_of_sequences_have_the_means_of_the_metrics(chain):
    metrics = json.loads((chain.folder / "evaluation" / "metrics.json").read_text())
    sequences = json.loads((chain.folder / "evaluation" / "sequences.json").read_text())
    assert len(sequences["sequences"]) == metrics["sequences"]
    lips = sequences["scores"]["generated"]["lse_d.all.level0"]
    mean = metrics["challenger"]["metrics"]["lse_d"]["all"]["level0"]["value"]
    assert np.mean(lips) == pytest.approx(mean)
    rigid = metrics["challenger"]["metrics"]["rigidity"]
    for system, name in (("generated", "value"), ("ground_truth", "ground_truth")):
        assert np.mean(sequences["scores"][system]["rigidity"]) == pytest.approx(rigid[name])


def test_every_run_says_where_it_comes_from(chain, tracked_runs):
    runs = {run.info.run_name: run for run in tracked_runs(chain.folder)}
    assert sorted(runs) == ["train-generator", "train-syncers"]
    revision = dataset.load_metadata(chain.folder / "data" / "dataset")["revision"]
    for run in runs.values():
        assert run.data.tags["dataset_revision"] == revision
        assert run.info.status == "FINISHED"
        for tag in ("git_sha", "git_dirty", "params_hash", "seed"):
            assert run.data.tags[tag]
        assert not {"image_digest", "kfp_run_id"} & set(run.data.tags)
    evaluated = [name for name in runs["train-generator"].data.metrics if name[:5] == "eval."]
    assert "eval.lse_d.all.level0.value" in evaluated
    assert not [name for name in evaluated if name.endswith((".low", ".n", ".ground_truth"))]


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
    for page in ("promotion/index.html", "evaluation/gallery/index.html"):
        assert str(chain.folder / page) in text
        assert (chain.folder / page).is_file()
    assert "Decision: " in text


def test_applying_a_promotion_makes_a_champion_that_the_next_evaluation_meets(chain):
    folder, params = chain.folder, chain.params
    decision_file = folder / "promotion" / "decision.json"
    decision = json.loads(decision_file.read_text()) | {"decision": _gate.PROMOTE}
    decision_file.write_text(json.dumps(decision))
    metrics = folder / "evaluation" / "metrics.json"
    for _ in range(2):
        version = promote.apply(decision_file, metrics, params.promote, params.paths)
        assert version == "1"
    other = folder / "other.json"
    other.write_text(
        json.dumps(decision | {"challenger": decision["challenger"] | {"sha256": "0" * 64}})
    )
    with pytest.raises(InputError, match="taken against no champion, the registry's champion is"):
        promote.apply(other, metrics, params.promote, params.paths)
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
    assert equal["decision"] == _gate.REFUSE
    assert {row["gain"] for row in equal["metrics"].values()} <= {0, None}  # some have no judge
    assert set(equal["metrics"]) == set(params.promote.metrics)

    assert promote.apply(folder / "d.json", metrics, params.promote, params.paths) is None
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    version = client.get_model_version(params.paths.model_name, "1")
    assert version.tags["gate.decision"] == "promote"
    assert version.tags["gate.reason"] == decision["reason"]
    assert version.tags["gate.scored_by.test_set"] == report["challenger"]["scored_by"]["test_set"]
    run = client.get_run(version.run_id)
    assert run.data.tags["gate.decision"] == "refuse"
    assert run.data.tags["gate.reason"] == equal["reason"]
    assert run.data.tags[f"gate.gain.{params.promote.metric}"] == "held: 0.0 (0.0 to 0.0)"


def test_a_rollback_moves_the_alias_back_and_the_model_it_left_is_not_promoted_again(
    chain, registered, tmp_path
):
    folder, paths = chain.folder, chain.params.paths
    generator = tmp_path / "generator"
    train_generator.run(
        folder / "data" / "dataset",
        folder / "models" / "syncers",
        generator,
        chain.params.train_generator,
        run=chain.params.run.model_copy(update={"seed": 1}),
        paths=paths,
        params_hash="another",
    )
    second = {"sha256": checkpoint.sha256(generator / "generator"), "value": 1.0}
    first = {"version": registered.version.version, **registered.decision["challenger"]}
    decision = tmp_path / "decision.json"
    decided = registered.decision | {"decision": "promote", "challenger": second}
    decision.write_text(json.dumps(decided | {"champion": first}))
    given = (decision, folder / "evaluation" / "metrics.json", chain.params.promote, paths)
    assert promote.apply(*given) == promote.apply(*given) == "2"
    assert tracking.champion(paths.tracking_uri, paths.model_name).sha256 == second["sha256"]

    roll = {"uri": paths.tracking_uri, "model_name": paths.model_name, "reason": "lips stick"}
    assert tracking.roll_back(**roll, to="") == ("2", "1")
    assert tracking.champion(paths.tracking_uri, paths.model_name).sha256 == first["sha256"]
    with pytest.raises(InputError, match=r"version 2 .* was rolled back \(lips stick\)"):
        promote.apply(*given)
    with pytest.raises(InputError, match="replaced none: name a version with --to"):
        tracking.roll_back(**roll, to="")
    with pytest.raises(ToolError, match="cannot be used"):
        tracking.roll_back(**roll, to="9")
    assert tracking.roll_back(**roll, to="2") == ("1", "2")
    assert promote.apply(*given) == "2"
    assert tracking.roll_back(**roll, to="1") == ("2", "1")


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
    # not the number of steps: the weights of an earlier one may be the best, and nothing new
    change = "train_generator.generator_learning_rate=0.003"
    told = versions.dvc(repository, "exp", "run", "--name", "faster", "--set-param", change)
    ran = [line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage")]
    assert ran == ["train-generator", "evaluate", "promote"]

    scores = json.loads((repository / "evaluation" / "scores.json").read_text())
    monkeypatch.chdir(repository)
    ablation.main(score=["fd_motion", "lse_d.level0"])
    own = scores["generated"]
    expected = f"| 0 | {own['fd_motion']:.3g} | {own['lse_d']['level0']:.3g} |"
    assert capsys.readouterr().out.splitlines()[-1] == expected


@pytest.fixture
def trained(repository, chain, monkeypatch):
    """A run of the generator that the repository's own code made, and how to call that code."""
    monkeypatch.setenv("MSSYNC_MEDIA", str(chain.folder / "store"))
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    for stage in ("train-generator", "evaluate"):
        versions.dvc(repository, "repro", "--force", "--single-item", stage)
    monkeypatch.chdir(repository)
    [run_id] = json.loads((repository / "run.json").read_text()).values()
    return run_id


def test_a_run_is_reproduced_from_its_id_alone(trained, repository, chain):
    paths = chain.params.paths
    (repository / "params.yaml").write_text("not: what it ran with\n")
    shutil.rmtree(repository / "data" / "dataset")
    (repository / "elsewhere.yaml").write_text(text(chain.params))
    told = subprocess.run(
        [
            *(sys.executable, "-m", "mssync", "reproduce", trained),
            *("--out", "runs/again", "--params", "elsewhere.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "weights: the same" in told.stdout
    found = json.loads((repository / "runs" / "again" / "reproduction.json").read_text())
    assert found["equal"]
    assert found["weights_equal"]
    assert found["incomplete"] == []
    assert found["compared"] > 50
    assert (
        len(tracking.find_run(paths.tracking_uri, trained, model_name=paths.model_name).metrics)
        >= found["compared"]
    )

    out = repository / "runs" / "again"
    client = mlflow.MlflowClient(f"sqlite:///{repository / 'mlflow.db'}")
    client.log_metric(trained, "eval.rigidity.value", 0.5, step=1)
    (repository / "params.yaml").write_text(text(chain.params))
    origin = _reproduce._origin(trained, paths, repository, repository.parent)
    other = _reproduce._compare(out, origin, 0.0)
    assert not other["equal"]
    assert list(other["differences"]) == ["eval.rigidity.value"]
    given = {"paths": paths, "workspace": repository, "tolerance": 0.0}
    with pytest.raises(InputError, match="again exists"):
        _reproduce.run(trained, out, mark_incomplete=False, **given)

    client.set_tag(trained, "git_dirty", "true")
    with pytest.raises(InputError, match=r"its code was changed since.*--incomplete mark"):
        _reproduce.run(trained, repository / "x", mark_incomplete=False, **given)
    history.mark_lost(repository / "data" / "versions", [origin.revision])
    for mark in (False, True):
        with pytest.raises(InputError, match="were purged for a takedown"):
            _reproduce.run(trained, repository / "x", mark_incomplete=mark, **given)
    client.delete_tag(trained, "git_sha")
    with pytest.raises(InputError, match="has no tag git_sha"):
        _reproduce.run(trained, repository / "x", mark_incomplete=True, **given)
    assert not (repository / "x").exists()


@pytest.fixture
def registered(chain):
    """The registered version and its card, as the run holds it."""
    folder, params = chain.folder, chain.params
    decision = json.loads((folder / "promotion" / "decision.json").read_text())
    chosen = folder / "chosen.json"
    chosen.write_text(json.dumps(decision | {"decision": _gate.PROMOTE}))
    metrics = folder / "evaluation" / "metrics.json"
    number = promote.apply(chosen, metrics, params.promote, params.paths)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    version = client.get_model_version(params.paths.model_name, number)
    path = client.download_artifacts(version.run_id, tracking.MODEL_CARD)
    return SimpleNamespace(version=version, card=Path(path).read_text(), decision=decision)


def test_the_card_of_a_registered_model_tells_what_the_files_tell(chain, registered):
    card, decision = registered.card, registered.decision
    tensors, sizes = checkpoint.load(chain.folder / "models" / "generator" / "generator")
    metrics = json.loads((chain.folder / "evaluation" / "metrics.json").read_text())
    assert f"| parameters | {sum(each.numel() for each in tensors.values()):,} |" in card
    assert f"| steps | {sizes['steps']} |" in card
    assert f"Weights `{decision['challenger']['sha256']}`" in card
    assert f"Revision `{decision['dataset_revision']}`" in card
    assert "| train | 5 | 5 | 0." in card
    assert "public domain (portrait: NASA; sound: synthetic)" in card
    assert "8 of the dataset's clips are synthetic" in card
    assert digest(chain.params) in card
    entry = metrics["challenger"]["metrics"]["lse_d"]["all"]["level0"]
    shown = [number(entry[name]) for name in ("value", "low", "high", "ground_truth", "static")]
    [row] = [line for line in card.splitlines() if line.startswith("| all points | 0 |")][:1]
    assert row.startswith("| all points | 0 | {} ({} to {}) | {} |".format(*shown))
    assert shown[4] in row
    assert row.endswith(f"| n/a | {entry['n']} |" if entry["normalised"] is None else "|")
    assert row.endswith(f"| {entry['n']} |")
    assert "There was no champion to compare with." in card
    assert "Container image: none" in card


def test_the_command_explains_what_it_decided(chain, root, tmp_path, capsys):
    commands.promote(
        metrics=chain.folder / "evaluation" / "metrics.json",
        out=tmp_path / "decision.json",
        explain=True,
        params=root / "params.test.yaml",
    )
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("promote: there is no champion; lse_d.all.level0.value is ")
    assert told[2].split()[:2] == ["metric", "better"]
    assert told[3].startswith("lse_d.all.level0.value")
    assert told[3].endswith("better")
    assert "speakers; intervals of 95%; version 1 of the metrics" in told[-1]


def test_the_description_of_a_version_is_as_much_of_the_card_as_a_database_holds(registered):
    description, card = registered.version.description, registered.card
    assert len(description) <= 5000
    assert description.split("\n## ")[:4] == card.split("\n## ")[:4]
    assert "## Consent and misuse" in description
    assert description.rstrip().endswith("`model_card.md`.*")


def test_what_the_card_says_of_loading_works(chain, registered, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{chain.folder / 'mlflow.db'}")
    mlflow.set_tracking_uri(None)
    code = registered.card.split("```python\n")[1].split("```")[0]
    clip = dataset.load_clips(chain.folder / "data" / "dataset")["test"][0]
    given = {
        "source_BPD": torch.from_numpy(clip.motion_TPD[:1]),
        "audio_BAM": torch.from_numpy(clip.audio_AM[None]),
    }
    exec(code, given)
    assert given["motion_BTPD"].shape == (1, len(clip.motion_TPD), 68, 2)


def test_a_card_says_what_is_missing(chain, registered, tmp_path):
    card = _model_card.card(
        registered.decision,
        workspace=tmp_path,
        metrics=tmp_path / "metrics.json",
        run_id=registered.version.run_id,
        artifact="generator",
        paths=chain.params.paths,
    )
    missing = card.split("## Missing from this card")[1]
    assert "Sizes and parameters: there is no models/generator/generator." in missing
    for what in ("Scores", "Splits", "Licences, languages"):
        assert f"- {what}: " in missing
    assert "| parameters | not known |" in card
    assert "## Scores\n\nNot known." in card


def test_a_model_trained_without_a_server_is_promoted_once_there_is_one(
    chain, tmp_path, monkeypatch
):
    """Training, scoring and deciding end; the registry is written when the server has come."""
    server = Server(tmp_path / "server")
    folder, params = chain.folder, chain.params
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "data").symlink_to(folder / "data")
    monkeypatch.chdir(workspace)
    paths = params.paths.model_copy(update={"tracking_uri": server.uri})
    train_generator.run(
        folder / "data" / "dataset",
        folder / "models" / "syncers",
        workspace / "models" / "generator",
        params.train_generator,
        run=params.run,
        paths=paths,
        params_hash=digest(params),
    )
    sha256 = checkpoint.sha256(workspace / "models" / "generator" / "generator")
    assert tracking.recall_run(sha256) is None
    decided = json.loads((folder / "promotion" / "decision.json").read_text())
    chosen = workspace / "decision.json"
    chosen.write_text(
        json.dumps(
            decided | {"decision": _gate.PROMOTE, "challenger": {"sha256": sha256, "value": None}}
        )
    )
    metrics = folder / "evaluation" / "metrics.json"
    with pytest.raises(ToolError, match="cannot be used"):
        promote.apply(chosen, metrics, params.promote, paths)
    try:
        server.start()
        assert promote.apply(chosen, metrics, params.promote, paths) == "1"
        [run] = server.runs(paths.experiment)
        steps = [step for step, _ in server.history(run, "train/loss")]
        assert steps == list(range(params.train_generator.steps))
        assert run.info.status == "FINISHED"
        assert tracking.champion(server.uri, paths.model_name).sha256 == sha256
    finally:
        server.stop()


def test_only_the_first_process_of_a_training_tracks(chain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    with tracked(
        "train_generator",
        chain.params.train_generator,
        run=chain.params.run,
        paths=chain.params.paths,
        params_hash="hash",
        key="key",
        dataset_revision="revision",
    ) as tracker:
        tracker.log({"loss": 1.0}, 0)
        tracker.tag({"name": "value"})
        tracker.log_files(chain.folder / "data" / "sources.csv", "list")
        tracker.made("0" * 64)
    assert list(tmp_path.iterdir()) == []
