"""From graph to file: compile, and write every component once.

Kubeflow's compiler writes a component and an executor for every task; unrolled shards would fill
the file with copies, and the engine refuses what is too large. Tasks may share a component.
"""

import errno
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from mssync import records
from mssync.errors import InputError

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Spec = dict[str, Any]

HEADER = "# Made by `python -m pipeline compile`: change pipeline/ and compile again.\n"


def write(pipeline: Callable[..., Any], path: Path) -> None:
    """Compile a pipeline to KFP's YAML: the graph, and what Kubernetes adds to it.

    Args:
        pipeline: As `graph.build` makes it.
        path: File to write; never seen half written.

    Raises:
        InputError: If it cannot be written.
    """
    spec, *platform = _compiled(pipeline)
    share(spec, platform[0] if platform else {})
    _dump([spec, *platform], path)


def write_objects(pipeline: Callable[..., Any], path: Path) -> None:
    """Compile a pipeline to Kubernetes objects: a Pipeline, and the PipelineVersion of this graph.

    The version is named by the digest of its content: the same graph is the same object, another
    one is a new version beside it, as Kubeflow wants, which lets no version change.

    Args:
        pipeline: As `graph.build` makes it.
        path: File to write; never seen half written.

    Raises:
        InputError: If it cannot be written.
    """
    whole, version = _compiled(
        pipeline,
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=KubernetesManifestOptions(include_pipeline_manifest=True),
    )
    spec = version["spec"]
    share(spec["pipelineSpec"], spec["platformSpec"])
    content = json.dumps([spec["pipelineSpec"], spec["platformSpec"]], sort_keys=True)
    name = f"{whole['metadata']['name']}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    version["metadata"]["name"] = spec["displayName"] = name
    _dump([whole, version], path)


def _compiled(pipeline: Callable[..., Any], **options: Any) -> list[Spec]:  # noqa: ANN401 - kfp's
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled), **options)
        return list(yaml.load_all(compiled.read_text(), Loader=_Loader))


def _dump(documents: list[Spec], path: Path) -> None:
    dumped = yaml.dump_all(documents, Dumper=_Dumper, width=100)
    # not the comments that the compiler writes: their order changes from run to run
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        records.write_text(path, HEADER + dumped)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): name another file"
        ) from error


def share(spec: Spec, platform: Spec) -> None:
    """Leave one of all executors that are equal, and one of all components; in place.

    Args:
        spec: The pipeline.
        platform: What Kubernetes adds to its executors; may be empty.
    """
    executors = spec["deploymentSpec"]["executors"]
    added = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
    pods = added.get("executors", {})
    kept = _first_of_equals({name: [body, pods.get(name)] for name, body in executors.items()})
    for name in executors.keys() - set(kept.values()):
        del executors[name]
        pods.pop(name, None)
    for component in spec["components"].values():
        if "executorLabel" in component:
            component["executorLabel"] = kept[component["executorLabel"]]
    components = spec["components"]
    kept = _first_of_equals(components)
    for name in components.keys() - set(kept.values()):
        del components[name]
    for task in _tasks(spec):
        task["componentRef"]["name"] = kept[task["componentRef"]["name"]]


def _first_of_equals(bodies: dict[str, Any]) -> dict[str, str]:
    """For every name the first one with the same body."""
    first = dict[str, str]()
    return {
        name: first.setdefault(json.dumps(body, sort_keys=True), name)
        for name, body in bodies.items()
    }


def _tasks(spec: Spec) -> Iterator[Spec]:
    for component in [spec["root"], *spec["components"].values()]:
        yield from component.get("dag", {}).get("tasks", {}).values()
