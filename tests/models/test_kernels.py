"""Compiled products. They are kept, and no state of the disk may cost more than time."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from mssync.models import kernels

COMPILE = """
import resource, sys
import numpy as np
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from mssync.models import kernels
x_C = np.ones(4, np.float32)
kernels.gelu(x_C)
print(*x_C.round(4), sum(kernels.gelu.stats.cache_hits.values()))
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outputs", [4, 5])
def test_a_product_is_the_same_compiled_or_not(dtype, outputs):
    drawn = torch.Generator().manual_seed(0)
    weight_OC = torch.randn(outputs, 7, generator=drawn).to(dtype).float()
    x_C, bias_O = torch.randn(7, generator=drawn), torch.randn(outputs, generator=drawn)
    map_ = kernels.Map(kernels.stored(weight_OC, dtype), bias_O[None].numpy())
    for product in (kernels.through, kernels.through.py_func):
        made_O = np.empty(outputs, np.float32)
        product(map_, 0, x_C.numpy(), made_O)
        np.testing.assert_allclose(made_O, weight_OC @ x_C + bias_O, atol=1e-5)


@pytest.fixture
def compiled(tmp_path):
    """A process of its own compiles a kernel: what it printed."""

    def run(*arguments):
        command = [sys.executable, "-c", COMPILE, *arguments]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    return run


def test_it_is_compiled_once(compiled):
    assert compiled() == ["0.8413"] * 4 + ["0"]
    assert compiled() == ["0.8413"] * 4 + ["1"]


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_cache_is_made_anew(compiled, tmp_path, suffix, damage):
    compiled()
    files = list(tmp_path.rglob(f"*.{suffix}"))
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    assert files
    assert compiled() == ["0.8413"] * 4 + ["0"]
    assert compiled() == ["0.8413"] * 4 + ["1"]


def test_so_is_one_that_names_what_is_gone(compiled, tmp_path):
    compiled()
    for file in tmp_path.rglob("*.nbi"):
        with file.open("rb") as opened:
            version = pickle.load(opened)
        gone = b"cmssync.models.kernels\nGone\n."  # a pickle of a class
        file.write_bytes(pickle.dumps(version) + gone)
    assert compiled() == ["0.8413"] * 4 + ["0"]
    assert compiled() == ["0.8413"] * 4 + ["1"]


def test_without_space_nothing_is_kept(compiled):
    assert compiled("0") == ["0.8413"] * 4 + ["0"]
    assert compiled() == ["0.8413"] * 4 + ["0"]
