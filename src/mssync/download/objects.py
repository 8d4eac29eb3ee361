"""How does an object of an object store (`s3://` and the like) get into the media store?

Endpoint and credentials are the operator's and come from the store's standard environment
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, ...; `FSSPEC_S3_ANON=true` asks without
credentials). So does the proxy (`HTTPS_PROXY`, `NO_PROXY`): the one among the secrets is for the
web. A list names nothing but bucket and key, which are written as they are, not URL-encoded.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from mssync.download import partial
from mssync.download.budget import Budget
from mssync.download.partial import Note, Part
from mssync.download.secrets import Secrets
from mssync.errors import ClipRejectedError, InputError
from mssync.media.store import MediaStore, Origin, Provenance
from mssync.params import DownloadVideos

# Stores whose endpoint only the operator chooses. Everything else that fsspec knows would let a
# list read files of this machine (file, local, memory, zip, reference, ...) or connect where no
# policy is asked (http, ftp, sftp, smb, webhdfs, github, ...).
SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})

_CHUNK_BYTES = 4 << 20  # one request each, held in memory
_CHAINED = re.compile(r"::[a-z0-9+.-]+://", re.IGNORECASE)
_SETTINGS = ("AWS_", "FSSPEC_", "GOOGLE_", "AZURE_", "OSS_", "OCI_", "HTTP", "NO_PROXY")

# What the service answered, by its code; with HEAD there is no code but the status.
_BY_CODE = {
    "AuthorizationHeaderMalformed": "auth",
    "CredentialsNotSupported": "auth",
    "ExpiredToken": "auth",
    "InvalidAccessKeyId": "auth",
    "InvalidSecurity": "auth",
    "InvalidToken": "auth",
    "MissingSecurityHeader": "auth",
    "RequestTimeTooSkewed": "auth",
    "SignatureDoesNotMatch": "auth",
    "TokenRefreshRequired": "auth",
    "BandwidthLimitExceeded": "rate_limit",
    "RequestLimitExceeded": "rate_limit",
    "SlowDown": "rate_limit",
    "Throttling": "rate_limit",
    "ThrottlingException": "rate_limit",
    "TooManyRequests": "rate_limit",
    "InvalidBucketName": "refused",
    "InvalidObjectState": "unreadable",  # in an archive
    "KeyTooLongError": "refused",
    "RequestTimeout": "timeout",
}
_BY_STATUS = {
    400: "auth",  # all that HEAD says of a token that has expired
    401: "auth",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    410: "gone",
    429: "rate_limit",
}
# What the client says itself, by class: of Python, fsspec, botocore, aiohttp, google, azure.
_BY_CLASS = {
    "NoCredentialsError": "auth",
    "PartialCredentialsError": "auth",
    "CredentialRetrievalError": "auth",
    "ProfileNotFound": "auth",
    "SSOError": "auth",
    "TokenRetrievalError": "auth",
    "DefaultCredentialsError": "auth",
    "RefreshError": "auth",
    "ClientAuthenticationError": "auth",
    "FileNotFoundError": "not_found",
    "ResourceNotFoundError": "not_found",
    "IsADirectoryError": "not_found",
    "PermissionError": "forbidden",
    "ParamValidationError": "refused",
    "TimeoutError": "timeout",
    "FSTimeoutError": "timeout",
    "ConnectTimeoutError": "timeout",
    "ReadTimeoutError": "timeout",
    "ConnectionError": "connection",
    "HTTPClientError": "connection",
    "ClientConnectionError": "connection",
    "ClientPayloadError": "connection",
    "IncompleteRead": "connection",
    "ServiceRequestError": "connection",
}


@dataclass(frozen=True)
class _Object:
    """What the store says of an object.

    Attributes:
        size: In bytes.
        etag: Or another checksum, where there is one.
        modified: ISO 8601, where it is known.
        content_type: Where it is known.
    """

    size: int
    etag: str
    modified: str
    content_type: str

    @property
    def validator(self) -> str:
        """Changes with the content; empty where the store says nothing that does."""
        return self.etag or self.modified

    def is_as_in(self, known: Origin) -> bool:
        """Whether it has not changed since."""
        return bool(self.validator) and (known.validator, known.bytes) == (
            self.validator,
            self.size,
        )


class _Remote:
    """One object, as its store's client sees it.

    Args:
        url: Scheme, bucket and key.
        params: The stage's section.
        secrets: What must not be in a message.
    """

    def __init__(self, url: str, params: DownloadVideos, secrets: Secrets) -> None:
        scheme = _check(url)
        self._system = _client(scheme, params.timeout_s, params.connections, _settings())
        address = scheme + url[len(scheme) :]
        self._path = str(type(self._system)._strip_protocol(address))
        self._params = params
        self._secrets = secrets

    @property
    def tool(self) -> str:
        """Name and version of the client."""
        package = type(self._system).__module__.partition(".")[0]
        return f"{package} {version(package)}"

    def look(self) -> _Object:
        """What the object is now."""
        # several requests may be needed, each with a timeout of its own
        info = self._ask("info", self._path, longest_s=4 * self._params.timeout_s)
        if info.get("type") == "directory":
            raise ClipRejectedError("not_found", "a folder, not an object")
        size = info.get("size")
        if not isinstance(size, int):
            raise ClipRejectedError("server_error", "the store does not say how large it is")
        return _Object(
            size=size,
            etag=_first(info, "ETag", "etag", "md5Hash", "content_md5", "crc32c"),
            modified=_first(info, "LastModified", "last_modified", "updated", "mtime"),
            content_type=_first(info, "ContentType", "contentType", "content_type"),
        )

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`."""
        # the client's own timeout is that of a silence: drop by drop it would never end
        slowest = self._params.min_bytes_per_s
        longest_s = 2 * self._params.timeout_s + (end - start) / slowest if slowest else None
        data = self._ask("cat_file", self._path, start=start, end=end, longest_s=longest_s)
        if len(data) != end - start:
            message = f"expected {end - start} bytes from {start}, got {len(data)}"
            raise ClipRejectedError("connection", message)
        return bytes(data)

    def _ask(self, method: str, *args: object, longest_s: float | None, **options: object) -> Any:  # noqa: ANN401
        """Call the client; whatever it raises gets a reason code."""
        try:
            if isinstance(self._system, AsyncFileSystem):
                call = getattr(self._system, f"_{method}")
                return sync(self._system.loop, call, *args, timeout=longest_s, **options)
            return getattr(self._system, method)(*args, **options)
        except Exception as error:  # the clients' libraries have no error in common
            raise _explain(error, self._secrets) from error


def key(url: str) -> str:
    """What an object is remembered by."""
    return f"object:{url}"


def fetch(
    url: str,
    store: MediaStore,
    *,
    params: DownloadVideos,
    budget: Budget,
    secrets: Secrets,
    known: Origin | None = None,
) -> Origin:
    """Bring an object into the store; a part that is there already is not read again.

    Args:
        url: Scheme, bucket and key.
        store: Where it goes.
        params: The stage's section.
        budget: Is asked before the object is read, and counts what is.
        secrets: What must not be in a message.
        known: What was fetched before; is returned where the object has not changed.

    Raises:
        ClipRejectedError: If it cannot be had.
        InputError: If the package for such a store is not installed.
    """
    remote, name = _Remote(url, params, secrets), key(url)
    patience_s = 2 * params.timeout_s + params.max_wait_s
    with partial.hold(store, name, patience_s=patience_s) as part:
        newer = store.recall(name)  # another process may have been quicker
        if newer and newer != known:
            return newer
        found = remote.look()
        if known and found.is_as_in(known) and known.sha256 in store:
            return known
        if not found.size:
            raise ClipRejectedError("not_a_video", "the object is empty")
        note = Note(name, found.validator, found.size, _provenance(url, remote.tool, found))
        _receive(remote, part, note, budget)
        return part.finish(store)


def _receive(remote: _Remote, part: Part, note: Note, budget: Budget) -> None:
    """Read what is missing."""
    before = part.note
    if (
        before
        and (part.can_go_on or part.is_complete)
        and (before.validator, before.total_bytes) == (note.validator, note.total_bytes)
    ):
        part.go_on()
    else:
        part.begin(note)
    total, offset = note.total_bytes, part.size
    budget.receive(0, total=total)
    budget.expect(total - offset)
    for start in range(offset, total, _CHUNK_BYTES):
        chunk = remote.read(start, min(start + _CHUNK_BYTES, total))
        budget.receive(len(chunk), total=start + len(chunk))
        part.write(chunk)
    # one request is of one version; several may not be
    if (offset or total > _CHUNK_BYTES) and remote.look().validator != note.validator:
        part.discard()
        raise ClipRejectedError("connection", "the object changed while it was read")


def _provenance(url: str, tool: str, found: _Object) -> Provenance:
    return Provenance(
        url=url,
        final_url=url,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=tool,
        etag=found.etag,
        modified=found.modified,
        content_type=found.content_type,
    )


def _check(url: str) -> str:
    """The scheme of a URL that may be asked for."""
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    bucket, _, path = rest.partition("/")
    problem = ""
    if not found or scheme not in SCHEMES:
        problem = f"expected the scheme of an object store, one of {', '.join(sorted(SCHEMES))}"
    elif _CHAINED.search(rest):
        problem = "a chain of addresses (::) is not followed"
    elif "?versionId=" in rest:
        problem = "a version of an object cannot be asked for: list it without ?versionId="
    elif ":" in bucket.rpartition("@")[0]:
        problem = "credentials do not belong into a list: set them in the environment"
    elif not bucket or not path:
        problem = "expected a bucket and a key"
    if problem:
        raise ClipRejectedError("refused", problem)
    return scheme


def _settings() -> int:
    """Differs where the environment names another endpoint or other credentials."""
    chosen = (item for item in os.environ.items() if item[0].upper().startswith(_SETTINGS))
    return hash(tuple(sorted(chosen)))


@lru_cache(maxsize=4)
def _client(scheme: str, timeout_s: float, connections: int, settings: int) -> Any:  # noqa: ANN401
    """One client for all threads: fsspec itself would make one for each, with its own pool."""
    del settings  # only tells clients apart
    try:
        implementation = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise InputError(f"{scheme}:// cannot be read: {error}") from error
    if scheme not in {"s3", "s3a"}:
        return implementation(skip_instance_cache=True)
    client = implementation(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": timeout_s,
            "read_timeout": timeout_s,
            "max_pool_connections": connections,
            "retries": {"max_attempts": 0},
        },
    )
    client.retries = 1  # the download itself tries again, and counts it
    return client


def _first(info: Mapping[str, Any], *names: str) -> str:
    """The first of these that is known: every store has names of its own."""
    value = next((info[name] for name in names if info.get(name)), "")
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _explain(error: Exception, secrets: Secrets) -> ClipRejectedError:
    """What a client raised, with a reason code and its first cause's own words."""
    cause = error
    while not hasattr(cause, "response") and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    told = cause if hasattr(cause, "response") else error
    message = " ".join(str(told).split()) or type(told).__name__
    if type(told) is FileNotFoundError:  # says no more than the name
        message = f"there is no object {message}"
    return ClipRejectedError(_reason(error, cause), secrets.redact(message))


def _reason(error: Exception, cause: Exception) -> str:
    response = getattr(cause, "response", None)
    if isinstance(response, Mapping):
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        found = _BY_CODE.get(code) or _BY_STATUS.get(status)
        if found:
            return found
    for each in (error, cause):
        for parent in type(each).__mro__:
            if parent.__name__ in _BY_CLASS:
                return _BY_CLASS[parent.__name__]
    return "server_error"
