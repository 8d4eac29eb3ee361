"""Killed before any change to the disk, a build leaves a whole version, and is made good."""

import shutil
import signal
import subprocess
import sys

import pytest

from mssync.data import dataset
from mssync.data.validate import validate
from mssync.params import load
from mssync.stages import build_dataset
from tests.handmade import write_inputs

OLD = {f"p{i}/a": {} for i in range(6)}
# Later in the alphabet, and six fill whole parts: the parts of the old clips stay as they are.
NEW = OLD | {"q/again": {"footage": "p2/a"}, "z/a": {}, "z/b": {"loudness_db": -120}}
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from mssync.params import load
from mssync.stages import build_dataset

root, folder, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
params = load(root / "params.test.yaml").build_dataset
changes = 0

def count(event, arguments):
    global changes
    if event in ("os.rename", "os.remove", "os.mkdir") and str(folder) in str(arguments[0]):
        changes += 1
        if changes == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
data = folder / "data"
build_dataset.run(
    folder / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger",
    data / "dataset", data / "card", params,
)
"""


def paths(folder):
    data = folder / "data"
    return folder / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger"


def killed(root, folder, at):
    """Build, killed before the change of the disk with this number; whether it was."""
    command = [sys.executable, "-c", KILLED_AT, str(root), str(folder), str(at)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    return found.returncode != 0


def content(folder):
    """The version that is there: its revision, and every clip of it, read."""
    version = dataset.load(folder / "data" / "dataset")
    return version.revision, [clip.clip_id for clip in version.clips()]


@pytest.fixture(scope="module")
def prepared(root, tmp_path_factory):
    """A workspace with an old version and the inputs of a new one; both versions."""
    folder = tmp_path_factory.mktemp("prepared") / "workspace"
    params = load(root / "params.test.yaml").build_dataset
    write_inputs(folder, OLD)
    build_dataset.run(*paths(folder), folder / "data" / "dataset", folder / "data" / "card", params)
    old = content(folder)
    write_inputs(folder, NEW)
    assert content(folder) == old
    undisturbed = folder.with_name("undisturbed")
    shutil.copytree(folder, undisturbed)
    build_dataset.run(
        *paths(undisturbed), undisturbed / "data" / "dataset", undisturbed / "data" / "card", params
    )
    new = content(undisturbed)
    assert new[0] != old[0]
    return folder, old, new


def test_a_killed_build_leaves_the_old_version_or_the_new_one(root, prepared, tmp_path):
    prepared_folder, old, new = prepared
    seen = set()
    for at in range(1, 100):
        folder = tmp_path / str(at)
        shutil.copytree(prepared_folder, folder)
        went_on = not killed(root, folder, at)
        found = content(folder)
        assert found in (old, new)
        seen.add(found[0])
        if went_on:
            break
        assert not killed(root, folder, 0)  # again, to the end
        assert content(folder) == new
        checked = validate(*paths(folder), folder / "data" / "dataset")
        assert checked.dataset == len(new[1])
    assert at > 8  # it was killed at as many moments and more
    assert seen == {old[0], new[0]}
