"""The cluster's parameters are the paper's: counted on modules that the training itself builds."""

import shutil

import numpy as np
import pytest
import torch
import yaml

from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.params import TrainGenerator, TrainSyncers, load
from mssync.tracking import NullTracker
from mssync.trained.networks import load_syncers
from mssync.training import generator
from mssync.training.group import Group
from mssync.training.syncers import train_guides

SHIPPED = ["params.cluster.yaml", "params.test.yaml", "params.yaml"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cluster(root):
    return load(root / "params.cluster.yaml")


@pytest.fixture(scope="module")
def clips(cluster):
    rng = np.random.default_rng(0)
    bands = cluster.extract_audio.mel_bands

    def clip(number):
        motion = rng.uniform(0.2, 0.8, (200, 68, 2)).astype(np.float32)
        audio = rng.normal(-6, 3, (800, bands)).astype(np.float32)
        return Clip(f"clip{number}", f"speaker{number}", "train", motion, audio)

    return pack_clips([clip(number) for number in range(3)])


@pytest.fixture(scope="module")
def guides(cluster, clips, tmp_path_factory):
    """One step of each level, as `train-syncers` makes it: built, trained, saved, loaded."""
    out = tmp_path_factory.mktemp("syncers")
    section = cluster.train_syncers.model_dump() | {"guide_steps": [1] * 4, "groups_per_step": 1}
    train_guides(
        {"train": clips, "val": pack_clips([]), "test": pack_clips([])},
        TrainSyncers.model_validate(section),
        key="key",
        seed=0,
        device=CPU,
        threads=1,
        tracker=NullTracker(),
        out=out,
        group=Group(),
    )
    loaded = load_syncers(out / "guides", CPU)
    shutil.rmtree(out)  # pytest would keep 190 MB of weights
    return loaded


@pytest.fixture(scope="module")
def trainer(cluster, clips, guides):
    section = cluster.train_generator.model_dump() | {"batch": 1}
    return generator.Trainer(
        clips.statistics,
        pack_clips([]),
        guides,
        TrainGenerator.model_validate(section),
        kernel=cluster.train_syncers.kernel,
        seed=0,
        device=CPU,
        group=Group(),
    )


METRICS = ("metrics", "first")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def keys(node):
    """Names of all settings, without their values; which metrics the gate compares is a value."""
    if not isinstance(node, dict):
        return None
    return {name: None if name in METRICS else keys(value) for name, value in node.items()}


def test_every_shipped_parameter_file_is_known_here(root):
    assert sorted(path.name for path in root.glob("params*.yaml")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_parameter_file_has_the_same_keys_in_the_same_order(root, name):
    content = yaml.safe_load((root / name).read_text())
    expected = yaml.safe_load((root / "params.yaml").read_text())
    assert keys(content) == keys(expected)
    assert list(content) == list(expected)


def test_every_level_has_a_guide_of_the_papers_size(guides):
    assert [guide.level for guide in guides] == [0, 1, 2, 3]
    assert [count(guide) for guide in guides] == [12_081_124] * 4


def test_the_generator_has_the_papers_size(trainer):
    assert count(trainer.generator) == 35_597_272


def test_the_critics_have_the_papers_size(trainer):
    assert count(trainer.critics) == 24_270_315


def test_the_papers_sizes_take_a_step_with_every_term_of_the_loss(trainer, clips, cluster):
    batch = trainer.sequences(clips).draw(0, batch=1, seed=0, audio_range=9.0)
    terms = trainer.train(batch, 0, report=True)
    assert {f"train/{name}" for name in cluster.train_generator.weights.model_dump()} <= set(terms)
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_numbers_of_the_training_are_the_papers(cluster):
    syncers, section = cluster.train_syncers, cluster.train_generator
    assert (syncers.learning_rate, syncers.weight_decay) == (1e-5, 4e-5)
    assert syncers.guide_steps[1:] == [5_000_000, 1_100_000, 200_000]
    assert (syncers.temperature, syncers.learn_temperature) == (1, False)
    assert (syncers.margin, syncers.margin_growth, syncers.max_margin) == (1e-3, 1.002, 0.4)
    assert (section.batch, section.steps) == (50, 84_000)
    assert (section.generator_learning_rate, section.critic_learning_rate) == (2e-5, 1e-5)
    assert (section.observed_frames, section.predicted_frames) == (3, 40)
    assert section.context_frames == 0
    assert syncers.guide_inputs == syncers.evaluator_inputs == "absolute"
    assert syncers.optimiser == "adam"
    for settings in (syncers.loop, section.loop):
        assert (settings.warmup_steps, settings.decay) == (0, "constant")
        assert (settings.precision, settings.ema_decay, settings.patience) == ("float32", 0, 0)


def test_the_cluster_asks_for_cuda_and_for_the_detector_that_uses_it(cluster):
    assert cluster.run.device == "cuda"
    assert cluster.extract_landmarks.backend == "face_alignment"
