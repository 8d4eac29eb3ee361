"""Are the weights of the face_alignment backend there and whole, and how do they get there?

PyTorch's cache holds them, `$TORCH_HOME/hub/checkpoints/`, where face_alignment itself looks for
them. Their makers publish no digests but those in the files' names: the first digits of the
SHA-256, by the convention of `torch.hub`. Those are compared, ten of 64: enough against a broken
transfer or a wrong file, not against an attacker with time.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import httpx
import torch
from torch.hub import HASH_REGEX

from mssync.errors import InputError

_TIMEOUT_S = 30.0  # longest silence of the server
_MOST_BYTES = 1_000_000_000  # ten times what the largest file takes

State = Literal["fits", "missing", "wrong"]


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        purpose: Which network they are for.
        url: Where they can be fetched.
    """

    purpose: str
    url: str

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def digits(self) -> str:
        """What the file's SHA-256 begins with, as its name has it; empty if it has none."""
        found = HASH_REGEX.search(self.name)
        return found.group(1) if found else ""


def required() -> tuple[Weights, Weights]:
    """What face_alignment needs, by its own tables: 2D-FAN and the detector S3FD."""
    from face_alignment.api import models_urls as networks
    from face_alignment.detection.sfd.sfd_detector import models_urls as detectors

    return (
        Weights("points (2D-FAN)", networks["2DFAN-4"]),
        Weights("detector (S3FD)", detectors["s3fd"]),
    )


def default_folder() -> Path:
    """Where stages look: `$TORCH_HOME/hub/checkpoints`, else in `~/.cache/torch`.

    Where that has none of the files, `$MSSYNC_WEIGHTS` if it is set: an image may bring them.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    brought = os.environ.get("MSSYNC_WEIGHTS")
    if brought and not any((cache / each.name).exists() for each in required()):
        return Path(brought)
    return cache


def state(wanted: Weights, folder: Path) -> State:
    """Whether a file is there and begins with the right digits; `wrong` if it does not."""
    path = folder / wanted.name
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return "fits" if digest.startswith(wanted.digits) else "wrong"


def check(wanted: Sequence[Weights], folder: Path) -> None:
    """Make sure that all is there.

    Raises:
        InputError: If a file is missing, or is not what its name says.
    """
    troubles = [
        (each, "is missing" if found == "missing" else _not_the_file(each))
        for each in wanted
        if (found := state(each, folder)) != "fits"
    ]
    if troubles:
        raise InputError(_explain(troubles, folder, tried=False))


def fetch(wanted: Sequence[Weights], folder: Path) -> None:
    """Fetch what is missing or wrong; a file appears under its name only when it is whole.

    Args:
        wanted: Files; those that fit are left alone.
        folder: Created.

    Raises:
        InputError: If the folder cannot be made; if one could not be fetched, or is not what its
            name says: the others are fetched all the same.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    troubles = []
    with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
        for each in wanted:
            if state(each, folder) == "fits":
                continue
            try:
                _fetch_one(client, each, folder)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                cause = str(error) or type(error).__name__
                troubles.append((each, f"could not be fetched ({cause})"))
            except _UnfitError as error:
                troubles.append((each, str(error)))
    if troubles:
        raise InputError(_explain(troubles, folder, tried=True))


class _UnfitError(Exception):
    """What came is not the file."""


def _fetch_one(client: httpx.Client, wanted: Weights, folder: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{wanted.name}.", dir=folder)
    partial = Path(name)
    try:
        digest, received = hashlib.sha256(), 0
        with os.fdopen(descriptor, "wb") as file, client.stream("GET", wanted.url) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                received += len(chunk)
                if received > _MOST_BYTES:
                    raise _UnfitError(f"has more than {_MOST_BYTES} bytes at its source")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if not digest.hexdigest().startswith(wanted.digits):
            raise _UnfitError(f"at its source {_not_the_file(wanted)}, {received} bytes came")
        partial.chmod(0o644)
        partial.replace(folder / wanted.name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def _not_the_file(wanted: Weights) -> str:
    return f"is not what its name says: its SHA-256 does not begin with {wanted.digits}"


def _explain(troubles: Sequence[tuple[Weights, str]], folder: Path, *, tried: bool) -> str:
    files = "\n".join(f"  {each.name} {trouble}\n    {each.url}" for each, trouble in troubles)
    how = "" if tried else "fetch them with mssync weights --fetch, or "
    return (
        f"the backend face_alignment cannot be used, its weights do not fit:\n{files}\n"
        f"On a machine with network {how}fetch them from these addresses and put them into "
        f"{folder}; stages look in {default_folder()}, which TORCH_HOME moves. The backend "
        "mediapipe needs no weights: "
        "extract_landmarks.backend."
    )
