"""What the manifests render to, by our own renderer, which needs no kubectl."""

import pytest

from manifests.check import templates
from manifests.render import render
from tests import schemas

FOLDERS = ("base", "overlays/dev", "overlays/gpu")


@pytest.fixture(scope="session")
def manifests(root):
    return root / "manifests"


@pytest.fixture(scope="session")
def rendered(manifests):
    """Objects of each folder that can be applied."""
    return {folder: render(manifests / folder) for folder in FOLDERS}


@pytest.fixture(scope="session", params=FOLDERS)
def objects(request, rendered):
    """Objects of one folder after the other."""
    return rendered[request.param]


@pytest.fixture(scope="session")
def secrets(manifests):
    """Templates of the secrets."""
    return templates(manifests / "secrets")


@pytest.fixture(scope="session")
def definitions():
    """Strict validators of Kubeflow's own kinds."""
    return schemas.of_kubeflow()
