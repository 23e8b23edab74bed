"""What OpenAI and Anthropic take of JSON Schema, each with the change that is needed."""

from typing import Any

import pytest

from runner.schema.provider_rules import anthropic, openai

pytestmark = pytest.mark.quick


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "change"),
    [
        ({**closed(a={}), "additionalProperties": True}, 'at the root: set "additionalProperties": false'),
        (closed(a={"type": "array", "items": {"type": "object"}}), 'at /properties/a/items: set "additionalProperties": false'),
        ({**closed(a={}, b={}), "required": ["a"]}, 'at the root: add "b" to "required"'),
        (closed(a={"type": "string", "maxLength": 3}), 'at /properties/a: leave out "maxLength"'),
        (closed(a={"oneOf": [{}, {}]}), 'at /properties/a: leave out "oneOf"'),
        (closed(a={"type": "string", "default": "x"}), 'at /properties/a: leave out "default"'),
        ({"type": "array", "items": {}}, "at the root: make it one object"),
        ({**closed(a={}), "anyOf": [{}]}, "at the root: make it one object"),
        (closed(a={"$ref": "#/$defs/x", "description": "y"}), 'at /properties/a: leave out what stands beside "$ref"'),
        ({**closed(a={}), "$defs": {"x": {"type": "object"}}}, 'at /$defs/x: set "additionalProperties": false'),
        (closed(**{"a/b": {"type": "object"}}), 'at /properties/a~1b: set "additionalProperties": false'),
        (closed(**{str(n): {"type": "string"} for n in range(5_001)}), "at most 5,000 fields in all, not 5,001"),
        (closed(a={"type": "integer", "enum": [*range(1_001)]}), 'at most 1,000 values of "enum" in all, not 1,001'),
        (closed(a={"enum": [f"{n:0100}" for n in range(251)]}), 'at /properties/a: shorten "enum"'),
        (closed(a={"enum": ["x" * 120_001]}), "at most 120,000 characters of names and values"),
    ],
)
def test_openai_is_told_the_exact_change(schema: dict[str, Any], change: str) -> None:
    found = openai(schema)
    assert any(change in one for one in found), found


def test_ten_levels_are_enough_and_eleven_are_not() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(10):
        schema = closed(a=schema)
    assert openai(schema) == []
    assert openai(closed(a=schema)) == ["have at most 10 levels of objects, not 11"]


def test_what_openai_supports_needs_no_change() -> None:
    node = closed(next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
    number = {"type": "number", "minimum": 0, "multipleOf": 0.5}
    text = {"type": ["string", "null"], "pattern": "^a", "format": "date", "description": "x"}
    assert (
        openai({**closed(n=number, t=text, l={"type": "array", "items": number, "maxItems": 3}), "$defs": {"node": node}}) == []
    )


@pytest.mark.parametrize(
    ("schema", "change"),
    [
        ({"type": "object", "properties": {}}, 'at the root: set "additionalProperties": false'),
        (closed(a={"type": "integer", "minimum": 0}), 'at /properties/a: leave out "minimum"'),
        (closed(a={"type": "array", "items": {}, "minItems": 2}), 'at /properties/a: leave out "minItems" beyond 1'),
        (
            {
                **closed(a={"$ref": "#/$defs/n"}),
                "$defs": {"n": closed(b={"$ref": "#/$defs/m"}), "m": closed(c={"$ref": "#/$defs/n"})},
            },
            "at /properties/a: resolve the definition that refers to itself",
        ),
        ({**closed(**{str(n): {} for n in range(25)}), "required": []}, 'make fields required ("required"): 25 are not'),
    ],
)
def test_anthropic_is_told_the_exact_change(schema: dict[str, Any], change: str) -> None:
    found = anthropic(schema)
    assert any(change in one for one in found), found


def test_optional_fields_and_definitions_are_taken_by_anthropic() -> None:
    schema = {**closed(a={"$ref": "#/$defs/x"}, b={"type": "array", "items": {}, "minItems": 1}), "required": ["a"]}
    assert anthropic({**schema, "$defs": {"x": closed(c={"type": "string", "format": "date"})}}) == []
