"""Two processes that share a batch train what one process trains with the whole of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mssync.data.pack import pack_clips
from mssync.data.sequences import Sequences
from mssync.data.windows import Windows
from mssync.trained import checkpoint
from mssync.training.group import Group
from tests.history import History
from tests.training.test_generator import clip
from tests.training.together import train

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# Sums are taken in another order.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
# While both halves of the hinge cost something, raising all scores alike changes nothing: the
# gradient of that constant is rounding, which Adam makes full steps of.
LOOSE = {
    "train/adversarial_frame": 0.02,
    "train/adversarial_sequence": 0.02,
    "train/loss": 0.02,
}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "tests.training.together", str(out)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return out


def history(out, rank):
    stored = json.loads((out / f"history-{rank}.json").read_text())
    return {int(step): values for step, values in stored.items()}


def test_the_loss_curve_is_that_of_one_process(together, tmp_path):
    alone = History()
    train(tmp_path, Group(), alone)
    found = history(together, 0)
    assert found.keys() == alone.values.keys()
    for step, values in alone.values.items():
        assert found[step].keys() == values.keys()
        for name, value in values.items():
            allowed = LOOSE.get(name, ABSOLUTE)
            assert found[step][name] == pytest.approx(value, rel=RELATIVE, abs=allowed), name
    for folder in ("generator", "guides/level0"):
        one, _ = checkpoint.load(tmp_path / folder)
        two, _ = checkpoint.load(together / folder)
        for name, tensor in one.items():
            assert (tensor - two[name]).abs().mean() < 1e-5, name


def test_all_processes_see_the_same_numbers(together):
    first, second = history(together, 0), history(together, 1)
    assert first == second


def test_only_finished_checkpoints_are_left(together):
    names = sorted(str(path.relative_to(together)) for path in together.glob("**/*.safetensors"))
    assert names == ["generator/weights.safetensors", "guides/level0/weights.safetensors"]


def test_shares_of_a_batch_are_the_batch_without_a_duplicate():
    pack = pack_clips([clip(0), clip(1)])
    sequences = Sequences(pack, frames=12, context_frames=2, device=CPU)
    windows = Windows(pack, level=0, kernel=7, valid_only=True, device=CPU)
    crops = {"batch": 6, "seed": 0, "audio_range": 10.0}
    groups = {"seed": 0, "groups": 6, "largest": 4, "audio_range": 10.0}
    for draw in (
        lambda share: sequences.draw(3, **crops, share=share).motion_BTPD,
        lambda share: windows.draw("cross_clip", 3, **groups, share=share).motion_GN5PD,
        lambda share: windows.draw("same_clip", 3, **groups, share=share).audio_GN20M,
    ):
        whole = draw(slice(None)).numpy()
        parts = [draw(Group(rank, 3).share).numpy() for rank in range(3)]
        joined = np.stack(parts, axis=1).reshape(whole.shape)
        assert np.array_equal(joined, whole)
        assert len({sample.tobytes() for sample in whole}) == 6
