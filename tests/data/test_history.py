"""Versions that are remembered, and what tells two apart."""

import json
import shutil
import subprocess
import sys

import pytest

from mssync.data import dataset, history
from mssync.errors import InputError
from mssync.params import BuildDataset
from mssync.stages import build_dataset
from tests.handmade import write_inputs

PEOPLE = {f"p{i}/a": {} for i in range(8)}


@pytest.fixture
def build(tmp_path, tiny):
    """Build a version of handmade clips; its revision."""

    def run(clips, **changes):
        write_inputs(tmp_path, clips)
        params = BuildDataset(**{**tiny.build_dataset.model_dump(), **changes})
        out = tmp_path / "data" / "dataset"
        build_dataset.run(
            tmp_path / "manifest.parquet",
            tmp_path / "data" / "landmarks",
            tmp_path / "data" / "audio",
            tmp_path / "ledger",
            out,
            tmp_path / "data" / "card",
            params,
        )
        return dataset.load(out).revision

    return run


@pytest.fixture
def compare(tmp_path):
    """Difference of two versions, clips by what became of them."""

    def run(before, after):
        folder = tmp_path / "data" / "versions"
        found = history.diff(history.find(folder, before), history.find(folder, after))
        named = {
            name: {entry.clip_id: entry.what for entry in entries}
            for name, entries in vars(found).items()
            if name != "same"
        }
        return {name: entries for name, entries in named.items() if entries}, found.same

    return run


def mssync(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mssync", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_versions_are_told_apart_clip_by_clip(build, compare):
    before = build({**PEOPLE, "bad/a": {"loudness_db": -120}, "p7/gone": {}, "p6/cut": {}})
    after = build(
        {
            **PEOPLE,
            "bad/a": {"snr_db": -20},
            "p7/new": {},
            "p1/a": {"interocular_px": 1},
            "p6/cut": {"cuts": [10]},
            "poor/a": {"frames": 20},
        }
    )
    groups, same = compare(before, after)
    assert groups == {
        "added": {"p7/new": "kept in train", "poor/a": groups["added"]["poor/a"]},
        "removed": {"p7/gone": "kept in train"},
        "decided": {
            "bad/a": groups["decided"]["bad/a"],
            "p1/a": groups["decided"]["p1/a"],
        },
        "changed": {"p6/cut": "60 -> 50 frames"},
    }
    assert groups["added"]["poor/a"].startswith("too_short: frames is 20")
    assert groups["decided"]["bad/a"].startswith("silent -> noisy: snr_db is -20")
    assert groups["decided"]["p1/a"].startswith("kept -> face_too_small: ")
    assert same == 7


def test_a_version_and_itself_do_not_differ(build, compare):
    revision = build(PEOPLE)
    assert compare(revision[:8], revision) == ({}, 8)


def test_other_sound_is_other_content(build, compare):
    before, after = build(PEOPLE), build({**PEOPLE, "p4/a": {"footage": "elsewhere"}})
    groups, _ = compare(before, after)
    assert groups == {"changed": {"p4/a": "other landmarks, sound or crop"}}


def test_a_move_to_another_split_is_told_and_fails(build, compare, tmp_path):
    before = build(PEOPLE)
    shutil.rmtree(tmp_path / "data" / "dataset")  # a new line of versions
    after = build(PEOPLE, salt="3")
    groups, _ = compare(before, after)
    assert groups["moved"]
    found = mssync(tmp_path, "diff", before[:8])
    assert found.returncode == 1
    assert "MOVED TO ANOTHER SPLIT" in found.stdout


def test_the_commands_list_and_compare_versions(build, tmp_path):
    first = build(PEOPLE)
    second = build({**PEOPLE, **{f"p1/{n}": {} for n in "bcdef"}})
    listed = mssync(tmp_path, "versions")
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [first[:12], second[:12]]
    assert [line.split()[1] for line in lines[1:]] == ["8", "13"]
    found = mssync(tmp_path, "diff", first[:6], "--list", "2", "--json", "diff.json")
    assert found.returncode == 0, found.stderr
    assert f"{first[:12]} -> {second[:12]}" in found.stdout
    assert "5  added" in found.stdout
    assert "and 3 more (--list 5)" in found.stdout
    told = json.loads((tmp_path / "diff.json").read_text())
    assert [entry["clip_id"] for entry in told["added"]] == [f"p1/{n}" for n in "bcdef"]


def test_the_same_version_is_remembered_once(build, tmp_path):
    build(PEOPLE)
    (path,) = (tmp_path / "data" / "versions").iterdir()
    before = path.stat().st_mtime_ns
    build(PEOPLE)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["", "abc", "ffffffff", "nowhere/dataset"])
def test_a_version_that_is_none_names_those_that_are(build, tmp_path, name):
    revision = build(PEOPLE)
    with pytest.raises(InputError, match=rf"names no version.*has: {revision[:12]}"):
        history.find(tmp_path / "data" / "versions", name)


def test_a_dataset_that_nobody_built_has_no_version(tmp_path):
    found = mssync(tmp_path, "diff", "abcd1234")
    assert (found.returncode, found.stdout) == (1, "")
    assert "names no version" in found.stderr
    assert mssync(tmp_path, "versions").returncode == 1
