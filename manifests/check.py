"""Checks of rendered objects that no schema makes: `python -m manifests.check manifests/base`.

Each finds what a server would take, and what would then not work, or be less safe than it looks.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from manifests import pod_checks
from manifests.objects import SERVERS, Pod, name, named, pods, selects, steps
from manifests.render import CLUSTER_SCOPED, Object, objects_of, parse, read, render
from mssync.cli import guarded
from mssync.errors import InputError

TEMPLATES = Path(__file__).with_name("secrets")
PLACEHOLDER = re.compile("<[a-z ]+>")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def templates(folder: Path = TEMPLATES) -> list[Object]:
    """Secrets that a cluster's operator makes from the templates of a folder."""
    return [item for path in sorted(folder.glob("*.template.yaml")) for item in read(path)]


def check(objects: Sequence[Object], secrets: Sequence[Object]) -> list[str]:
    """Check a set of objects.

    Args:
        objects: All that one kustomization renders to.
        secrets: Templates of the secrets that it counts on.

    Returns:
        What is wrong, each with the object; empty where nothing is.
    """
    keys = {kind: dict(found) for kind, found in pod_checks.BROUGHT.items()}
    for item in secrets:
        keys["Secret"][item["metadata"]["name"]] = set(item["stringData"])
    for item in objects:
        if item["kind"] in keys:
            data = (item.get("data") or {}) | (item.get("stringData") or {})
            keys[item["kind"]][item["metadata"]["name"]] = set(data)
    found = list[str]()
    for pod in pods(objects):
        assert pod.owner is not None
        own = [*pod_checks.references(pod, objects, keys), *pod_checks.alone(pod, objects)]
        for rule in (
            pod_checks.images,
            pod_checks.amounts,
            pod_checks.rights,
            pod_checks.probes,
            pod_checks.ports,
        ):
            own += rule(pod)
        found += [f"{name(pod.owner)}: {each}" for each in own]
    for check_all in (names, spaces, selectors, policies, roles, values, runtimes):
        found += check_all(objects)
    return found + [f"template {each}" for each in filled(secrets)]


def names(objects: Sequence[Object]) -> Iterator[str]:
    """Every name is one that a server takes, and no object is there twice."""
    for item in objects:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", item["metadata"]["name"]):
            yield f"{name(item)}: a name is small letters, digits, - and ."
    for pod in pods(objects):
        ports = [port for each in pod.containers for port in each.get("ports", [])]
        for part in [*pod.containers, *ports]:
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", part.get("name", "x")):
                owner = name(pod.owner or {})
                yield f"{owner}: {part['name']!r}: a name is small letters, digits and -"
    for key, count in Counter(name(item) for item in objects).items():
        if count > 1:
            yield f"{key}: is there {count} times"


def spaces(objects: Sequence[Object]) -> Iterator[str]:
    """All objects are in one namespace, which refuses pods that are not restricted."""
    found = {
        item["metadata"].get("namespace", "")
        for item in objects
        if item["kind"] not in CLUSTER_SCOPED
    }
    if len(found) > 1 or "" in found:
        yield f"expected one namespace for all, found {sorted(found)}"
    for item in named(objects, "Namespace").values():
        enforced = "pod-security.kubernetes.io/enforce"
        level = item["metadata"].get("labels", {}).get(enforced)
        if level != "restricted":
            yield f"{name(item)}: expected {enforced}: restricted, found {level}"


def selectors(objects: Sequence[Object]) -> Iterator[str]:
    """Servers, services and budgets select pods that there are, on ports that these name."""
    made = pods(objects)
    for item in objects:
        spec = item.get("spec") or {}
        if item["kind"] in SERVERS:
            labels = spec["template"].get("metadata", {}).get("labels", {})
            if not selects(spec["selector"], labels):
                yield f"{name(item)}: its selector does not take its own pods"
        elif item["kind"] == "Service" and "selector" in spec:
            chosen = [pod for pod in made if spec["selector"].items() <= pod.labels.items()]
            if len(chosen) != 1:
                yield f"{name(item)}: expected pods of one kind behind it, found {len(chosen)}"
            for port in spec["ports"]:
                if chosen and port.get("targetPort") not in chosen[0].ports:
                    yield f"{name(item)}: no port of its pods is named {port.get('targetPort')}"
        elif item["kind"] == "PodDisruptionBudget":
            yield from _budget(item, made)


def _budget(item: Object, made: Sequence[Pod]) -> Iterator[str]:
    chosen = [pod for pod in made if selects(item["spec"]["selector"], pod.labels)]
    if not chosen:
        yield f"{name(item)}: selects no pod"
    for pod in chosen:
        replicas = (pod.owner or {}).get("spec", {}).get("replicas", 1)
        least = item["spec"].get("minAvailable", 0)
        if isinstance(least, int) and least >= replicas:
            yield f"{name(item)}: keeps {least} of {replicas} pods: no node could ever be drained"


def policies(objects: Sequence[Object]) -> Iterator[str]:
    """Every network policy selects pods that there are, on ports that these name."""
    kinds = [*pods(objects), *steps()]
    for item in named(objects, "NetworkPolicy").values():
        spec = item["spec"]
        chosen = [pod for pod in kinds if selects(spec["podSelector"], pod.labels)]
        if not chosen:
            yield f"{name(item)}: its podSelector takes no pod that there is"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction) or []:
                if direction.capitalize() not in spec.get("policyTypes", []):
                    yield f"{name(item)}: has {direction} rules, but not in policyTypes"
                reached = chosen if direction == "ingress" else []
                for peer in rule.get(peers, []):
                    if "podSelector" not in peer or "namespaceSelector" in peer:
                        continue
                    met = [pod for pod in kinds if selects(peer["podSelector"], pod.labels)]
                    if not met:
                        yield f"{name(item)}: {direction}: {peer['podSelector']} takes no pod"
                    reached = met if direction == "egress" else reached
                yield from _ports(item, rule, reached)


def _ports(item: Object, rule: Object, reached: Sequence[Pod]) -> Iterator[str]:
    for port in rule.get("ports", []):
        asked: Any = port.get("port")
        numbers = {
            each["containerPort"]
            for pod in reached
            for container in pod.containers
            for each in container.get("ports", [])
        }
        there = numbers | {each for pod in reached for each in pod.ports}
        if asked not in there and (isinstance(asked, str) or reached):
            known = ", ".join(sorted(map(str, there)))
            yield f"{name(item)}: port {asked} is none of the pods that it is about ({known})"


def roles(objects: Sequence[Object]) -> Iterator[str]:
    """Roles name what they allow, and are bound to accounts that are there."""
    there = named(objects, "Role", "ClusterRole")
    accounts = named(objects, "ServiceAccount")
    for item in there.values():
        for rule in item["rules"]:
            fields = ("apiGroups", "resources", "verbs", "resourceNames")
            if wild := [field for field in fields if "*" in rule.get(field, [])]:
                yield f"{name(item)}: allows everything (*) in {', '.join(wild)}: name it"
            read_out = {"get", "list", "watch"} & set(rule["verbs"])
            if (
                "secrets" in rule.get("resources", [])
                and read_out
                and not rule.get("resourceNames")
            ):
                yield f"{name(item)}: reads every secret: name them (resourceNames)"
    for item in named(objects, "RoleBinding", "ClusterRoleBinding").values():
        if item["roleRef"]["name"] not in there:
            yield f"{name(item)}: there is no {item['roleRef']['kind']} {item['roleRef']['name']}"
        for subject in item.get("subjects", []):
            if subject["kind"] == "ServiceAccount" and subject["name"] not in accounts:
                yield f"{name(item)}: there is no account {subject['name']}"


def values(objects: Sequence[Object]) -> Iterator[str]:
    """No secret is among the objects, and no variable holds one."""
    for item in named(objects, "Secret").values():
        if item.get("data") or item.get("stringData"):
            yield f"{name(item)}: holds values: make it on the cluster, from a template"
    for pod in pods(objects):
        for container in pod.containers:
            for variable in container.get("env", []):
                secret = re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL", variable["name"])
                address = re.search(r"://[^/\s:@]*:[^/\s@]+@", str(variable.get("value", "")))
                if "value" in variable and (secret or address):
                    yield (
                        f"{name(pod.owner or {})}: {variable['name']} is written out: take it from "
                        "a secret (valueFrom)"
                    )


def runtimes(objects: Sequence[Object]) -> Iterator[str]:
    """Every training job has its runtime; a quota has defaults for containers that ask nothing."""
    for item in named(objects, "TrainJob").values():
        wanted = item["spec"]["runtimeRef"]
        kind = wanted.get("kind", "ClusterTrainingRuntime")
        if wanted["name"] not in named(objects, kind):
            yield f"{name(item)}: there is no {kind} {wanted['name']}"
    if named(objects, "ResourceQuota") and not named(objects, "LimitRange"):
        yield "a quota refuses containers without requests: add a LimitRange with defaults"


def filled(secrets: Sequence[Object]) -> Iterator[str]:
    """Templates hold placeholders only."""
    for item in secrets:
        for key, value in item["stringData"].items():
            if not PLACEHOLDER.search(value):
                yield f"{name(item)}: {key} has no <placeholder>: is it a real value?"


@app.command()
def main(
    source: Annotated[
        str, typer.Argument(help="Folder with a kustomization.yaml; - reads rendered objects.")
    ],
) -> None:
    """Check what a folder renders to: images, rights, probes, names, selectors, secrets."""
    objects = (
        objects_of(parse(sys.stdin.read(), named="-"), named="-")
        if source == "-"
        else render(Path(source))
    )
    try:
        problems = check(objects, templates())
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: an object lacks what its kind must have ({error!r}): kubectl apply "
            "--dry-run=server says which"
        ) from error
    if problems:
        raise InputError(f"{source}: {len(problems)} found\n" + "\n".join(problems))
    typer.echo(f"{source}: {len(objects)} objects, nothing found")


if __name__ == "__main__":
    guarded(app)
