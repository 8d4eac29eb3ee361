"""Where and with how many threads torch works."""

import torch

from mssync.errors import ParamsError
from mssync.params import Run


def prepare(run: Run) -> torch.device:
    """Fix the number of threads and choose the device.

    Raises:
        ParamsError: If CUDA is asked for and there is none.
    """
    torch.set_num_threads(run.threads)
    return choose(run.device)


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
