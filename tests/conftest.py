"""What tests share: shipped parameters, real footage where it is at hand, small real videos."""

import os
from pathlib import Path

import pytest

from mssync.media.store import MediaStore
from mssync.params import load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def tiny():
    """The parameters that tests run with."""
    return load(ROOT / "params.test.yaml")


@pytest.fixture(scope="session")
def real_clips():
    """A folder of real talking-head clips with `sources.csv`."""
    named = os.environ.get("MSSYNC_TEST_CLIPS")
    if not named:
        pytest.skip("MSSYNC_TEST_CLIPS names no folder of real clips")
    return Path(named)


@pytest.fixture
def store(tmp_path):
    return MediaStore(tmp_path / "store")
