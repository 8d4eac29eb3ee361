"""Runs a compiled pipeline on Kubeflow's own local runner, and says what becomes of its tasks.

python kfp_engine.py PIPELINE.yaml ARGUMENTS.json FOLDER
"""

import json
import sys
from pathlib import Path

import yaml
from kfp import local
from kfp.components import load_component_from_text


def as_runnable(spec):
    """The same graph: failed tasks are tried again at once, and each is told by its own name.

    The runner names a task by its component, which tasks may share.
    """
    components = dict(spec["components"])
    for component in [spec["root"], *components.values()]:
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            task.get("retryPolicy", {}).pop("backoffDuration", None)
            shared = components[task["componentRef"]["name"]]
            if "executorLabel" in shared:
                spec["components"][f"comp-{name}"] = shared
                task["componentRef"]["name"] = f"comp-{name}"
    return spec


def main(package, arguments, folder):
    spec, *_ = yaml.load_all(Path(package).read_text(), Loader=yaml.CSafeLoader)
    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=folder, raise_on_error=True
    )
    pipeline = load_component_from_text(yaml.dump(as_runnable(spec), Dumper=yaml.CSafeDumper))
    pipeline(**json.loads(Path(arguments).read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
