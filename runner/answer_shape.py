"""How a request asks for an answer of a certain shape. What the shape means is known to ``runner.schema``."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

How: TypeAlias = Literal["response_format", "tool", "guided"]
"""response_format: the provider's own parameter for it. tool: a tool that the model has to call. guided: vLLM's parameter."""

SHAPE_NAME = "answer"
"""The name of a schema, or of its tool, where a provider wants one."""


class AnswerShape(Struct, frozen=True, kw_only=True):
    """The schema of a request, and how it is sent. strict: the provider is to keep it in every answer, which it can."""

    schema: Mapping[str, Any]
    how: How
    strict: bool = False


def arguments_of(extra: Mapping[str, Any]) -> str | None:
    """Return the arguments with which a model has called the tool of the schema; None if it has not. extra: of its answer."""
    calls = extra.get("tool_calls") or []
    return next((call["arguments"] for call in calls if call.get("name") == SHAPE_NAME), None)


FieldKind: TypeAlias = Literal["int", "float", "bool", "text", "other"]
"""What a field of an answer holds, if it holds anything. other: lists, objects, and what may be of several kinds."""

_KINDS: Mapping[str, FieldKind] = {"string": "text", "integer": "int", "number": "float", "boolean": "bool"}
_OF_VALUES: Mapping[type, FieldKind] = {str: "text", int: "int", float: "float", bool: "bool"}
_UNIONS = ("anyOf", "oneOf", "allOf")
_DEEPEST = 8
"""Schemas inside each other that are looked at: a schema may contain itself."""


def fields_of(schema: Mapping[str, Any]) -> dict[str, FieldKind]:
    """Return the fields of the answers by a schema, in its order, each with what it holds. None if answers are no objects."""
    found: dict[str, FieldKind] = {}
    _gather(schema, schema, found, 0)
    return found


def fields_in(settings: Mapping[str, Any]) -> Mapping[str, FieldKind]:
    """Return the same for the schema in the stored settings of a run; none without one."""
    schema = settings.get("schema")
    return fields_of(schema) if isinstance(schema, dict) else {}


def _gather(schema: Any, root: Mapping[str, Any], found: dict[str, FieldKind], depth: int) -> None:
    schema = _table(schema)
    if depth > _DEEPEST:
        return
    for name, part in _table(schema.get("properties")).items():
        kind = _kind(part, root, depth + 1)
        # two ways of an answer may have a field of the same name
        found[name] = _joined({found.get(name, kind), kind})
    for part in _inner(schema, root):
        _gather(part, root, found, depth + 1)


def _kind(schema: Any, root: Mapping[str, Any], depth: int) -> FieldKind:
    schema = _table(schema)
    if depth > _DEEPEST:
        return "other"
    named = schema.get("type")
    types = [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str) and one != "null"]
    if types:
        return _joined({_KINDS.get(one, "other") for one in types})
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    kinds = {_OF_VALUES.get(type(value), "other") for value in values if value is not None} if isinstance(values, list) else set()
    kinds |= {_kind(part, root, depth + 1) for part in _inner(schema, root) if part != {"type": "null"}}
    return _joined(kinds)


def _joined(kinds: set[FieldKind]) -> FieldKind:
    """Return the kind of a field that may hold values of these kinds; a whole number is a number too."""
    if kinds == {"int", "float"}:
        return "float"
    return next(iter(kinds)) if len(kinds) == 1 else "other"


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    """Return the schemas of the same value: the ways of a union, and what is referred to."""
    parts = [part for name in _UNIONS if isinstance(schema.get(name), list) for part in schema[name]]
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found: Any = root
        for step in reference[1:].strip("/").split("/"):
            found = _table(found).get(step.replace("~1", "/").replace("~0", "~")) if step else found
        parts.append(found)
    return parts


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
