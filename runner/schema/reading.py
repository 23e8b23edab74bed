"""Reads a JSON Schema as a user gives it: a text, a decoded object, or a class that has one. ``validation`` compiles it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import UsageError
from runner.model import Json
from runner.schema.strict_json import FaultError, parse
from runner.text import clean


def schema_in(text: str, where: str) -> dict[str, Json]:
    """Return the schema that a text holds. where: what the text is, in words. Raises UsageError."""
    try:
        return checked(parse(text, ()).value, where)
    except FaultError as fault:
        raise UsageError(f"{where} must be one JSON object; it {clean(str(fault))}") from None


def checked(value: Json, where: str) -> dict[str, Json]:
    """Return a decoded schema. Raises UsageError for what is no object, or none that says anything."""
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be one JSON object, a JSON Schema, and not {_kind(value)}")
    if not value:
        raise UsageError(f'{where} must be an object that says what an answer is, such as {{"type": "object"}}; all fit {{}}')
    return value


def schema_of_class(kind: type) -> dict[str, Json]:
    """Return the JSON Schema of a class: a pydantic model, a msgspec Struct, a dataclass, a TypedDict. Raises UsageError."""
    try:
        made: Any = kind.model_json_schema() if hasattr(kind, "model_json_schema") else _inlined(msgspec.json.schema(kind))
    except Exception as error:  # noqa: BLE001 - the class may be of any library, and raise what it likes
        raise UsageError(f"schema: the class {kind.__name__} has no JSON Schema: {clean(str(error))}") from None
    return checked(made, f"the schema of {kind.__name__}")


def _inlined(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return a schema that is a reference to a definition as that definition: providers want an object at the root."""
    reference, definitions = schema.get("$ref"), schema.get("$defs")
    name = reference.removeprefix("#/$defs/") if isinstance(reference, str) else ""
    if not isinstance(definitions, dict) or name not in definitions:
        return dict(schema)
    rest = {other: part for other, part in definitions.items() if other != name or _refers(definitions, reference)}
    return {**definitions[name], **({"$defs": rest} if rest else {})}


def _refers(part: Json, reference: Json) -> bool:
    """Return True if a definition refers to the one that is named."""
    if isinstance(part, dict):
        return part.get("$ref") == reference or any(_refers(one, reference) for one in part.values())
    return isinstance(part, list) and any(_refers(one, reference) for one in part)


def _kind(value: Json) -> str:
    words = {str: "a text", bool: "true or false", list: "a list", type(None): "null"}
    return words.get(type(value), "a number")
