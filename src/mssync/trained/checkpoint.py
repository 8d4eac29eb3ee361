"""Checkpoints: a folder with `weights.safetensors` and `checkpoint.json`, written atomically.

The JSON holds what is needed to build the module again and to know where it came from. No pickle.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mssync.errors import InputError

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
METADATA = "checkpoint.json"


def save(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never a part.

    Args:
        folder: Created, or replaced.
        tensors: Everything that is a tensor, by name.
        metadata: Everything else; must survive JSON.

    Raises:
        OSError: If it cannot be written.
    """
    temporary = _writing(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())},
            temporary / WEIGHTS,
        )
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error), str(temporary)) from error
    (temporary / METADATA).write_text(json.dumps(dict(metadata), indent=2, sort_keys=True) + "\n")
    if folder.exists():
        previous = _previous(folder)
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
        temporary.rename(folder)
        shutil.rmtree(previous)
    else:
        temporary.rename(folder)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: its tensors and its metadata.

    Raises:
        InputError: If the folder holds no whole checkpoint.
    """
    previous = _previous(folder)
    if not folder.exists() and previous.exists():  # killed between the two renames of `save`
        with suppress(FileNotFoundError):  # another process was as fast
            previous.rename(folder)
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_text())
        return load_file(folder / WEIGHTS), metadata
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no readable checkpoint ({WEIGHTS} and {METADATA}): {error}"
        ) from error


def load_if(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a checkpoint that carries this key; nothing where it is missing, damaged or another's.

    Args:
        folder: As `save` wrote it.
        key: Digest of all that it depends on.
    """
    try:
        tensors, metadata = load(folder)
    except InputError as error:
        if folder.exists():
            logger.warning("%s; it will be replaced", error)
        return None
    if metadata.get("key") != key:
        logger.info("%s was made from other inputs and will be replaced", folder)
        return None
    return tensors, metadata


def remove(folder: Path) -> None:
    """Remove a checkpoint, if there is one, with what a killed `save` of it left behind."""
    remove_leftovers(folder)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed `save` left beside a checkpoint that is known to be whole."""
    for leftover in (_writing(folder), _previous(folder)):
        shutil.rmtree(leftover, ignore_errors=True)


def sha256(folder: Path) -> str:
    """Digest of a checkpoint's weights: the name under which a model is known."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _writing(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.writing")


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")
