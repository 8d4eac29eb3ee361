from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mssync.errors import InputError
from mssync.trained import checkpoint
from mssync.training import state


def trained(steps):
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(module.parameters(), 0.1)
    step(module, optimiser, steps)
    return module, optimiser


def step(module, optimiser, steps):
    for number in range(steps):
        optimiser.zero_grad()
        module(torch.full((1, 3), 1.0 + number)).square().sum().backward()
        optimiser.step()


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.int64).t()}
    checkpoint.save(tmp_path / "model", tensors, {"size": {"width": [1, 2]}})
    loaded, metadata = checkpoint.load(tmp_path / "model")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert metadata == {"size": {"width": [1, 2]}}


def test_saving_again_replaces_the_checkpoint_and_leaves_nothing_behind(tmp_path):
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path / "model", {"x": torch.tensor(value)}, {"value": value})
    loaded, metadata = checkpoint.load(tmp_path / "model")
    assert loaded["x"] == metadata["value"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_died_half_way_does_not_count(tmp_path):
    checkpoint.save(tmp_path / "model", {"x": torch.ones(1)}, {})
    half = tmp_path / ".model.writing"
    half.mkdir()
    (half / checkpoint.WEIGHTS).write_bytes(b"half")
    assert checkpoint.load(tmp_path / "model")[0]["x"] == 1
    checkpoint.save(tmp_path / "model", {"x": torch.zeros(1)}, {})
    assert checkpoint.load(tmp_path / "model")[0]["x"] == 0


def test_a_save_that_died_between_its_renames_loses_nothing(tmp_path):
    checkpoint.save(tmp_path / "model", {"x": torch.ones(1)}, {})
    (tmp_path / "model").rename(tmp_path / ".model.previous")
    assert checkpoint.load(tmp_path / "model")[0]["x"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_of_several_that_find_it_so_each_reads_it(tmp_path):
    with ThreadPoolExecutor(8) as readers:
        for number in range(40):
            folder = tmp_path / str(number)
            checkpoint.save(folder.with_name(f".{number}.previous"), {"x": torch.ones(1)}, {})
            found = readers.map(checkpoint.load, [folder] * 8)
            assert [tensors["x"].item() for tensors, _ in found] == [1] * 8


def test_removing_takes_what_a_killed_save_left_and_nothing_else(tmp_path):
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, {"x": torch.ones(1)}, {})
        for leftover in (f".{name}.writing", f".{name}.previous"):
            checkpoint.save(tmp_path / leftover, {"x": torch.zeros(1)}, {})
    checkpoint.remove(tmp_path / "a")
    checkpoint.remove_leftovers(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert checkpoint.load(tmp_path / "b")[0]["x"] == 1
    checkpoint.remove(tmp_path / "a")  # nothing there is no failure


@pytest.mark.parametrize("damage", ["absent", "cut", "no_metadata"])
def test_a_broken_checkpoint_is_named(tmp_path, damage):
    folder = tmp_path / "model"
    if damage != "absent":
        checkpoint.save(folder, {"x": torch.ones(100)}, {})
    if damage == "cut":
        weights = folder / checkpoint.WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-50])
    if damage == "no_metadata":
        (folder / checkpoint.METADATA).unlink()
    with pytest.raises(InputError, match="model holds no readable checkpoint"):
        checkpoint.load(folder)


def test_the_digest_is_of_the_weights_alone(tmp_path):
    for name, value, note in (("a", 1.0, "x"), ("b", 1.0, "y"), ("c", 2.0, "x")):
        checkpoint.save(tmp_path / name, {"w": torch.tensor(value)}, {"note": note})
    a, b, c = (checkpoint.sha256(tmp_path / name) for name in "abc")
    assert a == b != c


def test_packed_state_goes_on_like_the_original(tmp_path):
    module, optimiser = trained(3)
    checkpoint.save(tmp_path / "s", state.pack({"m": module}, {"o": optimiser}), {})
    other, other_optimiser = trained(0)
    state.unpack(checkpoint.load(tmp_path / "s")[0], {"m": other}, {"o": other_optimiser})
    step(module, optimiser, 2)
    step(other, other_optimiser, 2)
    assert torch.equal(module.weight, other.weight)


def test_state_of_another_size_is_refused():
    module, optimiser = trained(1)
    tensors = state.pack({"m": module}, {"o": optimiser})
    with pytest.raises(RuntimeError, match="size mismatch"):
        state.unpack(tensors, {"m": torch.nn.Linear(4, 2)}, {})
