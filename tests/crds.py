"""Definitions of custom kinds as strict JSON Schema: what a server would drop is an error."""

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def validator(kind):
    """Checks objects of a kind of Kubeflow by its definition; skips where there is none."""
    named = os.environ.get("MSSYNC_TEST_KFP")
    if not named:
        pytest.skip("MSSYNC_TEST_KFP names no folder with Kubeflow's definitions")
    for path in sorted((Path(named) / "crds").glob("*.yaml")):
        for item in yaml.load_all(path.read_text(), Loader=_Loader):
            if item["kind"] == "CustomResourceDefinition" and item["spec"]["names"]["kind"] == kind:
                (version,) = item["spec"]["versions"]
                schema = _strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                return jsonschema.Draft7Validator(schema)
    raise LookupError(kind)


def problems(item, checks):
    """What a server would refuse or drop."""
    return [f"{error.json_path}: {error.message}" for error in checks.iter_errors(item)]


def _strict(schema):
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: _strict(each) for name, each in value.items()}
        elif not key.startswith("x-kubernetes-"):
            made[key] = _strict(value)
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made
