import pytest
import torch

from mssync.losses import gan


def test_a_critic_that_tells_them_apart_pays_nothing():
    assert gan.critic_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -9.0])) == 0


def test_a_critic_that_cannot_tell_pays_two():
    assert gan.critic_loss(torch.zeros(4), torch.zeros(4)) == 2


def test_confusing_real_and_fake_costs_the_critic_more():
    scores = torch.tensor([0.5, 2.0])
    assert gan.critic_loss(-scores, scores) > gan.critic_loss(scores, -scores)


def test_the_generator_pays_less_the_more_real_it_looks():
    assert gan.generator_loss(torch.tensor([1.0, 2.0])).item() == pytest.approx(-1.5)
    assert gan.generator_loss(torch.ones(2)) < gan.generator_loss(-torch.ones(2))
