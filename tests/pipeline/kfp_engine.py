"""Runs a compiled pipeline on Kubeflow's own local runner, and says what becomes of its tasks.

python kfp_engine.py PIPELINE.yaml ARGUMENTS.json FOLDER
"""

import json
import sys
from pathlib import Path

import yaml
from kfp import local
from kfp.components import load_component_from_text


def without_pauses(spec):
    """The same graph, whose failed tasks are tried again at once."""
    for component in [spec["root"], *spec["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.get("retryPolicy", {}).pop("backoffDuration", None)
    return spec


def main(package, arguments, folder):
    spec, *_ = yaml.load_all(Path(package).read_text(), Loader=yaml.CSafeLoader)
    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=folder, raise_on_error=True
    )
    pipeline = load_component_from_text(yaml.dump(without_pauses(spec), Dumper=yaml.CSafeDumper))
    pipeline(**json.loads(Path(arguments).read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
