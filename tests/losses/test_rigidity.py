import numpy as np
import pytest
import torch

from mssync.landmarks.ibug import LIPS, RIGID
from mssync.losses.rigidity import rigidity, rigidity_loss


@pytest.fixture
def source():
    return torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0))


def test_turning_shrinking_and_moving_cost_nothing(source):
    affine = torch.tensor([[0.7, 0.2], [-0.3, 1.1]])
    moved = (source @ affine + 0.1)[:, None]
    assert rigidity_loss(moved, source) < 1e-10


def test_speaking_costs_nothing(source):
    motion = source[:, None].repeat(1, 5, 1, 1)
    motion[:, :, list(LIPS)] += 0.1 * torch.rand(2, 5, 20, 2)
    assert rigidity_loss(motion, source) < 1e-10


def test_a_face_that_comes_apart_costs(source):
    motion = source[:, None].clone()
    motion[:, :, 30] += 0.1
    assert rigidity_loss(motion, source) > 1e-4


def test_it_is_what_least_squares_leaves_over(source):
    motion = torch.rand(2, 3, 68, 2, generator=torch.Generator().manual_seed(1))
    squares = np.zeros((2, 3))
    for clip in range(2):
        basis = np.c_[source[clip, list(RIGID)].numpy(), np.ones(len(RIGID))]
        for frame in range(3):
            target = motion[clip, frame, list(RIGID)].numpy()
            squares[clip, frame] = np.linalg.lstsq(basis, target, rcond=None)[1].sum() / len(RIGID)
    assert rigidity_loss(motion, source).item() == pytest.approx(squares.mean(), rel=1e-4)
    np.testing.assert_allclose(rigidity(motion, source), np.sqrt(squares.mean(axis=1)), rtol=1e-4)


def test_gradients_pull_the_points_that_came_apart(source):
    motion = source[:, None].clone()
    motion[:, :, 30] += 0.1
    motion.requires_grad_()
    rigidity_loss(motion, source).backward()
    assert (motion.grad[:, :, 30] > 0).all()
    assert motion.grad[:, :, list(LIPS)].abs().max() == 0
