"""What only a GPU can show: `make test ARGS="-m gpu"`."""

import pytest
import torch

from mssync.models.generator import Generator
from mssync.models.inference import prepare
from mssync.trained import checkpoint
from mssync.training.syncers import train_evaluators, train_guides
from tests.history import History
from tests.models import small
from tests.training import test_generator, test_syncers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda", 0)
TRAINERS = {"guide": train_guides, "evaluator": train_evaluators}


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def generator(out, *, device=CUDA, tracker=None, **changes):
    """Train a small generator by every term, with a schedule and an average."""
    params = test_generator.settings(
        test_generator.EVERY, **test_generator.EVERYTHING | {"patience": 0} | changes
    )
    guides = [small.syncer(0), small.syncer(1)]
    return test_generator.train(
        out,
        params,
        guides=guides,
        val=[test_generator.clip(5)],
        tracker=tracker,
        device=device,
    )


def syncers(kind, out, *, device=CUDA, tracker=None, **changes):
    """Train a small guide, or evaluators, on groups whose size varies."""
    return test_syncers.run(
        TRAINERS[kind],
        test_syncers.made(),
        out,
        device=device,
        tracker=tracker,
        pairs=["same_clip"] * 4,
        augment=True,
        warmup_steps=2,
        log_every_steps=1,
        **{"guide_steps": [12, 0, 0, 0], "evaluator_steps": [12, 0, 0, 0]} | changes,
    )


def trained(name, out, **options):
    """Train one of the three networks."""
    return generator(out, **options) if name == "generator" else syncers(name, out, **options)


def near(found, expected, *, rel):
    """All terms of all steps."""
    assert found.keys() == expected.keys()
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, rel=rel, abs=rel), step


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["generator", *TRAINERS])
def test_a_recorded_step_is_the_plain_one(name, precision, tmp_path):
    plain, recorded = History(), History()
    for history, graph in ((plain, False), (recorded, True)):
        out = tmp_path / str(graph)
        trained(name, out, tracker=history, cuda_graph=graph, precision=precision)
    near(recorded.values, plain.values, rel=1e-5)


@pytest.mark.parametrize("name", ["generator", *TRAINERS])
def test_it_learns_what_a_cpu_learns(name, tmp_path):
    cpu, gpu = History(), History()
    trained(name, tmp_path / "cpu", tracker=cpu, device=torch.device("cpu"))
    trained(name, tmp_path / "gpu", tracker=gpu)
    first = min(cpu.values)
    near({first: gpu.values[first]}, {first: cpu.values[first]}, rel=1e-3)
    near(gpu.values, cpu.values, rel=0.05)


def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path):
    straight = generator(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        generator(tmp_path / "killed", tracker=History(killed_at=7))
    assert generator(tmp_path / "killed") == straight
    assert checkpoint.sha256(tmp_path / "killed/generator") == checkpoint.sha256(
        tmp_path / "straight/generator"
    )


def test_a_prepared_generator_makes_the_same_motion():
    torch.manual_seed(0)
    model = Generator(**small.GENERATOR)
    model.velocity_scale_X.fill_(0.01)
    source, audio = torch.rand(68, 2), torch.randn(200, 26)
    expected = model.generate(source[None], audio[None])[0]
    model.to(CUDA)
    made = prepare(model, dtype=torch.float32).generate(source.to(CUDA), audio.to(CUDA))
    torch.testing.assert_close(made.cpu(), expected, atol=1e-4, rtol=0)
