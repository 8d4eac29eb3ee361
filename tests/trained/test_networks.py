import pytest
import torch

from mssync.errors import InputError
from mssync.trained import checkpoint
from mssync.trained.networks import load_evaluators
from tests.models import small

CPU = torch.device("cpu")


def store(folder, level, points):
    syncer = small.syncer(level, points=points, normalise=False)
    checkpoint.save(folder / f"level{level}", syncer.state_dict(), {"config": syncer.to_config()})


def test_evaluators_are_those_that_were_trained(tmp_path):
    store(tmp_path / "all", 0, range(68))
    assert list(load_evaluators(tmp_path, CPU)) == ["all"]
    store(tmp_path / "all", 1, range(68))
    store(tmp_path / "no_lips", 0, range(48))
    found = load_evaluators(tmp_path, CPU)
    assert {name: [each.level for each in judges] for name, judges in found.items()} == {
        "all": [0, 1],
        "no_lips": [0],
    }
    assert len(found["no_lips"][0].points) == 48


def test_evaluators_of_all_points_are_needed(tmp_path):
    with pytest.raises(InputError, match=r"of all points .*, found none: run train-syncers"):
        load_evaluators(tmp_path / "evaluators", CPU)
    store(tmp_path / "no_lips", 0, range(48))
    with pytest.raises(InputError, match="found no_lips"):
        load_evaluators(tmp_path, CPU)
    store(tmp_path / "all", 0, range(68))
    store(tmp_path / "mouth", 0, range(60, 68))
    with pytest.raises(InputError, match="may hold others of all, no_lips, lips, found all, mouth"):
        load_evaluators(tmp_path, CPU)
