"""A user's own list, from the command line to the table, killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mssync import ledger, versions
from mssync.demo import chain
from mssync.errors import InputError


@pytest.fixture
def project(tmp_path, root):
    """The project's folder as a fresh clone has it, with tiny parameters."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copyfile(root / name, folder / name)
    shutil.copyfile(root / "params.test.yaml", folder / "params.yaml")
    (folder / "src").symlink_to(root / "src")
    return folder


def start(project, sources):
    return subprocess.Popen(
        [sys.executable, "-m", "mssync", "demo", "--sources", str(sources), "--name", "mine"],
        cwd=project,
        env=os.environ | {"MSSYNC_MEDIA": str(project / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_when(process, happened):
    """Kill the whole process group, as a closed terminal or an emptied battery does."""
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_list_of_ones_own_runs_to_the_end_whatever_kills_it_on_the_way(
    project, small_corpus, tmp_path
):
    mine = project / "runs" / "mine"
    sources = tmp_path / "list" / "sources.csv"
    shutil.copytree(small_corpus / "media", sources.parent)
    shutil.copyfile(small_corpus / "sources.csv", sources)

    landmarks = mine / "data" / "landmarks.unfinished"
    kill_when(start(project, sources), lambda: len(list(landmarks.glob("part-*"))) > 1)
    guides = mine / "models" / "syncers" / "guides"
    kill_when(start(project, sources), lambda: (guides / "level1").exists())
    process = start(project, sources)
    output, _ = process.communicate()

    assert process.returncode == 0, output
    assert "Decision: " in output
    assert (mine / "evaluation" / "gallery" / "index.html").exists()
    assert versions.pending(mine) == {}
    assert not (project / "data").exists()
    decisions = ledger.read_decisions(mine / "ledger" / "build_dataset" / ledger.DECISIONS)
    assert {decision.clip_id.split("/")[0] for decision in decisions} == {
        f"speaker_0{number}" for number in range(7)
    }
    metrics = json.loads((mine / "evaluation" / "metrics.json").read_text())
    assert metrics["sequences"] == 3


def test_a_list_that_does_not_exist_and_a_name_that_is_no_name_are_refused(project, small_corpus):
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        chain.run_sources(project, project / "none.csv", name="mine")
    with pytest.raises(InputError, match=r"cannot be called '\.\./mine'"):
        chain.run_sources(project, small_corpus / "sources.csv", name="../mine")


def test_another_folder_than_the_projects_is_refused(tmp_path, small_corpus):
    with pytest.raises(InputError, match="not the project's folder"):
        chain.run_sources(tmp_path, small_corpus / "sources.csv", name="mine")
