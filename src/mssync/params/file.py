"""Parameter files: read, checked against the schema, written, told apart."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mssync.errors import ParamsError
from mssync.params.schema import Params
from mssync.params.section import Section

S = TypeVar("S", bound=Section)


def load(path: Path) -> Params:
    """Read and validate a parameter file.

    Raises:
        ParamsError: If the file is missing, is not YAML or does not fit the schema. The message
            names every wrong field, the value found and the bound.
    """
    return load_as(Params, path, option="--params")


def load_as(section: type[S], path: Path, *, option: str) -> S:
    """Read and validate a file of settings.

    Args:
        section: Their schema.
        path: The file.
        option: Of the command line, that names another file.

    Raises:
        ParamsError: As for `load`.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ParamsError(
            f"{path} does not exist. Run from the project's folder, or name the file: {option} FILE"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must hold sections, found {type(content).__name__}")
    return validate(section, content, name=str(path))


def text(params: Params) -> str:
    """The values as a parameter file."""
    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)


def validate(section: type[S], content: Mapping[str, Any], *, name: str) -> S:
    """Check values against the schema.

    Kubeflow hands on every number as a float: a whole one is taken for an integer.

    Args:
        section: `Params`, or one of its sections.
        content: The values.
        name: What they are called, for the message.

    Raises:
        ParamsError: Naming every wrong field, the value found and the bound.
    """
    try:
        return section.model_validate(_with_whole_numbers(content))
    except ValidationError as error:
        raise ParamsError(f"{name} does not fit the schema:\n{_explain(error)}") from error


def override(section: S, settings: Iterable[str], *, name: str) -> S:
    """A section with some values replaced.

    Args:
        section: The values to start from.
        settings: `key=value` each, values as YAML writes them; `name.key` is the same as `key`.
        name: The section's name.

    Raises:
        ParamsError: If a key is not the section's, or a value does not fit the schema.
    """
    content = section.model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        field = key.strip().removeprefix(f"{name}.")
        if not equals or field not in content:
            raise ParamsError(
                f"{setting}: expected KEY=VALUE with a key of the section {name}, one of "
                f"{', '.join(content)}"
            )
        try:
            content[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ParamsError(f"{setting}: {text} cannot be read as YAML: {error}") from error
    return validate(type(section), content, name=name)


def _with_whole_numbers(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same with 3 for 3.0, which a field of either type takes."""
    if isinstance(value, Mapping):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        found = "" if item["type"] == "missing" else f", found {_short(item['input'])}"
        lines.append(f"  {field}: {item['msg']}{found}")
    return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def digest(params: BaseModel) -> str:
    """SHA-256 of the values, independent of the file's layout and comments."""
    text = json.dumps(params.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
