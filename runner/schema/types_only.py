"""A schema of which only the types are left, which every beginning of a value that fits the schema fits too. Pure."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any] | bool

_KEPT = ("$schema", "$id", "id", "$anchor", "$ref", "maxItems", "maxProperties")
"""Keywords that hold for a beginning too."""
_INNER = ("additionalProperties", "items", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_NAMES = ((bool, "boolean"), (int | float, "number"), (str, "string"), (type(None), "null"), (dict, "object"), (list, "array"))


def types_only(schema: Mapping[str, Any] | bool) -> Schema:
    """Return a schema without what only a complete value keeps: fields that are required, lengths, ranges, conditions."""
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
    # more than one of oneOf may fit a beginning
    choices = [{"anyOf": _each(schema[name])} for name in ("anyOf", "oneOf") if name in schema]
    # behind those of allOf, to whose numbers a reference may point
    if every := _each(schema.get("allOf", [])) + choices:
        made["allOf"] = every
    made |= {name: _each(of) if isinstance(of := schema[name], list) else types_only(of) for name in _INNER if name in schema}
    made |= {name: {key: types_only(of) for key, of in schema[name].items()} for name in _NAMED if name in schema}
    if "type" in schema:
        made["type"] = _wide(schema["type"])
    elif "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        made["type"] = sorted({name for value in values for name in _types(value)})
    return made


def _each(schemas: list[Any]) -> list[Schema]:
    return [types_only(one) for one in schemas]


def _wide(types: Any) -> Any:
    """Return types with number in the place of integer: of digits that are open nobody knows which of both they are."""
    names = [types] if isinstance(types, str) else types
    return list(dict.fromkeys("number" if name == "integer" else name for name in names))


def _types(value: Any) -> list[str]:
    return [next(name for of, name in _NAMES if isinstance(value, of))]
