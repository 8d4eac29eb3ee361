"""What tests share: shipped parameters, a small corpus, real footage where it is at hand.

`make test` runs files side by side, in as many processes as there are cores.
"""

import os
from pathlib import Path

import mlflow
import pytest
import torch
from filelock import FileLock

from mssync.demo import corpus
from mssync.media.store import MediaStore
from mssync.params import load

ROOT = Path(__file__).parents[1]
# Files that take minutes, the longest first: one that began last would keep one core busy alone.
LONG = (
    "pipeline/test_local.py",
    "stages/test_chain.py",
    "demo/test_chain.py",
    "stages/test_awkward.py",
    "stages/test_real_clips.py",
    "stages/test_preflight.py",
    "stages/test_systems.py",
    "stages/test_takedown.py",
    "stages/test_build_kill.py",
    "launch/test_job.py",
    "launch/test_processes.py",
    "stages/test_extract.py",
    "test_shards.py",
    "manifests/test_mlflow.py",
)


def pytest_collection_modifyitems(items):
    rank = {ROOT / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small networks gain nothing from threads, and lose much when cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def tiny():
    """The parameters that tests run with."""
    return load(ROOT / "params.test.yaml")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder of this run of the tests that all of its processes see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def small_corpus(shared_folder):
    """Eight clips of seven synthetic speakers, with their truth."""
    spec = corpus.CorpusSpec(
        speakers=7,
        clips_per_speaker=1,
        clip_s=4.0,
        long_clip_s=8.0,
        test_speakers=1,
        val_speakers=1,
    )
    with FileLock(shared_folder / "corpus.lock"):
        return corpus.make(shared_folder / "corpus" / "demo", spec, workers=2)


@pytest.fixture(scope="session")
def real_clips():
    """A folder of real talking-head clips with `sources.csv`."""
    named = os.environ.get("MSSYNC_TEST_CLIPS")
    if not named:
        pytest.skip("MSSYNC_TEST_CLIPS names no folder of real clips")
    return Path(named)


@pytest.fixture(scope="session")
def tracked_runs():
    """Runs of an experiment in a workspace's own MLflow store."""

    def runs(workspace, experiment="mssync"):
        client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])

    return runs


@pytest.fixture
def store(tmp_path):
    return MediaStore(tmp_path / "store")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow database without a run, to copy: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
