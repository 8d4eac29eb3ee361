"""A Kubeflow Pipelines server: how it is reached, and what its errors mean.

The requests are those of Kubeflow's own client, with three things added: none waits for ever, a
page where JSON should be is an error and not an empty answer, and what fails says what to do.
"""

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials

from mssync.errors import InputError, ToolError
from mssync.lists.locations import without_secrets

HOST, TOKEN, UI = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"
_WAIT_S = (10, 60)  # to connect, to read
_PAGE = 100
_FORWARD = (
    "kubectl -n kubeflow port-forward service/ml-pipeline 8888, then --host http://localhost:8888"
)
# Kubeflow's client asks the server itself for the namespace of a pod where it is given none, and
# keeps the answer in the home folder.
_NO_NAMESPACE = "-"

Call = Callable[..., Any]


class UnreachableError(ToolError):
    """The server does not answer, or says that it cannot now: it may later."""


@dataclass(frozen=True)
class Server:
    """A server that answered.

    Attributes:
        client: Kubeflow's own.
        host: Its address, without secrets.
        namespace: Whose runs are meant; empty on a server for one user.
        token: Where the token comes from, for messages; empty: none.
        ui: Address of its pages.
    """

    client: Any
    host: str
    namespace: str
    token: str
    ui: str

    def ask(self, call: Call, *, what: str, **arguments: Any) -> Any:  # noqa: ANN401 - kfp is untyped
        """Send a request.

        Args:
            call: A method of one of the client's APIs.
            what: What it is about, for messages.
            arguments: Its arguments.

        Raises:
            InputError: If the server refuses it, or knows no such thing.
            UnreachableError: If it does not answer.
            ToolError: If what answers is no Kubeflow server, or it fails.
        """
        try:
            found = call(**arguments, _request_timeout=_WAIT_S)
        except kfp_server_api.ApiException as error:
            raise self._explained(error, what) from error
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(
                f"{self.host} does not answer ({_cause(error)}): is it the right address, and up? "
                f"From outside the cluster: {_FORWARD}"
            ) from error
        answer = getattr(call, "__self__").api_client.last_response  # noqa: B009 - a bound method
        kind = str(answer.getheader("Content-Type") or "")
        if "json" not in kind:
            raise self._not_kubeflow(kind, str(answer.data))
        return found

    def pages(self, call: Call, field: str, *, what: str, **arguments: Any) -> Iterator[Any]:  # noqa: ANN401
        """Everything that a list holds, page by page.

        Args:
            call: The method that lists.
            field: Name of the list in the answer.
            what: What it is about, for messages.
            arguments: Its arguments.
        """
        token = ""
        while True:
            page = self.ask(call, what=what, page_token=token, page_size=_PAGE, **arguments)
            yield from getattr(page, field) or []
            token = page.next_page_token
            if not token:
                return

    def run_page(self, run_id: str) -> str:
        """Address of a run's page."""
        return f"{self.ui}/#/runs/details/{run_id}"

    def _explained(self, error: kfp_server_api.ApiException, what: str) -> Exception:
        told = _told(error)
        found: dict[int, Exception] = {
            0: ToolError(f"{self.host} cannot be trusted: {error.reason}"),
            401: InputError(
                f"{self.host} does not accept who asks: expected a token that is valid, found "
                f"{self.token or 'none'} (401: {told}). Get a new one, and name its file "
                f"(--token-file, {TOKEN}); for instance kubectl create token NAME --audience "
                "pipelines.kubeflow.org > FILE"
            ),
            403: InputError(
                f"{self.host} does not allow this in namespace {self.namespace or '(none)'} (403: "
                f"{told}): name one of yours (--namespace), or have access given to you"
            ),
            404: InputError(
                f"{self.host} knows no {what}"
                + (f" in namespace {self.namespace}" if self.namespace else "")
                + f" (404: {told}): `python -m pipeline status` lists the runs it has"
            ),
            501: _mismatch(self.host, f"501: {told}"),
        }
        if error.status in found and (error.status != 404 or _is_ours(error)):
            return found[error.status]
        if error.status == 404:
            return _mismatch(self.host, "404")
        if error.status >= 500 or error.status == 429:
            return UnreachableError(f"{self.host} cannot answer now ({error.status}: {told})")
        return InputError(
            f"{self.host} refuses {what} ({error.status}: {told}). This is kfp {kfp.__version__}: "
            "fields that the server does not know mean that it is older"
        )

    def _not_kubeflow(self, kind: str, text: str) -> ToolError:
        title = re.search(r"<title>([^<]*)", text, re.IGNORECASE)
        named = f" titled {title[1].strip()!r}" if title else ""
        return ToolError(
            f"{self.host} is no Kubeflow Pipelines API: expected JSON, found {kind or 'nothing'}"
            f"{named}. Either the address is that of another service (the API's own often ends in "
            f"/pipeline), or a log-in page is before it: name a token (--token-file), or {_FORWARD}"
        )


def connect(host: str, *, namespace: str = "", token_file: Path | None = None) -> Server:
    """Reach a server.

    Args:
        host: Its address; empty: `$KF_PIPELINES_ENDPOINT`.
        namespace: Whose runs are meant; empty on a server for one user.
        token_file: File with a token, read anew for each request; None: the one that
            `$KF_PIPELINES_SA_TOKEN_PATH` names, else whatever Kubeflow's client finds.

    Raises:
        InputError: If the address, the namespace or the token does not fit.
        ToolError: If what answers is no Kubeflow server, or nothing does.
    """
    host = (host or os.environ.get(HOST, "")).rstrip("/")
    if not re.match(r"https?://[^/\s]+", host):
        raise InputError(
            f"expected the address of a Kubeflow Pipelines server, http(s)://..., found {host!r} "
            f"(--host, {HOST}). From outside the cluster: {_FORWARD}"
        )
    token, credentials = _credentials(token_file)
    # each of its tries again would be a warning
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the server must be of version 2
        try:
            client = kfp.Client(host, namespace=namespace or _NO_NAMESPACE, credentials=credentials)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"Kubeflow's client cannot be set up ({error!r}): see ~/.config/kfp, and the "
                "environment's KF_PIPELINES_..."
            ) from error
    shown = without_secrets(host)
    ui = os.environ.get(UI, shown).rstrip("/")
    server = Server(client, shown, namespace, token, ui)
    health = server.ask(client.healthzs.healthz_service_get_healthz, what="health check")
    if health.multi_user and not namespace:
        raise InputError(
            f"{shown} is for several users: expected a namespace, found none (--namespace; "
            "manifests/base makes one named mssync)"
        )
    if not health.multi_user and namespace:
        raise InputError(
            f"{shown} is for one user and knows no namespaces: expected none, found {namespace!r}: "
            "leave --namespace out"
        )
    return server


def equals(**wanted: str) -> str:
    """A filter for lists: fields that have a value."""
    predicates = [
        {"key": key, "operation": "EQUALS", "string_value": value} for key, value in wanted.items()
    ]
    return json.dumps({"predicates": predicates})


def _credentials(token_file: Path | None) -> tuple[str, Any]:
    named = str(token_file or os.environ.get(TOKEN, ""))
    if not named:
        return "", None
    try:
        empty = not Path(named).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the token file {named} cannot be read ({error}): name another (--token-file, {TOKEN})"
        ) from error
    if empty:
        raise InputError(f"the token file {named} is empty: put a token into it")
    return f"the one in {named}", ServiceAccountTokenVolumeCredentials(named)


def _body(error: kfp_server_api.ApiException) -> dict[str, Any]:
    try:
        found = json.loads(error.body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_ours(error: kfp_server_api.ApiException) -> bool:
    """Whether Kubeflow says so of a thing, not any server of an address that it has not."""
    body = _body(error)
    return body.get("code") == 5 and body.get("message", "Not Found") != "Not Found"


def _told(error: kfp_server_api.ApiException) -> str:
    told = str(_body(error).get("message") or error.reason or "no reason given")
    return told if len(told) <= 500 else f"{told[:500]}..."


def _mismatch(host: str, told: str) -> ToolError:
    return ToolError(
        f"{host} does not speak the API v2beta1 of Kubeflow Pipelines ({told}): expected a "
        f"server of version 2 (this is kfp {kfp.__version__}), found another service or an older "
        "one: name the API's address (--host; behind Kubeflow's gateway it ends in /pipeline), or "
        "upgrade"
    )


def _cause(error: BaseException) -> str:
    while reason := getattr(error, "reason", None):
        if not isinstance(reason, BaseException):
            break
        error = reason
    return re.sub(r"^.*?object at 0x\w+>: |^\w+\([^)]*\): ", "", str(error))
