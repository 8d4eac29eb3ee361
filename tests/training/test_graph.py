"""A recorded step runs no Python: it must wait for nothing and bring nothing to the GPU."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mssync.training import generator, syncers
from mssync.training.syncers import train_evaluators, train_guides
from tests.models import small
from tests.training import test_generator, test_syncers

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"}
BRINGS = {"aten::lift_fresh"}


class Watch(TorchDispatchMode):
    """Names of the operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.name().split(".")[0])
        return function(*args, **(kwargs or {}))


@contextmanager
def watched(monkeypatch, step_of):
    """Operations of every step but the first of each network."""
    found, begun = Watch(), set()
    plain = step_of._step

    def step(self, batch, **options):
        if id(self) not in begun:
            begun.add(id(self))
            return plain(self, batch, **options)
        with found:
            return plain(self, batch, **options)

    monkeypatch.setattr(step_of, "_step", step)
    yield found.names


def test_the_watch_sees_what_it_should():
    with Watch() as watch:
        torch.tensor([1, 2])
        torch.ones(()).item()
    assert watch.names & WAITS
    assert watch.names & BRINGS


def test_a_step_of_the_generator_can_be_recorded(tmp_path, monkeypatch):
    params = test_generator.settings(test_generator.EVERY, steps=3)
    with watched(monkeypatch, generator.Trainer) as names:
        test_generator.train(tmp_path, params, guides=[small.syncer(0), small.syncer(1)])
    assert "aten::addmm" in names
    assert not names & (WAITS | BRINGS)


@pytest.mark.parametrize("train", [train_guides, train_evaluators])
def test_a_step_of_a_syncer_can_be_recorded(train, tmp_path, monkeypatch):
    with watched(monkeypatch, syncers._Training) as names:
        test_syncers.run(train, test_syncers.made(), tmp_path, augment=True)
    assert "aten::addmm" in names
    assert not names & (WAITS | BRINGS)
