"""A working folder of its own, and a server that can go away."""

import pytest

from tests.mlflow_server import Door, Server


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Runs go nowhere but where a test sends them."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _running(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("server"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def server(_running):
    """A server that does not answer until its door is opened."""
    door = Door(_running)
    yield door
    door.close()
