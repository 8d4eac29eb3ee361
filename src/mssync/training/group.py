"""Processes that train one network together, as `torchrun` starts them.

Every process draws the same global batch and keeps every n-th sample of it: nothing is trained on
twice, and gradients averaged over the processes are those of one process with the whole batch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mssync.errors import ParamsError, WorkerLostError
from mssync.workers import die_with

Made = TypeVar("Made")

# For what the first process makes of a whole dataset while the others wait.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Group:
    """This process among those that train together; alone by default.

    Attributes:
        rank: Number of the process, from 0; process 0 writes and tracks.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tracks."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Which samples of a global batch are this process's."""
        return slice(self.rank, None, self.size)

    def check(self, field: str, count: int) -> None:
        """Refuse a global batch that cannot be shared out evenly.

        Raises:
            ParamsError: If `count` is no multiple of the number of processes.
        """
        if count % self.size:
            raise ParamsError(
                f"{field} must be a multiple of the {self.size} processes that share it, "
                f"found {count}"
            )

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes, in place."""
        if self.size == 1:
            return
        targets = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in targets])
        with _met():
            dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(targets, flat.split([t.numel() for t in targets]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))  # on the CPU: a GPU would have to be waited for
        with _met():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def of_leader(self, value: int) -> int:
        """What process 0 gave."""
        if self.size == 1:
            return value
        given = torch.tensor(value)
        with _met():
            dist.broadcast(given, 0)
        return int(given)

    def after_leader(self, make: Callable[[], Made]) -> Made:
        """What `make` gives: process 0 calls it first, and the others find what it left on disk.

        Args:
            make: Leaves on disk what takes long to make, or reads what is there.

        Raises:
            WorkerLostError: If process 0 is gone before.
        """
        if self.size == 1:
            return make()
        with _met():  # a group of its own: others are not to wait as long
            patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
        if self.leads:
            made = make()
        with _met():
            dist.barrier(patient)
            dist.destroy_process_group(patient)
        return made if self.leads else make()

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            with _met():
                dist.barrier()


@contextmanager
def _met() -> Iterator[None]:
    """Within, processes meet; where one does not come, it is that one which says why.

    Raises:
        WorkerLostError: If one is gone.
    """
    try:
        yield
    except RuntimeError as error:  # of Gloo, NCCL and the store alike
        raise WorkerLostError(
            f"the processes that train together lost one of them ({error})"
        ) from error


@contextmanager
def joined() -> Iterator[Group]:
    """The group that `torchrun` started this process in; alone without it.

    On Linux the process ends with its `torchrun`, however that ends.

    Raises:
        WorkerLostError: If the processes do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    die_with(os.getppid())
    with _met():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
