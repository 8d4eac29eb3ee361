"""Schemas of custom kinds, made strict: a field that a server would drop is an error."""

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NESTED = ("properties", "patternProperties")
_LISTED = ("allOf", "anyOf", "oneOf")


def of_kubeflow():
    """Validators of Kubeflow's own kinds; skips where their definitions are not at hand."""
    named = os.environ.get("MSSYNC_TEST_KFP")
    if not named:
        pytest.skip("MSSYNC_TEST_KFP names no folder with Kubeflow's definitions in crds/")
    found = of_folder(Path(named) / "crds")
    assert found
    return found


def of_folder(folder):
    """Validators of all kinds that the definitions in a folder declare, by API version and kind."""
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        for item in yaml.load_all(path.read_text(), Loader=_Loader):
            if item and item["kind"] == "CustomResourceDefinition":
                spec = item["spec"]
                for version in spec["versions"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    # a server knows these of every kind
                    schema["properties"] |= {
                        "apiVersion": {"const": f"{spec['group']}/{version['name']}"},
                        "kind": {"const": spec["names"]["kind"]},
                        "metadata": {"type": "object"},
                    }
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = jsonschema.Draft7Validator(schema)
    return found


def strict(schema):
    """A structural schema of Kubernetes as JSON Schema, without fields that it does not know."""
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in _NESTED:
            made[key] = {name: strict(each) for name, each in value.items()}
        elif key in _LISTED:
            made[key] = [strict(each) for each in value]
        elif key in ("items", "additionalProperties", "not"):
            made[key] = strict(value)
        elif not key.startswith("x-kubernetes-") and key != "nullable":
            made[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        made = {"type": ["integer", "string"]}
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get(
        "x-kubernetes-embedded-resource"
    )
    if "properties" in made and not open_ended:
        made.setdefault("additionalProperties", False)
    return made


def problems(item, validators):
    """What a server would refuse or drop in an object of a custom kind."""
    validator = validators[item["apiVersion"], item["kind"]]
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(item)]
