"""The few calls to Kubernetes that a launcher makes, and what their refusals mean."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mssync.errors import InputError, ToolError
from mssync.launch.pods import JOB_LABEL
from mssync.launch.trainjob import GROUP, NODE, PLURAL, VERSION, Object

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_S = (10, 60)  # to connect, to be answered
_PASSING = {429, 500, 502, 503, 504}


class UnreachableError(ToolError):
    """The API does not answer, or not now."""


class Cluster:
    """Jobs and pods of one namespace.

    Every method raises `UnreachableError` while the API does not answer, and `ToolError` where it
    refuses.
    """

    def __init__(self) -> None:
        """Find the API: that of the cluster which this process is in, or of `$KUBECONFIG`.

        Raises:
            InputError: If there is neither.
        """
        from kubernetes import client, config

        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config()
                self.namespace = _NAMESPACE.read_text().strip()
            else:
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(file)
                _, active = config.list_kube_config_contexts(file)
                self.namespace = active["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise InputError(
                f"a training on several nodes needs a cluster, and there is none ({error}): set "
                "`nodes` to 1 in the table of resources, or $KUBECONFIG"
            ) from error
        self._jobs, self._pods = client.CustomObjectsApi(), client.CoreV1Api()

    def create(self, body: Object) -> None:
        """Create a job."""
        with _asking("create", f"{PLURAL}.{GROUP}"):
            self._jobs.create_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, PLURAL, body), _request_timeout=_TIMEOUT_S
            )

    def job(self, name: str) -> Object | None:
        """A job; None where there is none."""
        with _asking("get", f"{PLURAL}.{GROUP}", missing=True):
            found: Object = self._jobs.get_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, PLURAL, name), _request_timeout=_TIMEOUT_S
            )
            return found
        return None

    def delete(self, name: str) -> None:
        """Remove a job after its pods, which are asked to end; none is as well."""
        with _asking("delete", f"{PLURAL}.{GROUP}", missing=True):
            self._jobs.delete_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, PLURAL, name),
                body={"propagationPolicy": "Foreground"},
                _request_timeout=_TIMEOUT_S,
            )

    def pods(self, name: str) -> list[Object]:
        """Pods of a job."""
        with _asking("list", "pods"):
            answer = self._pods.list_namespaced_pod(
                self.namespace,
                label_selector=f"{JOB_LABEL}={name}",
                _preload_content=False,
                _request_timeout=_TIMEOUT_S,
            )
            found: list[Object] = json.loads(answer.data)["items"]
            return found

    def log(self, pod: str, *, since_s: int | None) -> list[str]:
        """Lines of a pod's log, each after its time; none where there is none yet.

        Args:
            pod: Its name.
            since_s: Only of that many last seconds.
        """
        with _asking("get", "pods/log", missing=True):
            more = {} if since_s is None else {"since_seconds": since_s}
            answer = self._pods.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=NODE,
                timestamps=True,
                _preload_content=False,
                _request_timeout=_TIMEOUT_S,
                **more,
            )
            said: str = answer.data.decode(errors="replace")
            return said.splitlines()
        return []


@contextmanager
def _asking(verb: str, resource: str, *, missing: bool = False) -> Iterator[None]:
    """Within: the API is asked for something.

    Args:
        verb: What is done, as in a role.
        resource: To what.
        missing: Whether it may be missing; then what is within ends early.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except HTTPError as error:
        raise UnreachableError(f"the cluster's API does not answer ({error})") from error
    except ApiException as error:
        said = _message(error)
        # 400: the container has not started yet
        if missing and error.status in (404, 400) and "page not found" not in said:
            return
        raise _refusal(error.status, said, verb, resource) from error


def _refusal(status: int, said: str, verb: str, resource: str) -> ToolError:
    if status in _PASSING:
        return UnreachableError(f"the cluster's API cannot {verb} {resource} now ({said})")
    if status == 404:
        return ToolError(
            f"the cluster has no {resource} of {VERSION} ({said}): install Kubeflow Trainer 2.2 or "
            "newer, and manifests/components/trainer"
        )
    if status == 401 or (status == 403 and "denied the request" not in said):
        return ToolError(
            f"this step's account may not {verb} {resource} ({said}): its role must allow it "
            "(manifests/base/steps-account.yaml)"
        )
    return ToolError(f"the cluster refuses to {verb} {resource}: {said}")


def _message(error: Any) -> str:  # noqa: ANN401 - the client has no types
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason).strip()
