import math

import pytest
import torch
import torch.nn.functional as F

from mssync.losses.infonce import Temperature, info_nce, margin_at


def unit(*shape, seed):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize(("windows", "chance"), [(48, 7.742), (12, 4.970)])
def test_random_embeddings_cost_chance(windows, chance):
    motion, audio = unit(64, windows, 512, seed=0), unit(64, windows, 512, seed=1)
    loss = info_nce(motion, audio, temperature=1.0, margin=0.0)
    assert 2 * math.log(windows) == pytest.approx(chance, abs=5e-4)
    assert loss.item() == pytest.approx(chance, abs=0.005)


def test_motion_in_sync_costs_almost_nothing():
    embedding = unit(2, 12, 64, seed=0)
    assert info_nce(embedding, embedding, temperature=0.05, margin=0.0) < 1e-3


def test_late_motion_costs_more_than_chance():
    embedding = unit(2, 12, 64, seed=0)
    loss = info_nce(embedding.roll(1, dims=1), embedding, temperature=0.1, margin=0.0)
    assert loss > 2 * math.log(12) + 1


def test_both_directions_are_summed():
    motion, audio = unit(3, 8, 16, seed=0), unit(3, 8, 16, seed=1)
    expected = 0.0
    for group in range(3):
        cosines = motion[group] @ audio[group].T
        for scores in (cosines, cosines.T):
            own = (scores / 0.5).log_softmax(dim=1).diagonal()
            expected -= own.mean().item() / 3
    loss = info_nce(motion, audio, temperature=0.5, margin=0.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    swapped = info_nce(audio, motion, temperature=0.5, margin=0.0)
    assert swapped.item() == pytest.approx(expected, rel=1e-5)


def test_a_margin_makes_true_pairs_harder():
    embedding = unit(2, 12, 64, seed=0)
    losses = [info_nce(embedding, embedding, temperature=0.2, margin=m) for m in (0.0, 0.2, 0.4)]
    assert losses[0] < losses[1] < losses[2]


def test_groups_do_not_touch_each_other():
    motion, audio = unit(2, 8, 16, seed=0), unit(2, 8, 16, seed=1)
    apart = [info_nce(motion[i : i + 1], audio[i : i + 1], temperature=1, margin=0) for i in (0, 1)]
    together = info_nce(motion, audio, temperature=1, margin=0)
    torch.testing.assert_close(together, torch.stack(apart).mean())


@pytest.mark.parametrize(("motion", "audio"), [((2, 4, 8), (2, 5, 8)), ((1, 1, 8), (1, 1, 8))])
def test_groups_that_cannot_be_compared_are_refused(motion, audio):
    with pytest.raises(ValueError, match="need one shape"):
        info_nce(torch.rand(motion), torch.rand(audio), temperature=1.0, margin=0.0)


def test_a_learned_temperature_has_one_parameter_and_falls_when_pairs_are_clear():
    temperature = Temperature(0.5, learn=True)
    embedding = unit(1, 12, 64, seed=0)
    info_nce(embedding, embedding, temperature=temperature(), margin=0.0).backward()
    (parameter,) = temperature.parameters()
    assert temperature().item() == pytest.approx(0.5)
    assert parameter.grad > 0


def test_a_fixed_temperature_has_no_parameter():
    temperature = Temperature(0.07, learn=False)
    assert not list(temperature.parameters())
    assert temperature().item() == pytest.approx(0.07)


def test_a_temperature_stays_above_its_floor():
    temperature = Temperature(0.1, learn=True)
    with torch.no_grad():
        temperature.log_temperature.fill_(-20.0)
    assert temperature().item() == pytest.approx(0.01)
    with pytest.raises(ValueError, match=r"at least 0\.01"):
        Temperature(0.001, learn=True)


@pytest.mark.parametrize(
    ("step", "margin"),
    [(0, 0.001), (999, 0.001), (1000, 0.001002), (2500, 0.001 * 1.002**2), (5_000_000, 0.4)],
)
def test_the_margin_grows_every_thousand_steps_up_to_its_maximum(step, margin):
    assert margin_at(step, 0.001, 1.002, 0.4) == pytest.approx(margin)


def test_a_margin_stays_in_bounds_whatever_its_growth():
    assert margin_at(10**9, 0.001, 50.0, 0.4) == 0.4
    assert margin_at(0, 0.5, 1.0, 0.4) == 0.4
    assert margin_at(10**6, 0.0, 1.002, 0.4) == 0.0
    assert margin_at(10**6, 0.1, 1.0, 0.4) == pytest.approx(0.1)
