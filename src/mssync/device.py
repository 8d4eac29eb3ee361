"""Where, with how many threads and how precisely torch works."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from mssync.errors import ParamsError
from mssync.params import Run


def prepare(run: Run) -> torch.device:
    """Fix the number of threads and the kernels, and choose the device.

    Of several processes of one machine, each gets a GPU of its own (`torchrun` numbers them in
    `$LOCAL_RANK`).

    Raises:
        ParamsError: If CUDA is asked for and there is none, or fewer GPUs than processes.
    """
    torch.set_num_threads(run.threads)
    device = choose(run.device)
    if device.type == "cuda":
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ParamsError(
                f"this is process {local_rank} of its machine, which has "
                f"{torch.cuda.device_count()} GPUs: start as many processes as there are GPUs"
            )
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
        if run.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(run.deterministic)
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within: matrix products in bfloat16, where that is the precision; else as they are.

    Args:
        device: Where the forward pass runs.
        precision: `float32` or `bfloat16`.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch has one thread: where steps are small, others only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def constant(values: Sequence[int], device: torch.device) -> Tensor:
    """Whole numbers on a device, copied there once: each copy would wait for a GPU.

    Args:
        values: What does not change from call to call; do not change the tensor either.
        device: Where they are wanted.
    """
    return _constant(tuple(values), device)


@lru_cache(maxsize=256)
def _constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # so that it serves with gradients, too
        return torch.tensor(values, device=device)


def choose(device: str) -> torch.device:
    """The device that a name stands for.

    Args:
        device: `auto`, `cpu` or `cuda`; `auto` is CUDA where there is one.

    Raises:
        ParamsError: If CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ParamsError("run.device is cuda, but torch finds no CUDA device: use auto or cpu")
    return torch.device("cuda" if available and device != "cpu" else "cpu")
