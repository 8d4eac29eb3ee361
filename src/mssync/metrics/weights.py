"""Weights that the project does not bring along: the user does."""

from pathlib import Path

from mssync.errors import InputError


def present(file: Path, *, option: str, expected: str) -> None:
    """Refuse a file that is not there.

    Args:
        file: Where the weights should be.
        option: Of `mssync evaluate`, that names it.
        expected: What should be there, and where it comes from.

    Raises:
        InputError: If it is no file.
    """
    if not file.is_file():
        raise InputError(
            f"{file} is no file: {expected}. Nothing here fetches it; name it with {option} FILE, "
            "or leave the option, and what it measures, out"
        )
