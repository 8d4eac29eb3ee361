"""The MLflow store: where it is, and what its errors mean."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mssync.errors import ToolError

# MLflow itself would try a request for four minutes, two minutes each time.
_IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_BUSY = (
    *("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"),
    *("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"),
)
_WRONG = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")


class StoreUnreachableError(ToolError):
    """The store does not answer, or says that it cannot now: it may later."""


class EntryRefusedError(ToolError):
    """The store answers, and will never take what it was sent."""


def address(configured: str) -> str:
    """Where the store is: `$MLFLOW_TRACKING_URI` where it is set, else what is configured."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured
    file = uri.removeprefix("sqlite:///")
    # MLflow keeps what it opened by name, and a relative name means another file elsewhere
    return f"sqlite:///{Path(file).resolve()}" if file != uri else uri


def client(uri: str) -> Any:  # noqa: ANN401 - mlflow is untyped
    """A client of the store, whose requests fail soon where the environment does not say otherwise.

    A spool tries again by itself, and a stage waits for the store when it begins and ends.

    Raises:
        ToolError: If there can be no such store.
    """
    import mlflow

    for name, value in _IMPATIENCE.items():
        os.environ.setdefault(name, value)
    # not mlflow.set_tracking_uri: that is for the whole process, and for what it starts
    with explained(uri):
        return mlflow.MlflowClient(address(uri))


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into errors that say what to do.

    Raises:
        StoreUnreachableError: If the store may answer later.
        EntryRefusedError: If the store will not take what it was given.
        ToolError: If the store cannot be used.
    """
    try:
        yield
    except _store_errors() as error:
        message = f"the MLflow store {address(uri)} (paths.tracking_uri) cannot be used: {error}"
        raise _kind(uri, error)(message) from error


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a run, without those of MLflow itself."""
    return {name: value for name, value in tags.items() if not name.startswith("mlflow.")}


def _kind(uri: str, error: Exception) -> type[ToolError]:
    code = getattr(error, "error_code", "")
    if code in _WRONG:
        return EntryRefusedError
    if urlsplit(address(uri)).scheme in ("http", "https") and _passes(error, code):
        return StoreUnreachableError
    return ToolError


def _passes(error: Exception, code: str) -> bool:
    """Whether a later request may end otherwise."""
    from mlflow.exceptions import RestException
    from requests import exceptions

    if code in _BUSY or (code == "INTERNAL_ERROR" and isinstance(error, RestException)):
        return True
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, exceptions.RequestException):
            # an address or a certificate that is wrong stays wrong
            if isinstance(found, ValueError | exceptions.SSLError):
                return False
            status = found.response.status_code if found.response is not None else 503
            return status in (408, 429) or status >= 500
        found = found.__cause__ or found.__context__
    return False


def _store_errors() -> tuple[type[Exception], ...]:
    """What a store that is missing, locked, unreachable or without its driver raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, ImportError, OSError
