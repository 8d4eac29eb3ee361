"""The loop on a network so small that every number can be followed."""

import copy
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mssync.errors import ParamsError, TrainingDivergedError
from mssync.params import Loop
from mssync.trained import checkpoint
from mssync.training import loop
from mssync.training.group import Group
from tests.history import History

ROOT = Path(__file__).parents[2]
PLAIN = {
    "precision": "float32",
    "cuda_graph": True,
    "warmup_steps": 0,
    "decay": "constant",
    "max_grad_norm": 0.0,
    "ema_decay": 0.0,
    "validate_every_steps": 0,
    "patience": 0,
    "log_every_steps": 1,
    "checkpoint_every_steps": 1000,
    "keep_checkpoints": 2,
}


class Line:
    """Learns to double its input; judged by a list of losses that the test gives."""

    def __init__(self, judged=()):
        torch.manual_seed(0)
        self.kept = nn.Linear(4, 4)
        self.modules = {"line": self.kept}
        self.optimisers = {"line": torch.optim.Adam(self.kept.parameters(), lr=0.1)}
        self.rates, self.batches, self.after = [], [], {}
        self._judged = list(judged)

    def train(self, batch, step, *, report):
        self.rates.append(self.optimisers["line"].param_groups[0]["lr"])
        self.batches.append(step)
        loss = (self.kept(batch) - 2 * batch).square().mean()
        norm = loop.descend(
            loss, self.kept, self.optimisers["line"], max_grad_norm=1.0, group=Group()
        )
        self.after[step] = copy.deepcopy(self.kept.state_dict())
        return {"loss": loss, "grad_norm": norm}

    def validate(self, module):
        if not self._judged:
            return None
        loss = self._judged[min(self.batches[-1], len(self._judged) - 1)]
        return loop.Validation(loss, {"val_loss": loss})


def draw(step):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(step))


def run(line, folder, *, steps=10, tracker=None, key="k", **changes):
    return loop.run(
        line,
        draw,
        loop.Plan(
            name="line",
            prefix="line/",
            steps=steps,
            samples=8,
            settings=Loop.model_validate(PLAIN | changes),
            folder=folder,
            key=key,
            threads=1,
            remedy="Lower it",
        ),
        tracker=tracker or History(),
        group=Group(),
    )


def test_rates_rise_to_the_full_one_and_fall_to_nothing(tmp_path):
    line = Line()
    run(line, tmp_path / "r", warmup_steps=2, decay="linear", steps=6)
    assert line.rates == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])
    line = Line()
    run(line, tmp_path / "r", decay="cosine", steps=4)
    assert line.rates == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    )


def test_averaged_weights_are_what_is_kept(tmp_path):
    line = Line()
    expected = copy.deepcopy(line.kept.state_dict())
    outcome = run(line, tmp_path / "r", ema_decay=0.5, steps=5)
    for step in range(5):
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in line.after[step].items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    found = outcome.module.state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert not torch.equal(found["weight"], line.kept.weight)


def test_it_stops_when_nothing_is_gained_and_keeps_the_best_weights(tmp_path):
    line = Line(judged=[5, 4, 3, 3.5, 3, 2, 1])
    outcome = run(line, tmp_path / "r", validate_every_steps=1, patience=2)
    assert outcome.steps == 5
    assert outcome.scores == {"val_loss": 3}
    assert torch.equal(outcome.module.weight, line.after[2]["weight"])


def test_without_patience_the_last_weights_are_kept(tmp_path):
    line = Line(judged=[1, 2, 3])
    outcome = run(line, tmp_path / "r", validate_every_steps=1)
    assert (outcome.steps, outcome.scores) == (10, {"val_loss": 3})
    assert outcome.module is line.kept


def test_patience_without_a_validation_set_makes_all_steps(tmp_path):
    line = Line()
    outcome = run(line, tmp_path / "r", validate_every_steps=1, patience=2)
    assert outcome.steps == 10
    assert outcome.module is line.kept


@pytest.mark.parametrize("killed_at", [3, 4, 7])
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, killed_at):
    judged = [5, 4, 4.5, 3, 2, 4, 4, 4, 4, 1]
    settings = {
        "ema_decay": 0.9,
        "warmup_steps": 3,
        "decay": "cosine",
        "validate_every_steps": 1,
        "patience": 4,
        "checkpoint_every_steps": 2,
    }
    straight = run(Line(judged), tmp_path / "straight", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(Line(judged), tmp_path / "killed", tracker=History(killed_at), **settings)
    line = Line(judged)
    resumed = run(line, tmp_path / "killed", **settings)
    assert line.batches[0] == killed_at // 2 * 2
    assert (resumed.steps, resumed.terms, resumed.scores) == (
        straight.steps,
        straight.terms,
        straight.scores,
    )
    found, expected = resumed.module.state_dict(), straight.module.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_only_the_newest_checkpoints_stay(tmp_path):
    run(Line(), tmp_path / "r", checkpoint_every_steps=2, keep_checkpoints=3)
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert names == ["step-000000004", "step-000000006", "step-000000008"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, caplog):
    run(Line(), tmp_path / "r", checkpoint_every_steps=3)
    newest = tmp_path / "r/step-000000009" / checkpoint.WEIGHTS
    newest.write_bytes(newest.read_bytes()[:100])
    line = Line()
    run(line, tmp_path / "r", checkpoint_every_steps=3)
    assert line.batches == [6, 7, 8, 9]
    assert "no readable checkpoint" in caplog.text


def test_checkpoints_of_other_inputs_are_removed(tmp_path):
    run(Line(), tmp_path / "r", checkpoint_every_steps=4)
    line = Line()
    run(line, tmp_path / "r", key="other")
    assert line.batches == list(range(10))
    assert not (tmp_path / "r").exists()


def test_a_term_that_is_not_finite_stops_it_with_the_terms_and_a_remedy(tmp_path):
    line = Line()
    nn.init.constant_(line.kept.bias, math.inf)
    with pytest.raises(TrainingDivergedError, match=r"line: step 0: .*'loss': inf.*Lower it"):
        run(line, tmp_path / "r")


def test_progress_says_how_fast_and_how_long(tmp_path, caplog):
    caplog.set_level("INFO")
    history = History()
    run(Line(), tmp_path / "r", tracker=history, steps=3)
    assert "line: step      1 of 3" in caplog.text
    assert "steps/s" in caplog.text
    assert "0 s left" in caplog.text
    rates = history.rates[2]
    assert rates["line/samples_per_s"] == pytest.approx(8 * rates["line/steps_per_s"])
    assert rates["line/left_s"] == 0


def test_durations_are_for_readers():
    assert [loop.duration(seconds) for seconds in (42.4, 187, 18_730)] == [
        "42 s",
        "3 min 07 s",
        "5 h 12 min",
    ]


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(
        ParamsError, match=r"batch must be a multiple of the 3 processes .* found 8"
    ):
        Group(0, 3).check("train_generator.batch", 8)


SLOW = """
import sys, time
from pathlib import Path
from mssync.cli import guarded
from tests.training.test_loop import Line, run

class Slow(Line):
    def train(self, batch, step, *, report):
        time.sleep(0.05)
        print(step, flush=True)
        return super().train(batch, step, report=report)

guarded(lambda: run(Slow(), Path(sys.argv[1]), steps=200, checkpoint_every_steps=4))
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, step):
    for line in process.stdout:
        if line.strip() == str(step):
            return
    raise AssertionError(process.stderr.read())


def test_sigterm_stores_the_step_at_hand_and_ends_with_a_code_of_its_own(tmp_path):
    process = start(tmp_path / "r")
    wait_for(process, 6)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "stopped by SIGTERM after step" in said
    assert "run it again" in said
    step = max(int(path.name[5:]) for path in (tmp_path / "r").glob("step-*"))
    assert step >= 7
    line = Line()
    run(line, tmp_path / "r", steps=step + 2)
    assert line.batches == [step, step + 1]


def test_sigkill_loses_no_more_than_the_interval(tmp_path):
    process = start(tmp_path / "r")
    wait_for(process, 10)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    line = Line()
    run(line, tmp_path / "r", steps=20)
    assert line.batches[0] in (8, 12)
