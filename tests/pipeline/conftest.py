"""A Kubeflow server, small pipelines for it, and the command line within this process."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from kfp import compiler, dsl

from mssync.cli import guarded
from pipeline import client
from pipeline.__main__ import app
from tests.pipeline.kfp_api import Api


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def prepare(seconds: float) -> str:
    import time

    time.sleep(seconds)
    return "prepared"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def work(told: str, fail: bool):
    if fail:
        raise ValueError(f"{told}, and failed")


def write_pipeline(path, *, seconds=0.0, fail=False):
    """Compile two steps that take the inputs that every graph of ours takes."""

    @dsl.pipeline(name="tiny")
    def tiny(
        sources: str,
        source_base: str = "",
        workspace: str = "/workspace",
        apply_promotion: bool = False,
        seconds: float = seconds,
        fail: bool = fail,
    ):
        work(told=prepare(seconds=seconds).output, fail=fail)

    # KFP looks through the whole stack at every step, and pytest's is deep; a thread's is empty
    with ThreadPoolExecutor(1) as thread:
        thread.submit(compiler.Compiler().compile, tiny, str(path)).result()
    return path


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Compiled pipelines: one that succeeds, one that fails, one that takes long."""
    folder = tmp_path_factory.mktemp("packages")
    return {
        "good": write_pipeline(folder / "good.yaml"),
        "bad": write_pipeline(folder / "bad.yaml", fail=True),
        "slow": write_pipeline(folder / "slow.yaml", seconds=120.0),
    }


@pytest.fixture(scope="session")
def swagger():
    """The description of Kubeflow's API."""
    named = os.environ.get("MSSYNC_TEST_KFP")
    if not named:
        pytest.skip("MSSYNC_TEST_KFP names no folder with Kubeflow's swagger.json")
    return Path(named) / "swagger.json"


@pytest.fixture
def make_api(tmp_path, swagger, monkeypatch):
    """Starts servers; what the environment says of others is forgotten."""
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "MSSYNC_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def start(**options):
        made.append(Api(tmp_path / f"api-{len(made)}", swagger, **options))
        return made[-1]

    yield start
    for api in made:
        api.close()


@pytest.fixture
def api(make_api):
    """A server for one user."""
    return make_api()


@pytest.fixture
def server(api):
    """The same, connected."""
    return client.connect(api.url)


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys):
    """Runs `python -m pipeline ...` in this process."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            guarded(lambda: app([str(each) for each in arguments]))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(ended.value.code or 0, said.out, said.err)

    return run
