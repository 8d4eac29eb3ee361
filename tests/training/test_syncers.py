import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mssync.data.pack import pack_clips
from mssync.errors import InputError, TrainingDivergedError
from mssync.landmarks import ibug
from mssync.params import load
from mssync.tracking import NullTracker
from mssync.trained import checkpoint
from mssync.trained.networks import load_evaluators, load_syncers
from mssync.training.group import Group
from mssync.training.syncers import train_evaluators, train_guides
from tests.history import History
from tests.talkers import talking_clip

ROOT = Path(__file__).parents[2]
ALONE = Group()
CPU = torch.device("cpu")
TINY = {
    "motion_stem": 24,
    "motion_widths": [24, 24, 24, 32],
    "audio_stem": 8,
    "audio_widths": [16, 16, 24, 32],
    "embedding": 16,
    "groups_per_step": 1,
    "learning_rate": 0.003,
    "learn_temperature": True,
    "augment": False,
    "guide_steps": [6, 0, 0, 0],
    "evaluator_steps": [6, 0, 0, 0],
}
LOOP = {
    "precision": "float32",
    "cuda_graph": True,
    "warmup_steps": 0,
    "decay": "constant",
    "max_grad_norm": 0.0,
    "ema_decay": 0.0,
    "validate_every_steps": 0,
    "patience": 0,
    "log_every_steps": 5,
    "checkpoint_every_steps": 2,
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks gain nothing by threads, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made():
    """Clips of the three splits."""
    return {
        "train": [talking_clip(number, 90) for number in range(4)],
        "val": [talking_clip(10, 60, "val")],
        "test": [talking_clip(20, 60, "test"), talking_clip(21, 60, "test")],
    }


@pytest.fixture(scope="module")
def clips():
    return made()


def tiny(**changes):
    shipped = load(ROOT / "params.yaml").train_syncers
    of_loop = {name: changes.pop(name) for name in LOOP.keys() & changes.keys()}
    loop = shipped.loop.model_copy(update=LOOP | of_loop)
    return shipped.model_copy(update=TINY | {"loop": loop} | changes)


def run(
    train,
    clips,
    out,
    *,
    tracker=None,
    key="key",
    seed=0,
    threads=1,
    group=ALONE,
    device=CPU,
    **changes,
):
    return train(
        {split: pack_clips(found) for split, found in clips.items()},
        tiny(**changes),
        key=key,
        group=group,
        seed=seed,
        device=device,
        threads=threads,
        tracker=tracker or NullTracker(),
        out=out,
    )


@pytest.fixture(scope="module")
def one_group():
    """Eight clips of one window each."""
    return {"train": [talking_clip(number, 5) for number in range(8)], "val": [], "test": []}


@pytest.mark.parametrize("train", [train_guides, train_evaluators])
def test_a_training_is_the_same_whatever_the_threads(train, clips, tmp_path):
    trained = []
    for threads in (0, 1, 3):
        history = History()
        out = tmp_path / str(threads)
        metrics = run(train, clips, out, tracker=history, threads=threads, augment=True)
        trained.append((metrics, history.values))
    assert trained[0] == trained[1] == trained[2]


def test_a_guide_memorises_one_group(one_group, tmp_path):
    history = History()
    metrics = run(train_guides, one_group, tmp_path, tracker=history, guide_steps=[100, 0, 0, 0])
    assert history.values[0]["guide/level0/loss"] > math.log(8)
    assert history.values[99]["guide/level0/loss"] < 0.05
    assert metrics["guide.level0.train.cross_clip.accuracy"] == 1.0
    assert metrics["guide.level0.train.cross_clip.windows"] == 8


def test_an_evaluator_memorises_one_group(one_group, tmp_path):
    history = History()
    metrics = run(
        train_evaluators,
        one_group,
        tmp_path,
        tracker=history,
        evaluator_steps=[300, 0, 0, 0],
        embedding=64,
        learning_rate=0.001,
    )
    for points in ("all", "no_lips"):
        assert history.values[0][f"evaluator/{points}/level0/loss"] > 10
        assert history.values[299][f"evaluator/{points}/level0/loss"] < 1
        assert metrics[f"evaluator.{points}.level0.train.cross_clip.accuracy"] == 1.0


def test_two_runs_are_equal_bit_for_bit(clips, tmp_path):
    for run_name in ("first", "second"):
        torch.rand(3)  # the state of torch's own generator makes no difference
        run(train_guides, clips, tmp_path / run_name, augment=True)
    first, second = (
        checkpoint.load(tmp_path / name / "guides/level0") for name in ("first", "second")
    )
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


def test_another_seed_gives_another_network(clips, tmp_path):
    run(train_guides, clips, tmp_path / "0")
    run(train_guides, clips, tmp_path / "1", seed=1)
    assert checkpoint.sha256(tmp_path / "0/guides/level0") != checkpoint.sha256(
        tmp_path / "1/guides/level0"
    )


def test_every_network_is_independent_of_the_others(clips, tmp_path):
    run(train_guides, clips, tmp_path / "both", guide_steps=[6, 6, 0, 0])
    run(train_guides, clips, tmp_path / "fewer", guide_steps=[2, 6, 0, 0])
    assert checkpoint.sha256(tmp_path / "both/guides/level1") == checkpoint.sha256(
        tmp_path / "fewer/guides/level1"
    )


def test_a_finished_network_is_not_trained_again(clips, tmp_path):
    first = run(train_guides, clips, tmp_path, guide_steps=[6, 6, 0, 0])
    written = (tmp_path / "guides/level0/weights.safetensors").stat().st_mtime_ns
    (tmp_path / "guides/level1/weights.safetensors").unlink()  # killed before it was finished
    history = History()
    second = run(train_guides, clips, tmp_path, guide_steps=[6, 6, 0, 0], tracker=history)
    assert second == first
    assert (tmp_path / "guides/level0/weights.safetensors").stat().st_mtime_ns == written
    assert {name for values in history.values.values() for name in values} == {
        "guide/level1/grad_norm",
        "guide/level1/loss",
        "guide/level1/temperature",
        "guide/level1/val_accuracy",
        "guide/level1/val_loss",
    }


@pytest.mark.parametrize("train", [train_guides, train_evaluators])
def test_a_network_killed_in_its_middle_goes_on_bit_for_bit(train, clips, tmp_path):
    settings = {
        "ema_decay": 0.9,
        "warmup_steps": 2,
        "decay": "linear",
        "validate_every_steps": 2,
        "patience": 3,
        "log_every_steps": 1,
        "checkpoint_every_steps": 2,
        "augment": True,
    }
    straight = run(train, clips, tmp_path / "straight", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(train, clips, tmp_path / "killed", tracker=History(killed_at=3), **settings)
    assert list((tmp_path / "killed").glob("**/.level0.resume/step-*"))
    history = History()
    assert run(train, clips, tmp_path / "killed", tracker=history, **settings) == straight
    first = "evaluator/all" if train is train_evaluators else "guide"
    assert f"{first}/level0/loss" not in history.values.get(1, {})
    assert f"{first}/level0/loss" in history.values[2]
    for weights in (tmp_path / "straight").glob("**/weights.safetensors"):
        other = tmp_path / "killed" / weights.relative_to(tmp_path / "straight")
        assert other.read_bytes() == weights.read_bytes()
    assert not list((tmp_path / "killed").glob("**/.level*"))


def test_another_key_trains_again(clips, tmp_path):
    run(train_guides, clips, tmp_path)
    history = History()
    run(train_guides, clips, tmp_path, key="other", tracker=history)
    assert sorted(history.values) == [0, 5]
    assert checkpoint.load(tmp_path / "guides/level0")[1]["key"] == "other"


def test_a_level_left_out_leaves_no_old_checkpoint(clips, tmp_path):
    run(train_guides, clips, tmp_path, guide_steps=[6, 6, 0, 0])
    metrics = run(train_guides, clips, tmp_path, key="other")
    assert not (tmp_path / "guides/level1").exists()
    assert metrics["guide.level1.skipped"] == 1.0


@pytest.mark.parametrize("key", ["key", "other"])
def test_what_a_killed_save_left_does_not_stay(clips, tmp_path, key):
    run(train_guides, clips, tmp_path)
    for level in (0, 1):
        (tmp_path / f"guides/.level{level}.writing").mkdir()
        (tmp_path / f"guides/.level{level}.previous").mkdir()
    run(train_guides, clips, tmp_path, key=key)
    assert [path.name for path in (tmp_path / "guides").iterdir()] == ["level0"]


def test_a_level_without_a_group_is_skipped_and_says_so(clips, tmp_path, caplog):
    short = {**clips, "train": [talking_clip(number, 60) for number in range(3)]}
    with caplog.at_level(logging.WARNING):
        metrics = run(train_guides, short, tmp_path, guide_steps=[6, 0, 0, 6])
    assert metrics["guide.level3.skipped"] == 1.0
    assert not (tmp_path / "guides/level3").exists()
    assert "guide/level3: skipped. A cross_clip group takes 4 windows, found 0" in caplog.text


def test_both_held_out_splits_are_scored_on_both_kinds_of_pairs(clips, tmp_path):
    metrics = run(train_guides, clips, tmp_path)
    for split, windows in (("val", 12), ("test", 24)):
        for pairs in ("cross_clip", "same_clip"):
            name = f"guide.level0.{split}.{pairs}"
            low, value, high = (metrics[f"{name}.{k}"] for k in ("low", "accuracy", "high"))
            assert low <= value <= high
            assert metrics[f"{name}.windows"] + metrics[f"{name}.dropped"] == windows
    assert metrics["guide.level0.test.cross_clip.chance"] == pytest.approx(1 / 24)
    assert metrics["guide.level0.test.same_clip.chance"] == pytest.approx(1 / 12)
    assert not any(".train." in name for name in metrics)


def test_without_a_validation_speaker_train_is_scored_and_said_so(clips, tmp_path, caplog):
    metrics = run(train_guides, {**clips, "val": []}, tmp_path)
    assert "no speaker in val" in caplog.text
    assert "guide.level0.train.cross_clip.accuracy" in metrics


def test_a_split_without_a_group_counts_no_window(clips, tmp_path):
    metrics = run(train_guides, {**clips, "test": [talking_clip(30, 20, "test")]}, tmp_path)
    assert metrics["guide.level0.test.cross_clip.accuracy"] >= 0  # 4 windows
    metrics = run(
        train_guides, {**clips, "test": [talking_clip(30, 18, "test")]}, tmp_path, key="other"
    )
    assert metrics["guide.level0.test.cross_clip.windows"] == 0
    assert metrics["guide.level0.test.cross_clip.dropped"] == 3
    assert "guide.level0.test.cross_clip.accuracy" not in metrics


def test_guides_and_evaluators_differ_in_seed_embedding_and_loss(clips, tmp_path):
    run(train_guides, clips, tmp_path)
    run(train_evaluators, clips, tmp_path)
    guide, guide_facts = checkpoint.load(tmp_path / "guides/level0")
    evaluator, evaluator_facts = checkpoint.load(tmp_path / "evaluators/all/level0")
    assert not torch.allclose(
        guide["audio_tower.head.weight"], evaluator["audio_tower.head.weight"], atol=0.1
    )
    assert guide_facts["config"]["normalise"]
    assert not evaluator_facts["config"]["normalise"]
    assert (guide_facts["loss"], evaluator_facts["loss"]) == ("info_nce", "contrastive")
    assert 0 < guide_facts["temperature"] < 1
    assert evaluator_facts["temperature"] is None


def test_evaluators_of_the_sets_that_are_asked_for_are_there_and_no_others(clips, tmp_path):
    asked = {"evaluator_steps": [2, 0, 0, 0]}
    found = run(train_evaluators, clips, tmp_path, evaluator_points=["all", "lips"], **asked)
    assert {name.split(".")[1] for name in found} == {"all", "lips"}
    evaluators = load_evaluators(tmp_path / "evaluators", torch.device("cpu"))
    assert {points: judges[0].points for points, judges in evaluators.items()} == {
        "all": tuple(range(68)),
        "lips": tuple(ibug.LIPS),
    }
    run(train_evaluators, clips, tmp_path, evaluator_points=["all"], **asked)
    assert list(load_evaluators(tmp_path / "evaluators", torch.device("cpu"))) == ["all"]


def test_a_checkpoint_says_what_it_was_made_from(clips, tmp_path):
    run(train_evaluators, clips, tmp_path)
    facts = json.loads((tmp_path / "evaluators/no_lips/level0/checkpoint.json").read_text())
    assert (facts["level"], facts["points"], facts["steps"]) == (0, "no_lips", 6)
    assert facts["config"]["points"] == list(range(48))
    assert (facts["pairs"], facts["group_size"], facts["windows"]) == ("cross_clip", 48, 4 * 86)


def test_syncers_load_frozen_and_lowest_level_first(clips, tmp_path):
    run(train_guides, clips, tmp_path, guide_steps=[2, 2, 0, 2], cross_clip_group=4)
    syncers = load_syncers(tmp_path / "guides", torch.device("cpu"))
    assert [syncer.level for syncer in syncers] == [0, 1, 3]
    for syncer in syncers:
        assert not syncer.training
        assert not any(parameter.requires_grad for parameter in syncer.parameters())
        assert not torch.equal(syncer.audio_norm.std_C, torch.ones(26))


def test_a_folder_without_syncers_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no syncer"):
        load_syncers(tmp_path, torch.device("cpu"))


def test_inputs_stay_raw_when_standardising_is_off(clips, tmp_path):
    run(train_guides, clips, tmp_path, standardise=False)
    (syncer,) = load_syncers(tmp_path / "guides", torch.device("cpu"))
    assert torch.equal(syncer.audio_norm.std_C, torch.ones(26))


def test_a_loss_that_is_not_finite_stops_the_training(clips, tmp_path):
    broken = replace(clips["train"][0], audio_AM=np.full((360, 26), np.nan, np.float32))
    what = r"guide/level0: step 0: .*loss.*nan.*train_syncers\.learning_rate"
    with pytest.raises(TrainingDivergedError, match=what):
        run(train_guides, {**clips, "train": [broken]}, tmp_path)
    assert not (tmp_path / "guides/level0").exists()
