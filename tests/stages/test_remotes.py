"""A version that is pushed to a DVC remote, lost here, and pulled back."""

import shutil

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mssync import versions
from mssync.data import dataset
from mssync.data.validate import validate
from mssync.errors import ToolError
from mssync.params import load
from mssync.stages import _purge
from tests.handmade import build, inputs, write_inputs

CLIPS = {f"p{i}/a": {} for i in range(8)}
OUTS = ("manifest.parquet", "data/landmarks", "data/audio", "data/dataset", "ledger")


@pytest.fixture
def remote(request, tmp_path, monkeypatch):
    """Settings of a remote: a folder, or a bucket of moto's own server."""
    if request.param == "folder":
        yield [("add", "-d", "there", str(tmp_path / "remote"))]
        return
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="data")
    yield [
        ("add", "-d", "there", "s3://data/mssync"),
        ("modify", "there", "endpointurl", url),
    ]
    server.stop()


@pytest.fixture
def pushed(remote, tmp_path, root):
    """A workspace whose version is in a remote."""
    folder = tmp_path / "workspace"
    write_inputs(folder, CLIPS)
    build(folder, load(root / "params.test.yaml").build_dataset)
    versions.init_workspace(folder, cache=tmp_path / "cache")
    for arguments in remote:
        versions.dvc(folder, "remote", *arguments)
    versions.dvc(folder, "add", *OUTS)
    versions.dvc(folder, "push")
    return folder


@pytest.mark.parametrize("remote", ["folder", "s3"], indirect=True)
def test_a_version_comes_back_from_a_remote(pushed, tmp_path):
    before = dataset.load(pushed / "data" / "dataset").revision
    for path in (tmp_path / "cache", *(pushed / out for out in OUTS)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ToolError, match="checkout"):
        versions.dvc(pushed, "checkout")
    versions.dvc(pushed, "pull")
    assert dataset.load(pushed / "data" / "dataset").revision == before
    assert validate(*inputs(pushed), pushed / "data" / "dataset").dataset == len(CLIPS)


@pytest.mark.parametrize("remote", ["folder", "s3"], indirect=True)
def test_what_was_purged_does_not_come_back(pushed, tmp_path, store):
    purged = _purge.run(pushed, ["p1/a"], store=store)
    assert purged.parts == 4  # landmarks and sound, in cache and remote
    assert len(purged.places) == 2
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(pushed / "data" / "landmarks")
    with pytest.raises(ToolError, match="failed"):
        versions.dvc(pushed, "pull")
    assert not any((pushed / "data" / "landmarks").glob("part-*"))
