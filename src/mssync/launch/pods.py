"""What the pods of a job say of themselves."""

from collections.abc import Iterator, Sequence
from typing import Any

Object = dict[str, Any]

JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
_INDEX = "batch.kubernetes.io/job-completion-index"
# They do not pass by waiting.
_CANNOT_START = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
}


def node_of(pod: Object) -> int:
    """Number of the node that a pod is, from 0."""
    metadata = pod["metadata"]
    named = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
    return int(named.get(_INDEX, "0"))


def waiting(pods: Sequence[Object]) -> Iterator[tuple[str, bool]]:
    """Why pods have not started: in words, and whether waiting is in vain."""
    for pod in pods:
        for status in _containers(pod):
            state = status.get("state", {}).get("waiting") or {}
            if state.get("reason") in _CANNOT_START:
                yield _told(pod, status, state), True
        for condition in pod.get("status", {}).get("conditions", []):
            if condition.get("reason") == "Unschedulable":
                yield f"{_name(pod)} waits for a machine: {condition.get('message', '')}", False


def deaths(pods: Sequence[Object]) -> Iterator[tuple[str, str]]:
    """Pods that failed, the telling ones first: the reason's code, and the reason in words."""
    found = []
    for pod in pods:
        status = pod.get("status", {})
        if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost
            text = f"{_name(pod)}: {status['reason']}: {status.get('message', '')}"
            found.append(("worker_lost", text))
        for each in _containers(pod):
            ended = _ended(each)
            if ended.get("reason") == "OOMKilled":
                found.append(("out_of_memory", _told(pod, each, ended)))
            elif ended.get("exitCode"):
                found.append(("tool", _told(pod, each, ended)))
    yield from sorted(
        found, key=lambda each: ("out_of_memory", "worker_lost", "tool").index(each[0])
    )


def _containers(pod: Object) -> list[Object]:
    found: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    return found


def _ended(status: Object) -> Object:
    for when in ("state", "lastState"):
        ended: Object = status.get(when, {}).get("terminated") or {}
        if ended:
            return ended
    return {}


def _name(pod: Object) -> str:
    return f"node {node_of(pod)} (pod {pod['metadata']['name']})"


def _told(pod: Object, status: Object, state: Object) -> str:
    code = f", exit code {state['exitCode']}" if "exitCode" in state else ""
    message = f": {state['message']}" if state.get("message") else ""
    return f"{_name(pod)}, container {status['name']}: {state.get('reason')}{code}{message}"
