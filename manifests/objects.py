"""What the checks ask of a set of objects: which pods it makes, and what selects them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manifests.render import Object
from pipeline import resources

# Argo puts the first of these on every pod of a run, Kubeflow the second.
ENGINE = {"workflows.argoproj.io/workflow": "", "pipeline/runid": ""}
SERVERS = {"DaemonSet", "Deployment", "StatefulSet"}


@dataclass(frozen=True)
class Pod:
    """A kind of pod.

    Attributes:
        owner: The object that makes it; None for steps, which Kubeflow makes.
        labels: Its labels.
        spec: Its specification; empty for steps.
    """

    owner: Object | None
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run before the others first."""
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    @property
    def ports(self) -> set[str]:
        """Names of its ports."""
        return {
            port["name"]
            for container in self.containers
            for port in container.get("ports", [])
            if "name" in port
        }


def name(item: Object) -> str:
    """Kind and name, as messages have it."""
    return f"{item['kind']}/{item['metadata']['name']}"


def named(objects: Iterable[Object], *kinds: str) -> dict[str, Object]:
    """Objects of some kinds by their name."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] in kinds}


def pods(objects: Iterable[Object]) -> list[Pod]:
    """Kinds of pods that the objects make."""
    return [
        Pod(item, template.get("metadata", {}).get("labels", {}), template["spec"])
        for item in objects
        for template in _templates(item)
    ]


def steps() -> list[Pod]:
    """Kinds of pods that Kubeflow makes for a run: one of each step, and its own drivers."""
    rows = resources.load().steps.items()
    return [Pod(None, ENGINE | resources.labels(step, asked), {}) for step, asked in rows] + [
        Pod(None, ENGINE, {})
    ]


def _templates(item: Object) -> Iterator[Object]:
    spec = item.get("spec") or {}
    if item["kind"] == "Pod":
        yield item
    elif item["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    elif item["kind"] in SERVERS | {"Job", "ReplicaSet"}:
        yield spec["template"]
    elif item["kind"] in ("TrainingRuntime", "ClusterTrainingRuntime"):
        for job in spec["template"]["spec"]["replicatedJobs"]:
            yield job["template"]["spec"]["template"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions) takes these labels."""
    pairs: Mapping[str, str] = selector.get("matchLabels", {})
    return pairs.items() <= labels.items() and all(
        _holds(each, labels) for each in selector.get("matchExpressions", [])
    )


def _holds(said: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = said["key"], said["operator"], said.get("values", [])
    return {
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
    }[str(operator)]
