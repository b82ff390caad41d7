"""Structural schemas of custom resources: unknown fields, defaults and validation, in the real server's words.

Pure; it knows nothing of requests or storage.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from local.kubernetes_api.statuses import Cause

Json = dict[str, Any]
ROOT_FIELDS = frozenset({"apiVersion", "kind", "metadata"})


def prune(value: Json, schema: Json) -> tuple[Json, list[str]]:
    """A copy without the fields that the schema does not know, and their paths (`spec.job.env[0].x`)."""
    unknown: list[str] = []
    body = {name: part for name, part in value.items() if name not in ROOT_FIELDS}
    pruned = _prune(body, schema, "", unknown)
    return {name: part for name, part in value.items() if name in ROOT_FIELDS} | pruned, unknown


def _prune(value: Any, schema: Json, path: str, unknown: list[str]) -> Any:
    if isinstance(value, dict):
        return _prune_mapping(value, schema, path, unknown)
    if isinstance(value, list) and "items" in schema:
        return [_prune(part, schema["items"], f"{path}[{index}]", unknown) for index, part in enumerate(value)]
    return value


def _prune_mapping(value: Json, schema: Json, path: str, unknown: list[str]) -> Json:
    properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields", False) or additional is True
    kept: Json = {}
    for name, part in value.items():
        inner = f"{path}.{name}" if path else name
        known = properties.get(name, additional if isinstance(additional, dict) else None)
        if part is None and known is not None and not known.get("nullable"):
            continue
        if name in properties:
            kept[name] = _prune(part, properties[name], inner, unknown)
        elif isinstance(additional, dict):
            kept[name] = _prune(part, additional, inner, unknown)
        elif open_ended:
            kept[name] = part
        else:
            unknown.append(inner)
    return kept


def with_defaults(value: Any, schema: Json) -> Any:
    """A copy with the schema's defaults where a field is absent."""
    if isinstance(value, list):
        return [with_defaults(part, schema.get("items", {})) for part in value]
    if not isinstance(value, dict):
        return value
    properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
    filled = dict(value)
    for name, inner in properties.items():
        if name not in filled and "default" in inner:
            filled[name] = copy.deepcopy(inner["default"])
    inner_of = {name: properties.get(name, additional if isinstance(additional, dict) else {}) for name in filled}
    return {name: with_defaults(part, inner_of[name]) for name, part in filled.items()}


def errors(value: Json, schema: Json) -> list[Cause]:
    """Every violation of types, enums, required fields and bounds, in the order of the fields' names."""
    body = {name: part for name, part in value.items() if name not in ROOT_FIELDS}
    return sorted(_errors(body, schema, ""), key=lambda cause: cause.field)


def _errors(value: Any, schema: Json, path: str) -> Iterator[Cause]:
    wrong_type = _type_error(value, schema, path)
    if wrong_type:
        yield wrong_type
        if "enum" not in schema:
            return
    yield from _enum_errors(value, schema, path)
    if wrong_type:
        return
    yield from _bound_errors(value, schema, path)
    if isinstance(value, dict):
        yield from _mapping_errors(value, schema, path)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _errors(part, schema.get("items", {}), f"{path}[{index}]")


def _mapping_errors(value: Json, schema: Json, path: str) -> Iterator[Cause]:
    properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause("FieldValueRequired", _join(path, name), "Required value")
    for name, part in value.items():
        inner = properties.get(name, additional if isinstance(additional, dict) else None)
        if inner is not None:
            yield from _errors(part, inner, _join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type_error(value: Any, schema: Json, path: str) -> Cause | None:
    if schema.get("x-kubernetes-int-or-string"):
        wanted, fits = "integer,string", isinstance(value, int | str) and not isinstance(value, bool)
    else:
        wanted = schema.get("type", "")
        fits = not wanted or _is_of_type(value, wanted)
    if fits or (value is None and schema.get("nullable")):
        return None
    actual = _type_name(value)
    message = f'Invalid value: "{actual}": {path} in body must be of type {wanted}: "{actual}"'
    return Cause("FieldValueTypeInvalid", path, message)


def _is_of_type(value: Any, wanted: str) -> bool:
    if wanted == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    return _type_name(value) == wanted


def _type_name(value: Any) -> str:
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _enum_errors(value: Any, schema: Json, path: str) -> Iterator[Cause]:
    allowed = schema.get("enum")
    if allowed and value not in allowed:
        listed = ", ".join(json.dumps(each) for each in allowed)
        message = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
        yield Cause("FieldValueNotSupported", path, message)


def _bound_errors(value: Any, schema: Json, path: str) -> Iterator[Cause]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield _out_of_bounds(value, path, f"greater than or equal to {schema['minimum']}")
        if value > schema.get("maximum", value):
            yield _out_of_bounds(value, path, f"less than or equal to {schema['maximum']}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        message = f"Invalid value: {json.dumps(value)}: {path} in body should match '{schema['pattern']}'"
        yield Cause("FieldValueInvalid", path, message)


def _out_of_bounds(value: float, path: str, bound: str) -> Cause:
    return Cause("FieldValueInvalid", path, f"Invalid value: {value}: {path} in body should be {bound}")
