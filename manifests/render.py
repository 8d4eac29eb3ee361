"""A folder with a kustomization as the objects that `kubectl kustomize` makes of it.

Only what the kustomizations here use: resources, components, a namespace, labels, images, patches.
Anything else is refused, so that nothing is rendered half.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mssync.errors import InputError

Object = dict[str, Any]
CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrainingRuntime",
    "CustomResourceDefinition",
    "Namespace",
}
_KNOWN = {
    "apiVersion",
    "components",
    "images",
    "kind",
    "labels",
    "namespace",
    "patches",
    "resources",
}
_TEMPLATED = {"DaemonSet", "Deployment", "Job", "StatefulSet"}
# What tells the items of a list apart when a patch is merged; other lists are replaced.
_MERGED_BY = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def render(folder: Path) -> list[Object]:
    """Render a kustomization.

    Args:
        folder: With a `kustomization.yaml`.

    Returns:
        The objects, in the order of the files.

    Raises:
        InputError: If a file is missing or no YAML, or uses what is not known here.
    """
    objects = list[Object]()
    _apply(folder, objects)
    return objects


def read(path: Path) -> list[Object]:
    """All documents of a YAML file.

    Raises:
        InputError: If it cannot be read or is no YAML.
    """
    try:
        return parse(path.read_text(), named=str(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): expected a folder with kustomization.yaml, "
            "and every file that it lists"
        ) from error


def parse(text: str, *, named: str) -> list[Object]:
    """All documents of a YAML text.

    Args:
        text: The text.
        named: What to call it in an error.

    Raises:
        InputError: If it is no YAML, or a document is no mapping.
    """
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        raise InputError(f"{named} is not YAML: {error}") from error
    for each in documents:
        if not isinstance(each, dict):
            raise InputError(f"{named}: expected mappings, found {type(each).__name__}")
    return documents


def objects_of(documents: list[Object], *, named: str) -> list[Object]:
    """The documents, each with a kind and a name.

    Raises:
        InputError: If one has none.
    """
    for each in documents:
        named_well = "name" in (each.get("metadata") or {})
        if not (named_well and each.keys() >= {"apiVersion", "kind"}):
            raise InputError(
                f"{named}: expected objects with apiVersion, kind and metadata.name, found one "
                f"with {', '.join(map(str, each)) or 'nothing'}"
            )
    return documents


def _said(folder: Path) -> Object:
    """What a folder's kustomization says, if all of it is known here."""
    path = folder / "kustomization.yaml"
    documents = read(path)
    if len(documents) != 1:
        raise InputError(f"{path}: expected one document, found {len(documents)}")
    [said] = documents
    if unknown := sorted(set(said) - _KNOWN):
        raise InputError(
            f"{path}: {', '.join(unknown)} is not known here: check what kubectl makes of it "
            "(kubectl kustomize DIR | python -m manifests.check -)"
        )
    return said


def _apply(folder: Path, objects: list[Object]) -> None:
    """Add what a kustomization lists to the objects so far, and change them as it says."""
    said = _said(folder)
    # A component changes what was there before it, another kustomization only its own.
    own = objects if said.get("kind") == "Component" else list[Object]()
    for entry in said.get("resources", []):
        path = folder / entry
        own += render(path) if path.is_dir() else objects_of(read(path), named=str(path))
    for entry in said.get("components", []):
        _apply(folder / entry, own)
    for patch in said.get("patches", []):
        _patch(own, patch, folder)
    if "namespace" in said:
        _move(own, said["namespace"])
    for labels in said.get("labels", []):
        _label(own, labels)
    for image in said.get("images", []):
        for found in own:
            _rename(found, image)
    if own is not objects:
        objects += own


def _patch(objects: list[Object], said: Object, folder: Path) -> None:
    named = str(folder / said.get("path", "kustomization.yaml"))
    text = Path(named).read_text() if "path" in said else said["patch"]
    try:
        patch = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{named}: a patch is not YAML: {error}") from error
    target = said.get("target") or {
        "kind": patch["kind"],
        "name": patch["metadata"]["name"],
    }
    chosen = [each for each in objects if _is(each, target)]
    if not chosen:
        raise InputError(f"{folder / 'kustomization.yaml'}: no object for the patch of {target}")
    for each in chosen:
        if isinstance(patch, list):
            for operation in patch:
                try:
                    _operate(each, operation)
                except (LookupError, TypeError, ValueError) as error:
                    raise InputError(
                        f"{named}: {each['kind']} {each['metadata']['name']} has no place for the "
                        f"patch {operation}"
                    ) from error
        elif patch.get("$patch") == "delete":
            objects.remove(each)
        else:
            builtin = "." not in each["apiVersion"] or ".k8s.io/" in each["apiVersion"]
            merged = _merge(each, patch, by_key=builtin)
            each.clear()
            each.update(merged)


def _is(found: Object, target: Mapping[str, str]) -> bool:
    is_like = {"kind": found["kind"], "name": found["metadata"]["name"]}
    if unknown := set(target) - set(is_like):
        raise InputError(f"a patch's target is a kind and a name here, found {sorted(unknown)} too")
    return all(is_like[key] == value for key, value in target.items())


def _operate(found: Object, operation: Object) -> None:
    """One operation of a JSON patch (RFC 6902): add, replace or remove."""
    *path, last = (
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    )
    place: Any = found
    for part in path:
        place = place[int(part)] if isinstance(place, list) else place[part]
    kind, value = operation["op"], copy.deepcopy(operation.get("value"))
    if kind not in ("add", "replace", "remove"):
        raise InputError(f"a patch's operation is add, replace or remove here, found {kind}")
    if isinstance(place, list):
        if kind == "add":
            place.insert(len(place) if last == "-" else int(last), value)
        elif kind == "replace":
            place[int(last)] = value
        else:
            del place[int(last)]
    elif kind == "remove":
        del place[last]
    else:
        place[last] = value


def _merge(old: Any, new: Any, *, by_key: bool, name: str = "") -> Any:  # noqa: ANN401 - YAML
    """Merge a patch: null removes, mappings are merged, some lists by a key of their items."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = old | {
            key: _merge(old.get(key), value, by_key=by_key, name=key)
            for key, value in new.items()
            if value is not None
        }
        return {key: each for key, each in merged.items() if key not in new or new[key] is not None}
    key = _MERGED_BY.get(name)
    if by_key and key and isinstance(old, list):
        former = {item[key]: item for item in old}
        changed = [_merge(former.get(item[key], {}), item, by_key=True) for item in new]
        return changed + [item for item in old if item[key] not in {each[key] for each in new}]
    return _merge({}, new, by_key=by_key) if isinstance(new, dict) else copy.deepcopy(new)


def _move(objects: list[Object], namespace: str) -> None:
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    for each in objects:
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = namespace
        elif each["kind"] not in CLUSTER_SCOPED:
            each["metadata"]["namespace"] = namespace
        for subject in each.get("subjects", []):
            if subject["kind"] == "ServiceAccount" and subject["name"] in accounts | {"default"}:
                subject["namespace"] = namespace


def _label(objects: list[Object], said: Object) -> None:
    if set(said) - {"pairs", "includeTemplates"}:
        raise InputError(f"labels have pairs and includeTemplates here, found {sorted(said)}")
    for each in objects:
        owners = [each]
        if said.get("includeTemplates") and each["kind"] in _TEMPLATED:
            owners += [each["spec"]["template"], *each["spec"].get("volumeClaimTemplates", [])]
        for owner in owners:
            owner.setdefault("metadata", {}).setdefault("labels", {}).update(said["pairs"])


def _rename(found: Object, said: Mapping[str, str]) -> None:
    def renamed(image: str) -> str:
        name, tag = split_image(image)
        if name != said["name"]:
            return image
        tag = f"@{said['digest']}" if "digest" in said else tag
        tag = f":{said['newTag']}" if "newTag" in said else tag
        return said.get("newName", name) + tag

    for container in containers(found):
        if "image" in container:
            container["image"] = renamed(container["image"])


def split_image(image: str) -> tuple[str, str]:
    """An image's name, and its tag or digest with the sign before it; empty where it has none."""
    rest, at, digest = image.partition("@")
    folder, slash, last = rest.rpartition("/")
    name, colon, tag = last.partition(":")
    return folder + slash + name, colon + tag + at + digest


def containers(found: Any) -> Iterator[Object]:  # noqa: ANN401 - YAML
    """All containers in an object, however deep."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                yield from value
            yield from containers(value)
    elif isinstance(found, list):
        for each in found:
            yield from containers(each)
