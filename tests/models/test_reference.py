"""The fast model computes what the plain one does, in double precision."""

import numpy as np
import pytest
import torch

from bench._reference import (
    ReferenceCritics,
    ReferenceGenerator,
    ReferenceTrainer,
    reference_sync,
)
from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.losses.sync import pyramid_sync_loss
from mssync.models.critics import Critics
from mssync.models.generator import Generator
from mssync.models.maps import GatheredMaps, affine
from mssync.params import TrainGenerator, load
from mssync.training.generator import Trainer
from mssync.training.group import Group
from tests.models import small

SIZE = small.GENERATOR | {"history_frames": 6, "branch_blocks": 2}


@pytest.fixture
def random():
    return torch.Generator().manual_seed(1)


@pytest.fixture(params=[False, True], ids=["papers", "sees_source"])
def generator(request):
    torch.manual_seed(0)
    model = Generator(**SIZE, sees_source=request.param, pull=0.1 * request.param).double()
    model.velocity_scale_X.fill_(0.05)
    return model


def critics():
    torch.manual_seed(0)
    return Critics(
        embedding_hidden=[12, 16],
        embedding=8,
        frame_hidden=4,
        state=8,
        projection=16,
        window_frames=[5, 10, 20],
    ).double()


def guide(level):
    return small.syncer(level).requires_grad_(False)


def faces(frames, random):
    return torch.rand(3, frames, 68, 2, generator=random, dtype=torch.float64)


def speech(frames, random):
    return torch.randn(3, 4 * frames, 26, generator=random, dtype=torch.float64)


def test_the_roll_out_is_the_references(generator, random):
    observed, audio = faces(3, random), speech(14, random)
    reference = ReferenceGenerator(generator)
    torch.testing.assert_close(generator(observed, audio), reference(observed, audio))


def test_generated_motion_is_the_references(generator, random):
    source, audio = faces(1, random)[:, 0], speech(20, random)
    reference = ReferenceGenerator(generator)
    torch.testing.assert_close(generator.generate(source, audio), reference.generate(source, audio))


def test_an_lstm_has_no_reference():
    with pytest.raises(ValueError, match="Transformer of one layer"):
        ReferenceGenerator(Generator(**SIZE | {"temporal_module": "lstm"}))


def test_the_critics_scores_and_gradients_are_the_references(random):
    ours, motion = critics(), faces(27, random)
    reference = ReferenceCritics(ours)
    gradients = []
    for module in (ours, reference):
        given = motion.clone().requires_grad_()
        frame_scores, sequence_scores = module(given[:, :2], given[:, 2:])
        (frame_scores.mean() + sequence_scores.square().mean()).backward()
        parameters = [parameter.grad for parameter in module.parameters()]
        gradients.append([frame_scores, sequence_scores, given.grad, *parameters])
    torch.testing.assert_close(*gradients)


def test_frozen_critics_hand_gradients_on_and_keep_none(random):
    module, motion = critics().requires_grad_(False), faces(27, random).requires_grad_()
    module(motion[:, :2], motion[:, 2:])[1].sum().backward()
    assert motion.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_sync_loss_is_the_references(random):
    guides = [guide(level).double() for level in range(4)]
    motion, audio = faces(43, random), speech(43, random)
    ours = pyramid_sync_loss(
        motion, audio, guides, kernel=7, generated=range(1, 43), valid_only=False
    )
    expected = reference_sync(motion, audio, guides, kernel=7, mean_BPD=motion.mean(dim=1))
    torch.testing.assert_close(ours.loss, expected)


def test_the_sync_loss_of_displacements_is_the_references(random):
    guides = [small.syncer(level, inputs="displacement").double() for level in range(4)]
    motion, audio, mean = faces(43, random), speech(43, random), faces(1, random)[:, 0]
    ours = pyramid_sync_loss(
        motion,
        audio,
        guides,
        kernel=7,
        generated=range(1, 43),
        valid_only=False,
        mean_BPD=mean,
    )
    expected = reference_sync(motion, audio, guides, kernel=7, mean_BPD=mean)
    torch.testing.assert_close(ours.loss, expected)


@pytest.mark.parametrize("module", ["transformer", "lstm"])
def test_gathered_gradients_are_those_of_every_step(module, random):
    torch.manual_seed(0)
    generator = Generator(**SIZE | {"temporal_module": module}).double()
    observed, audio = faces(3, random), speech(12, random)
    found = []
    for maps in (GatheredMaps(), affine):
        generator.zero_grad()
        generator(observed, audio, maps=maps)[:, -1].square().sum().backward()
        found.append([parameter.grad for parameter in generator.parameters()])
    torch.testing.assert_close(*found)


def test_gathered_gradients_follow_autocast():
    weight = torch.nn.Parameter(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    bias = torch.nn.Parameter(torch.zeros(4))
    x = torch.ones(2, 8, requires_grad=True)
    maps = GatheredMaps()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = [maps(x, weight, bias) for _ in range(3)]
    torch.stack(results).sum().backward()
    assert {result.dtype for result in results} == {torch.bfloat16}
    assert weight.grad.dtype == x.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, torch.full((4, 8), 6.0))
    torch.testing.assert_close(bias.grad, torch.full((4,), 6.0))
    torch.testing.assert_close(x.grad, 3 * weight.detach().sum(0).expand(2, 8), rtol=0.05, atol=0.1)


@pytest.fixture
def trainer_and_batch(root):
    section = load(root / "params.test.yaml").train_generator.model_dump()
    section |= {"augment": False, "loop": section["loop"] | {"max_grad_norm": 0.0}}
    rng = np.random.default_rng(0)
    walk = rng.normal(0, 0.004, (60, 68, 2)).cumsum(axis=0) + rng.uniform(0.3, 0.7, (1, 68, 2))
    audio = rng.normal(-5, 3, (240, 26))
    pack = pack_clips([Clip("c", "s", "train", walk.astype("f4"), audio.astype("f4"))])
    trainer = Trainer(
        pack.statistics,
        pack_clips([]),
        [guide(level) for level in range(4)],
        TrainGenerator.model_validate(section),
        kernel=7,
        seed=0,
        device=torch.device("cpu"),
        group=Group(),
    )
    return trainer, trainer.sequences(pack).draw(0, batch=3, seed=0, audio_range=None)


def test_an_iteration_has_the_references_losses_and_gradients(trainer_and_batch):
    trainer, batch = trainer_and_batch
    reference = ReferenceTrainer(
        trainer.generator, trainer.critics, trainer.guides, trainer.params, kernel=7
    )
    ours, theirs = trainer.train(batch, 0, report=False), reference.train(batch)
    for name, term in theirs.items():
        torch.testing.assert_close(ours[f"train/{name}"], term, rtol=1e-4, atol=1e-4, msg=name)
    for one, other in (
        (trainer.critics, reference.critics.inner),
        (trainer.generator.coordinates, reference.generator.coordinates),
        (trainer.generator.audio, reference.generator.audio),
        (trainer.generator.branches.mix, reference.generator.branches.mix),
        (trainer.generator.temporal.project, reference.generator.project),
        (trainer.generator.temporal.layers[0], reference.generator.transformer),
    ):
        for mine, its in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-3, atol=1e-5)
