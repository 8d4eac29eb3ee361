"""A stage has one name, and it is the same in all places it appears."""

import yaml

from mssync.cli import app
from mssync.params import Params, stage_names


def test_every_stage_has_a_module_a_command_a_dvc_stage_and_params(root):
    stages = {path.stem for path in (root / "src/mssync/stages").glob("[!_]*.py")}
    commands = {command.callback.__name__ for command in app.registered_commands}
    dvc = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]

    assert stages == {name.replace("-", "_") for name in dvc}
    assert stages == set(stage_names())
    assert stages == set(Params.model_fields) - {"run", "paths"}
    assert stages <= commands


def test_dvc_depends_on_files_that_exist(root):
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    code = {dep for stage in stages.values() for dep in stage["deps"] if dep.startswith("src/")}
    assert [dep for dep in code if not (root / dep).exists()] == []
