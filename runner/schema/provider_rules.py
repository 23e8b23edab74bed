"""What providers take of JSON Schema where they keep a schema in every answer, and the change that a schema needs. Pure.

OpenAI (Structured Outputs, ``strict``) and Anthropic (``output_config.format``) take a part of it each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from runner.model import Json

_CLOSED = 'set "additionalProperties": false'
_ANY_OF_OBJECTS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedProperties")
_COMPOSED = ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas")
_LESS_COMMON = (
    "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "minProperties", "maxProperties",
    "contains", "minContains", "maxContains", "uniqueItems", "prefixItems",
)  # fmt: skip
_OPENAI_NOT = (*_COMPOSED, *_LESS_COMMON, "minLength", "maxLength", "default")
_ANTHROPIC_NOT = (
    *(name for name in _COMPOSED if name != "allOf"), *_LESS_COMMON, "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "maxItems",
)  # fmt: skip
_MOST_PROPERTIES, _MOST_LEVELS, _MOST_ENUMS = 5_000, 10, 1_000
_MOST_NAMES, _LONG_ENUM, _MOST_IN_LONG_ENUM = 120_000, 250, 15_000
_MOST_OPTIONAL = 24
"""Of Anthropic: fields that are not required."""


class _Part(NamedTuple):
    """A schema inside of a schema. place: its JSON pointer. depth: levels of objects around it."""

    place: str
    schema: Mapping[str, Json]
    depth: int

    def says(self, change: str) -> str:
        """Return a change with its place."""
        return f"at {self.place or 'the root'}: {change}"


def openai(schema: Mapping[str, Json]) -> list[str]:
    """Return what has to be changed so that OpenAI takes a schema with ``strict``; an empty list if nothing has."""
    parts = list(_parts(schema))
    return [*_root(schema), *_each(parts, _OPENAI_NOT), *_all_required(parts), *_beside_references(parts), *_limits(parts)]


def anthropic(schema: Mapping[str, Json]) -> list[str]:
    """Return what has to be changed so that Anthropic takes a schema as ``output_config.format``; empty if nothing has."""
    parts = list(_parts(schema))
    found = _each(parts, _ANTHROPIC_NOT)
    found += [one.says('leave out "minItems" beyond 1') for one in parts if _number(one.schema.get("minItems")) > 1]
    found += [one.says("resolve the definition that refers to itself") for one in parts if _is_recursive(schema, one.schema)]
    optional = sum(len(set(_properties(one.schema)) - set(_names(one.schema))) for one in parts)
    if optional > _MOST_OPTIONAL:
        found.append(f'make fields required ("required"): {optional} are not, and at most {_MOST_OPTIONAL} may be so')
    return found


RULES: Mapping[str, Callable[[Mapping[str, Json]], list[str]]] = {"openai": openai, "anthropic": anthropic}
"""By the name of the dialect."""


def _root(schema: Mapping[str, Json]) -> list[str]:
    if schema.get("type") == "object" and "anyOf" not in schema:
        return []
    return ['at the root: make it one object ("type": "object"), with what is there now as a field of it']


def _each(parts: list[_Part], unsupported: tuple[str, ...]) -> list[str]:
    """Return the changes for objects that are open, and for keywords that are not supported."""
    found = []
    for one in parts:
        if _is_object(one.schema) and one.schema.get("additionalProperties") is not False:
            found.append(one.says(_CLOSED))
        found += [one.says(f'leave out "{name}"') for name in unsupported if name in one.schema]
    return found


def _all_required(parts: list[_Part]) -> list[str]:
    found = []
    for one in parts:
        missing = [name for name in _properties(one.schema) if name not in _names(one.schema)]
        if missing:
            names = ", ".join(f'"{name}"' for name in missing)
            found.append(one.says(f'add {names} to "required" (what may be missing becomes a field that may be null)'))
    return found


def _beside_references(parts: list[_Part]) -> list[str]:
    odd = [one for one in parts if "$ref" in one.schema and len(one.schema) > 1 and one.place]
    return [one.says('leave out what stands beside "$ref"') for one in odd]


def _limits(parts: list[_Part]) -> list[str]:
    found = []
    properties = sum(len(_properties(one.schema)) for one in parts)
    if properties > _MOST_PROPERTIES:
        found.append(f"have at most {_MOST_PROPERTIES:,} fields in all, not {properties:,}")
    depth = max((one.depth for one in parts if _is_object(one.schema)), default=0) + 1
    if depth > _MOST_LEVELS:
        found.append(f"have at most {_MOST_LEVELS} levels of objects, not {depth}")
    choices = [(one, one.schema["enum"]) for one in parts if isinstance(one.schema.get("enum"), list)]
    number = sum(len(values) for _, values in choices)
    if number > _MOST_ENUMS:
        found.append(f'have at most {_MOST_ENUMS:,} values of "enum" in all, not {number:,}')
    for one, values in choices:
        if len(values) > _LONG_ENUM and sum(len(str(value)) for value in values) > _MOST_IN_LONG_ENUM:
            found.append(
                one.says(f'shorten "enum": more than {_LONG_ENUM} values, with more than {_MOST_IN_LONG_ENUM:,} characters')
            )
    named = [name for one in parts for word in ("properties", "$defs", "definitions") for name in _table(one.schema.get(word))]
    named += [str(value) for _, values in choices for value in values]
    if sum(map(len, named)) > _MOST_NAMES:
        found.append(f"have at most {_MOST_NAMES:,} characters of names and values, not {sum(map(len, named)):,}")
    return found


def _parts(schema: Mapping[str, Json]) -> Iterator[_Part]:
    """Yield a schema and all schemas inside of it, definitions too."""
    waiting = [_Part("", schema, 0)]
    while waiting:
        one = waiting.pop()
        yield one
        inner: list[_Part] = []
        below = one.depth + _is_object(one.schema)
        for word in _ANY_OF_OBJECTS:
            depth = 0 if word in ("$defs", "definitions") else below
            inner += [_Part(f"{one.place}/{word}/{name}", part, depth) for name, part in _tables(one.schema.get(word))]
        for word in _LISTS:
            inner += [_Part(f"{one.place}/{word}/{at}", part, below) for at, part in _tables(one.schema.get(word))]
        inner += [_Part(f"{one.place}/{word}", one.schema[word], below) for word in _SINGLE if _table(one.schema.get(word))]
        waiting += reversed(inner)


def _is_object(schema: Mapping[str, Json]) -> bool:
    kinds = schema.get("type")
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in schema


def _is_recursive(root: Mapping[str, Json], schema: Mapping[str, Json]) -> bool:
    """Return True if what a schema refers to contains a reference to the same again."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return False
    seen, waiting = set[str](), [reference]
    while waiting:
        target = waiting.pop()
        inner = [one.schema.get("$ref") for one in _parts(_resolved(root, target))]
        if reference in inner:
            return True
        waiting += [one for one in inner if isinstance(one, str) and one not in seen]
        seen.update(one for one in inner if isinstance(one, str))
    return False


def _resolved(root: Mapping[str, Json], reference: str) -> Mapping[str, Json]:
    found: Json = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = _table(found).get(step.replace("~1", "/").replace("~0", "~"))
    return {name: part for name, part in _table(found).items() if name not in ("$defs", "definitions")}


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    return _table(schema.get("properties"))


def _names(schema: Mapping[str, Json]) -> list[Json]:
    required = schema.get("required")
    return required if isinstance(required, list) else []


def _tables(value: Json) -> list[tuple[str, Mapping[str, Json]]]:
    """Return the objects inside of an object or a list, each with its name or number."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(str(name).replace("~", "~0").replace("/", "~1"), part) for name, part in pairs if isinstance(part, dict)]


def _table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _number(value: Json) -> float:
    return value if isinstance(value, int | float) else 0
