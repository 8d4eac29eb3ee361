"""A version of the data, kept and pushed by real DVC without git, and brought back elsewhere."""

import os
import shutil
import sys
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mssync import versions
from mssync.errors import InputError, ToolError


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """One with data, on a machine without git."""
    folder = tmp_path / "workspace"
    (folder / "data" / "dataset").mkdir(parents=True)
    (folder / "data" / "dataset" / "dataset.json").write_text('{"revision": "1"}')
    (folder / "data" / "sources.csv").write_text("source\nhttps://example.org/a.mp4?key=secret\n")
    (folder / "data" / "takedown.csv").write_text("kind,value\nspeaker,ada\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("git") is None
    return folder


def pulled(workspace, remote, elsewhere):
    """What somebody gets who has the file and the remote."""
    elsewhere.mkdir()
    versions.dvc(elsewhere, "init", "--no-scm")
    versions.dvc(elsewhere, "remote", "add", "--default", "team", remote)
    shutil.copy(workspace / versions.PUBLISHED, elsewhere)
    versions.dvc(elsewhere, "pull")
    return {
        str(path.relative_to(elsewhere)): path.read_text()
        for path in sorted((elsewhere / "data").rglob("*"))
        if path.is_file()
    }


def test_who_has_the_file_and_the_remote_has_the_data_and_not_the_list(workspace, tmp_path):
    remote = str(tmp_path / "remote")
    versions.publish(workspace, remote=remote)
    there = pulled(workspace, remote, tmp_path / "elsewhere")
    assert there == {"data/dataset/dataset.json": '{"revision": "1"}'}


def test_other_data_are_another_version_and_the_same_are_the_same(workspace, tmp_path):
    remote = str(tmp_path / "remote")
    first = versions.publish(workspace, remote=remote)
    kept = (workspace / versions.PUBLISHED).read_bytes()
    assert versions.publish(workspace, remote=remote) == first
    written = workspace / "data" / "dataset" / "dataset.json"
    written.unlink()  # as stages do, which rename over what is there
    written.write_text('{"revision": "2"}')
    assert versions.publish(workspace, remote=remote) != first
    (workspace / versions.PUBLISHED).write_bytes(kept)
    there = pulled(workspace, remote, tmp_path / "elsewhere")
    assert there == {"data/dataset/dataset.json": '{"revision": "1"}'}


def test_what_training_packs_is_no_part_of_the_version(workspace):
    first = versions.publish(workspace, remote="")
    for name in ("dataset.pack", "dataset.evidence"):
        (workspace / "data" / name).mkdir()
        (workspace / "data" / name / "windows").write_text("large")
    assert versions.publish(workspace, remote="") == first


def test_without_a_remote_the_workspace_keeps_the_version(workspace):
    md5 = versions.publish(workspace, remote="")
    assert md5.endswith(".dir")
    shutil.rmtree(workspace / "data" / "dataset")
    versions.dvc(workspace, "checkout", "--force", str(versions.PUBLISHED))
    assert (workspace / "data" / "dataset" / "dataset.json").exists()
    assert (workspace / ".dvc" / "cache").is_dir()


def test_the_runs_of_a_workspace_name_its_version(workspace):
    md5 = versions.publish(workspace, remote="")
    tags = versions.lineage(dataset_revision="1", params_hash="2", seed=0, workspace=workspace)
    assert tags["dataset_dvc_md5"] == md5


def test_a_bucket_takes_its_keys_from_the_environment(workspace, tmp_path, monkeypatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.get_host_and_port()[1]}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="data")
    versions.publish(workspace, remote="s3://data/mssync")
    assert pulled(workspace, "s3://data/mssync", tmp_path / "elsewhere")
    assert "a-secret" not in (workspace / ".dvc" / "config").read_text()
    server.stop()


@pytest.mark.parametrize("remote", ["s3://key:secret@bucket/x", "https://me:pass@host/x"])
def test_a_password_in_the_remotes_address_is_refused_and_not_shown(workspace, remote):
    with pytest.raises(InputError, match="leave them out of the URL") as error:
        versions.publish(workspace, remote=remote)
    assert "secret@" not in str(error.value)
    assert "pass@" not in str(error.value)


@pytest.mark.skipif(os.getuid() != 0, reason="a folder that not even root may write is needed")
def test_a_remote_that_cannot_be_written_is_told_in_dvcs_words(workspace):
    with pytest.raises(ToolError, match="dvc push"):
        versions.publish(workspace, remote=str(Path("/proc/nowhere")))
