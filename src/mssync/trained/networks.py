"""Reading trained networks: generators, syncers and their pyramids."""

from pathlib import Path

import torch

from mssync.errors import InputError
from mssync.models.generator import Generator
from mssync.models.syncer import Syncer
from mssync.trained import checkpoint

# The generator's checkpoint, in what `train_generator` writes and among the files of its run.
GENERATOR = "generator"
# The set of points that every evaluation needs.
ALL_POINTS = "all"


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Read a generator, ready for inference.

    Args:
        folder: Its checkpoint.
        device: Where to put it.

    Raises:
        InputError: If the folder holds no checkpoint of a generator.
    """
    tensors, metadata = checkpoint.load(folder)
    try:
        generator = Generator(**metadata["size"])
        generator.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{folder} holds no checkpoint of a generator: {error}") from error
    return generator.to(device).eval()


def load_syncers(folder: Path, device: torch.device) -> list[Syncer]:
    """Read a pyramid, frozen, lowest level first.

    Args:
        folder: Holds `level{l}/` checkpoints; levels may be missing.
        device: Where to put them.

    Raises:
        InputError: If the folder holds no checkpoint, or an unreadable one.
    """
    syncers = [load_syncer(path, device) for path in folder.glob("level*")]
    if not syncers:
        raise InputError(f"{folder} holds no syncer (level0/, level1/, ...): run train-syncers")
    return sorted(syncers, key=lambda syncer: syncer.level)


def load_evaluators(folder: Path, device: torch.device) -> dict[str, list[Syncer]]:
    """Read every pyramid of evaluators that was trained: set of points -> syncers.

    Args:
        folder: Holds a folder of `level{l}/` checkpoints for each set; `all` is one of them.
        device: Where to put them.

    Raises:
        InputError: If there is none of all points, or one cannot be read.
    """
    found = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if ALL_POINTS not in [path.name for path in found]:
        raise InputError(
            f"{folder} must hold evaluators of all points ({ALL_POINTS}/), found "
            f"{', '.join(path.name for path in found) or 'none'}: run train-syncers"
        )
    return {path.name: load_syncers(path, device) for path in found}


def load_syncer(folder: Path, device: torch.device) -> Syncer:
    """Read one syncer, frozen.

    Args:
        folder: Its checkpoint.
        device: Where to put it.

    Raises:
        InputError: If the folder holds no readable checkpoint.
    """
    tensors, metadata = checkpoint.load(folder)
    syncer = Syncer.from_config(metadata["config"])
    syncer.load_state_dict(tensors)
    return syncer.to(device).eval().requires_grad_(False)


def load_kernel(folder: Path) -> int:
    """The width of the box mean that a pyramid of syncers was trained with.

    Args:
        folder: As for `load_syncers`.

    Raises:
        InputError: If the folder holds no checkpoint, an unreadable one, or two of other widths.
    """
    kernels = {checkpoint.load(path)[1]["kernel"] for path in folder.glob("level*")}
    if len(kernels) != 1:
        raise InputError(
            f"{folder} must hold syncers of one kernel, found {sorted(kernels)}: run train-syncers"
        )
    kernel: int = kernels.pop()
    return kernel
