"""Checks of pods that no schema makes: images, resources, rights, probes, what they refer to."""

from collections.abc import Iterable, Iterator, Mapping

from kubernetes.utils.quantity import parse_quantity

from manifests.objects import SERVERS, Pod, name, named
from manifests.render import Object, split_image

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# What Kubeflow brings into a namespace, with the keys that are used.
BROUGHT = {
    "ConfigMap": {"kfp-launcher": {"defaultPipelineRoot"}},
    "Secret": {"mlpipeline-minio-artifact": {"accesskey", "secretkey"}},
}


def images(pod: Pod) -> Iterator[str]:
    """Every image has a tag that stays, or a digest."""
    for container in pod.containers:
        _, tag = split_image(container.get("image", ""))
        if not tag or tag == ":latest":
            yield (
                f"container {container['name']}: expected an image with a tag other than latest, "
                f"or a digest, found {container.get('image')!r}: name one under images"
            )


def amounts(pod: Pod) -> Iterator[str]:
    """Every container requests cores and memory, and no more than its limit."""
    for container in pod.containers:
        given = container.get("resources", {})
        requests, limits = given.get("requests", {}), given.get("limits", {})
        for kind, found, wanted in (
            ("requests", requests, ("cpu", "memory")),
            ("limits", limits, ("memory",)),
        ):
            if missing := [each for each in wanted if each not in found]:
                yield f"container {container['name']}: resources.{kind} lacks {', '.join(missing)}"
        for each in requests.keys() & limits.keys():
            if parse_quantity(requests[each]) > parse_quantity(limits[each]):
                yield (
                    f"container {container['name']}: requests more {each} ({requests[each]}) than "
                    f"its limit ({limits[each]})"
                )


def rights(pod: Pod) -> Iterator[str]:
    """Every pod is of the `restricted` standard, with images that it cannot write."""
    if shared := sorted({"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)):
        yield f"shares the machine's own {', '.join(shared)}: leave that out"
    if any("hostPath" in volume for volume in pod.spec.get("volumes", [])):
        yield "mounts a folder of the machine (hostPath): use a claim"
    for container in pod.containers:
        own = container.get("securityContext", {})
        context = pod.spec.get("securityContext", {}) | own
        for field, wanted in (
            ("runAsNonRoot", True),
            ("seccompProfile", {"type": "RuntimeDefault"}),
            ("allowPrivilegeEscalation", False),
            ("readOnlyRootFilesystem", True),
            ("capabilities", {"drop": ["ALL"]}),
        ):
            if context.get(field) != wanted:
                yield (
                    f"container {container['name']}: expected securityContext.{field} {wanted}, "
                    f"found {context.get(field)}"
                )
        if not context.get("runAsUser"):
            yield f"container {container['name']}: expected a runAsUser other than 0"
    if "serviceAccountName" not in pod.spec and pod.spec.get("automountServiceAccountToken", True):
        yield "gets a token that it has no account for: automountServiceAccountToken: false"


def probes(pod: Pod) -> Iterator[str]:
    """Every container of a server is asked whether it started, is ready and lives."""
    if pod.owner is None or pod.owner["kind"] not in SERVERS:
        return
    for container in pod.spec["containers"]:
        ports = {port.get("name") for port in container.get("ports", [])}
        for probe in PROBES:
            if probe not in container:
                yield f"container {container['name']}: has no {probe}"
                continue
            asked = container[probe].get("httpGet") or container[probe].get("tcpSocket") or {}
            if asked and asked["port"] not in ports:
                yield (
                    f"container {container['name']}: {probe} asks port {asked['port']}, expected a "
                    f"name among its ports ({', '.join(map(str, sorted(map(str, ports))))})"
                )


def ports(pod: Pod) -> Iterator[str]:
    """Every port has a name, and none is one of the machine's."""
    for container in pod.containers:
        for port in container.get("ports", []):
            if "name" not in port:
                yield f"container {container['name']}: port {port['containerPort']} has no name"
            if "hostPort" in port:
                yield f"container {container['name']}: takes port {port['hostPort']} of the machine"


def references(
    pod: Pod, objects: Iterable[Object], keys: Mapping[str, Mapping[str, set[str]]]
) -> Iterator[str]:
    """Every claim, account, volume, secret and configuration that a pod names is there.

    Args:
        pod: The pod.
        objects: All objects.
        keys: By kind (Secret, ConfigMap) and name, the keys that there are.
    """
    account = pod.spec.get("serviceAccountName")
    if account and account not in named(objects, "ServiceAccount"):
        yield f"runs as the account {account}, which is not there"
    claims = named(objects, "PersistentVolumeClaim")
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in claims:
            yield f"volume {volume['name']}: there is no claim {claim}"
    own = (pod.owner or {}).get("spec", {}).get("volumeClaimTemplates", [])
    known = volumes.keys() | {each["metadata"]["name"] for each in own}
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in known:
                yield f"container {container['name']}: mounts {mount['name']}, which is no volume"
    for kind, found, key in _read(pod):
        there = keys.get(kind, {})
        if found not in there:
            yield (
                f"reads {kind} {found}, which is neither there nor Kubeflow's, nor a template in "
                "manifests/secrets"
            )
        elif key and key not in there[found]:
            yield f"reads the key {key} of {kind} {found}, which has {sorted(there[found])}"


# Fields that refer to a secret or a configuration, and the field of theirs that has its name.
_IN_VOLUMES = {"secret": ("Secret", "secretName"), "configMap": ("ConfigMap", "name")}
_IN_VARIABLES = {
    "secretKeyRef": ("Secret", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "secretRef": ("Secret", "name"),
    "configMapRef": ("ConfigMap", "name"),
}


def _read(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key of what a pod reads; no key where it reads all of them."""
    places = [(each, _IN_VOLUMES) for each in pod.spec.get("volumes", [])]
    for container in pod.containers:
        variables = [each.get("valueFrom", {}) for each in container.get("env", [])]
        variables += container.get("envFrom", [])
        places += [(each, _IN_VARIABLES) for each in variables]
    for place, fields in places:
        for field in fields.keys() & place.keys():
            kind, named_by = fields[field]
            yield kind, place[field][named_by], place[field].get("key", "")


def alone(pod: Pod, objects: Iterable[Object]) -> Iterator[str]:
    """A claim of one node is never used by two pods of a server at once."""
    claims = named(objects, "PersistentVolumeClaim")
    owner = pod.owner
    if owner is None or owner["kind"] != "Deployment":
        return
    for volume in pod.spec.get("volumes", []):
        claim = claims.get(volume.get("persistentVolumeClaim", {}).get("claimName"))
        if claim and "ReadWriteMany" not in claim["spec"]["accessModes"]:
            one = owner["spec"].get("replicas", 1) == 1
            if not one or owner["spec"].get("strategy", {}).get("type") != "Recreate":
                yield (
                    f"several pods of {name(owner)} would write {name(claim)}, a volume of one "
                    "node: one replica, and strategy Recreate"
                )
