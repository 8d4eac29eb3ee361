"""Reading trained networks: generators, syncers and their pyramids."""

from pathlib import Path

import torch

from mssync.errors import InputError
from mssync.models.generator import Generator
from mssync.models.syncer import Syncer
from mssync.points import ALL, POINT_SETS
from mssync.trained import checkpoint

# The generator's checkpoint, in what `train_generator` writes and among the files of its run.
GENERATOR = "generator"


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
        folder: Holds a folder of `level{l}/` checkpoints for each set (`points.POINT_SETS`); `all`
            is one of them.
        device: Where to put them.

    Raises:
        InputError: If there is none of all points, one of an unknown set, or one that cannot be
            read.
    """
    found = {path.name for path in folder.glob("[!.]*") if path.is_dir()}
    if ALL not in found or not found <= set(POINT_SETS):
        raise InputError(
            f"{folder} must hold evaluators of {ALL} points and may hold others of "
            f"{', '.join(POINT_SETS)}, found {', '.join(sorted(found)) or 'none'}: run "
            "train-syncers"
        )
    return {
        points: load_syncers(folder / points, device) for points in POINT_SETS if points in found
    }


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
