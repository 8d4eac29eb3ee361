import pytest
import torch

from mssync.losses.contrastive import contrastive


def at(*values):
    return torch.tensor([[value, 0.0] for value in values])


def test_the_loss_is_syncnet_s():
    # distances: true 1 and 2, false 3 and 12, margin 10: (1 + 4 + 49 + 0) / (2 x 4 pairs)
    loss = contrastive(at(0, 0), at(1, 2), at(3, 12), margin=10.0)
    assert loss.item() == pytest.approx(54 / 8, rel=1e-5)


def test_false_pairs_beyond_the_margin_cost_nothing():
    motion = at(1, 2, 3)
    assert contrastive(motion, motion, motion + 10, margin=10.0) < 1e-6


def test_true_pairs_further_apart_cost_more():
    losses = [contrastive(at(0), at(d), at(20), margin=10.0) for d in (0.0, 1.0, 5.0)]
    assert losses[0] < losses[1] < losses[2]


def test_embeddings_that_coincide_still_have_a_finite_gradient():
    motion = at(1, 2).requires_grad_(True)
    contrastive(motion, at(1, 2), at(1, 2), margin=10.0).backward()
    assert torch.isfinite(motion.grad).all()


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="three equal shapes"):
        contrastive(at(0, 1), at(0, 1), at(0), margin=10.0)
