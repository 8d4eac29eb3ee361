"""SIGTERM at any moment of the training stages: exit code 75, and nothing is lost."""

import shutil

import pytest

from mssync.params import load
from mssync.trained import checkpoint
from tests.handmade import build, write_inputs
from tests.killing import killed, stopped

TRAIN = """
import os
from pathlib import Path
from mssync.cli import guarded
from mssync.params import load
from mssync.stages import train_generator, train_syncers

os.chdir({folder!r})
params = load(Path({root!r}) / "params.test.yaml")
given = {{"run": params.run, "paths": params.paths, "params_hash": "h"}}

def train():
    data, syncers, out = Path("data/dataset"), Path("models/syncers"), Path("models/generator")
    train_syncers.run(data, syncers, params.train_syncers, **given)
    train_generator.run(data, syncers, out, params.train_generator, **given)

guarded(train)
"""


@pytest.fixture(scope="module")
def prepared(root, tmp_path_factory):
    """A workspace with a small dataset."""
    folder = tmp_path_factory.mktemp("prepared") / "workspace"
    write_inputs(folder, {f"p{number}/a": {} for number in range(8)})
    build(folder, load(root / "params.test.yaml").build_dataset)
    return folder


def weights(folder):
    """Digests of all that is trained."""
    found = sorted(path.parent for path in (folder / "models").glob("**/weights.safetensors"))
    return {str(path.relative_to(folder)): checkpoint.sha256(path) for path in found}


# Whether it is there after a signal that came just before it was.
MOMENTS = {
    "models/syncers": False,  # before the first network
    "models/syncers/guides/level0": True,
    "models/syncers/evaluators/no_lips/level1": True,  # the last one that has windows
    "models/generator/generator": True,
    "models/generator/report.json": False,
}


def test_training_stages_answer_at_any_time(root, prepared, tmp_path):
    folders = undisturbed, folder = tmp_path / "undisturbed", tmp_path / "stopped"
    programs = [TRAIN.format(root=str(root), folder=str(each)) for each in folders]
    for copy in folders:
        shutil.copytree(prepared, copy)
    assert not killed(programs[0], undisturbed, 0)

    for moment, there in MOMENTS.items():
        code, said = stopped(programs[1], moment)
        assert code == 75, (moment, said)
        assert "run it again to go on from there" in said
        assert "Traceback" not in said
        assert (folder / moment).exists() == there, moment
    assert not killed(programs[1], folder, 0)
    assert weights(folder) == weights(undisturbed)
    for report in ("models/syncers/report.json", "models/generator/report.json"):
        assert (folder / report).read_text() == (undisturbed / report).read_text()
