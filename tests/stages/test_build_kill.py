"""Killed before any change to the disk, a build leaves a whole version, and is made good."""

import shutil

import pytest

from mssync.data import dataset
from mssync.data.validate import validate
from mssync.params import load
from tests import handmade
from tests.killing import killed

OLD = {f"p{i}/a": {} for i in range(6)}
# Later in the alphabet, and six fill whole parts: the parts of the old clips stay as they are.
NEW = OLD | {"q/again": {"footage": "p2/a"}, "z/a": {}, "z/b": {"loudness_db": -120}}
BUILD = """
from pathlib import Path
from mssync.params import load
from mssync.stages import build_dataset

folder = Path({folder!r})
data = folder / "data"
build_dataset.run(
    folder / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger",
    data / "dataset", data / "card", load(Path({root!r}) / "params.test.yaml").build_dataset,
)
"""


def build(root, folder):
    return BUILD.format(root=str(root), folder=str(folder))


def content(folder):
    """The version that is there: its revision, and every clip of it, read."""
    version = dataset.load(folder / "data" / "dataset")
    return version.revision, [clip.clip_id for clip in version.clips()]


@pytest.fixture(scope="module")
def prepared(root, tmp_path_factory):
    """A workspace with an old version and the inputs of a new one; both versions."""
    folder = tmp_path_factory.mktemp("prepared") / "workspace"
    params = load(root / "params.test.yaml").build_dataset
    handmade.write_inputs(folder, OLD)
    handmade.build(folder, params)
    old = content(folder)
    handmade.write_inputs(folder, NEW)
    assert content(folder) == old
    undisturbed = folder.with_name("undisturbed")
    shutil.copytree(folder, undisturbed)
    handmade.build(undisturbed, params)
    new = content(undisturbed)
    assert new[0] != old[0]
    return folder, old, new


def test_a_killed_build_leaves_the_old_version_or_the_new_one(root, prepared, tmp_path):
    prepared_folder, old, new = prepared
    seen = set()
    for at in range(1, 100):
        folder = tmp_path / str(at)
        shutil.copytree(prepared_folder, folder)
        went_on = not killed(build(root, folder), folder, at)
        found = content(folder)
        assert found in (old, new)
        seen.add(found[0])
        if went_on:
            break
        assert not killed(build(root, folder), folder, 0)  # again, to the end
        assert content(folder) == new
        checked = validate(*handmade.inputs(folder), folder / "data" / "dataset")
        assert checked.dataset == len(new[1])
    assert at > 8  # it was killed at as many moments and more
    assert seen == {old[0], new[0]}
