"""A stage has one name, and it is the same in all places it appears."""

import ast
from pathlib import Path

import pytest
import yaml

from mssync.cli import app
from mssync.params import Params, stage_names


def test_every_stage_has_a_module_a_command_a_component_a_dvc_stage_and_params(root):
    stages = {path.stem for path in (root / "src/mssync/stages").glob("[!_]*.py")}
    components = {path.stem for path in (root / "components").glob("[!_]*.py")}
    commands = {command.callback.__name__ for command in app.registered_commands}
    dvc = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]

    assert stages == {name.replace("-", "_") for name in dvc}
    assert stages == set(stage_names())
    assert stages == components
    assert stages == set(Params.model_fields) - {"run", "paths"}
    assert stages <= commands


# Said or logged, never written into an output.
WITHOUT_EFFECT = {"__init__.py", "errors.py", "log.py", "params"}


def imported(package, file):
    """Files of the library that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {package.parent / Path(*name.split(".")).with_suffix(".py") for name in names}
    return {path for path in paths if package in path.parents and path.exists()}


def code_of(package, stage):
    """Everything that a stage imports, directly or not, relative to the library."""
    found, todo = set(), {package / "stages" / f"{stage}.py"}
    while todo:
        file = todo.pop()
        found.add(file)
        if not WITHOUT_EFFECT & set(file.parts):
            todo |= imported(package, file) - found
    return {file.relative_to(package) for file in found if not WITHOUT_EFFECT & set(file.parts)}


@pytest.mark.parametrize("stage", stage_names())
def test_dvc_reruns_a_stage_when_code_that_it_uses_changes(root, stage):
    described = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][stage.replace("_", "-")]
    package = root / "src" / "mssync"
    deps = {Path(dep).relative_to("src/mssync") for dep in described["deps"] if "src/" in dep}
    assert [dep for dep in deps if not (package / dep).exists()] == []
    used = code_of(package, stage)
    assert sorted(str(file) for file in used if not {file, *file.parents} & deps) == []


@pytest.mark.parametrize("stage", ["evaluate", "promote"])
def test_how_networks_are_trained_does_not_rerun_what_uses_them(root, stage):
    described = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][stage]
    used = code_of(root / "src" / "mssync", stage)
    assert [str(file) for file in used if "training" in file.parts] == []
    assert [dep for dep in described["deps"] if "src/mssync/training" in dep] == []
