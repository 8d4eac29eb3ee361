"""What Kubeflow Pipelines' REST API takes and gives, by its own description (swagger 2.0)."""

import copy
import json
import re

import jsonschema


class ContractError(Exception):
    """A request or an answer that the description does not allow."""


class Contract:
    """The description, stricter than it is written: no field that it does not name."""

    def __init__(self, file):
        swagger = json.loads(file.read_text())
        self._definitions = _strict(swagger["definitions"])
        self._operations = [
            (len(re.findall(r"\{", path)), _pattern(path), method.upper(), operation)
            for path, methods in swagger["paths"].items()
            for method, operation in methods.items()
        ]
        self._operations.sort(key=lambda each: each[0])  # pipelines/upload is no pipeline's id

    def operation(self, method, path):
        """The operation of a request and the path's parameters; None: there is none."""
        for _, pattern, allowed, operation in self._operations:
            found = pattern.fullmatch(path)
            if found and allowed == method:
                return operation, found.groupdict()
        return None, {}

    def check_query(self, operation, query):
        """Refuse parameters that are unknown or of the wrong type."""
        allowed = {
            each["name"]: each["type"]
            for each in operation.get("parameters", [])
            if each["in"] == "query"
        }
        for name, value in query.items():
            if name not in allowed:
                raise ContractError(f"unknown query parameter {name}")
            if allowed[name] == "integer" and not value.isdecimal():
                raise ContractError(f"query parameter {name}: {value!r} is no number")

    def check_body(self, operation, body):
        """Refuse a body with a field that is unknown or of the wrong type."""
        parameters = operation.get("parameters", [])
        schemas = [each["schema"] for each in parameters if each["in"] == "body"]
        if not schemas and body is not None:
            raise ContractError("this operation takes no body")
        for schema in schemas:
            self._check(schema, body)

    def check_answer(self, operation, answer):
        """Refuse an answer that the description does not promise."""
        self._check(operation["responses"]["200"]["schema"], answer)

    def check_filter(self, text):
        """A filter's predicates."""
        try:
            found = _snake(json.loads(text))
        except ValueError as error:
            raise ContractError(f"invalid filter: {error}") from error
        for predicate in found.get("predicates", []):
            if predicate.get("operation") == 1:
                predicate["operation"] = "EQUALS"  # protobuf takes an enum's number, too
        self._check({"$ref": "#/definitions/v2beta1Filter"}, found)
        return found.get("predicates", [])

    def _check(self, schema, value):
        try:
            jsonschema.Draft4Validator(
                {**_strict(schema), "definitions": self._definitions}
            ).validate(value)
        except jsonschema.ValidationError as error:
            where = "/".join(map(str, error.absolute_path))
            raise ContractError(f"{where}: {error.message[:300]}") from error


def _pattern(path):
    parts = re.split(r"\{([\w.]+)\}", path)
    named = [
        f"(?P<{part.split('.')[-1]}>[^/:]+)" if place % 2 else re.escape(part)
        for place, part in enumerate(parts)
    ]
    return re.compile("".join(named))


def _strict(node):
    """No unknown fields; 64-bit integers are text or numbers, as in protobuf's JSON."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {name: _strict(value) for name, value in copy.copy(node).items()}
    if found.get("format") in ("int64", "uint64") and found.get("type") == "string":
        found["type"] = ["string", "integer"]
    if isinstance(found.get("properties"), dict) and found["properties"]:
        found.setdefault("additionalProperties", False)
    return found


def _snake(node):
    if isinstance(node, list):
        return [_snake(each) for each in node]
    if isinstance(node, dict):
        return {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", k).lower(): _snake(v) for k, v in node.items()}
    return node
