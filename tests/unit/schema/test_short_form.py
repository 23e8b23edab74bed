"""The short form of a schema."""

import pytest

from runner.errors import UsageError
from runner.schema.fields import schema_of
from runner.schema.provider_rules import anthropic, openai

pytestmark = pytest.mark.quick
WORDS = {"type": "string", "enum": ["a", "b"]}
NULL = {"type": "null"}


def test_the_example_of_the_help_is_a_schema_that_every_provider_takes() -> None:
    schema = schema_of("sentiment: good|bad|mixed, reason: str, score: int, tags: list[str], maybe: str?")
    assert schema == {
        "type": "object",
        "properties": {
            "sentiment": {"type": "string", "enum": ["good", "bad", "mixed"]},
            "reason": {"type": "string"},
            "score": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["sentiment", "reason", "score", "tags", "maybe"],
        "additionalProperties": False,
    }
    assert (openai(schema), anthropic(schema)) == ([], [])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1|2|-3", {"type": "integer", "enum": [1, 2, -3]}),
        ("-1|0|1", {"type": "integer", "enum": [-1, 0, 1]}),
        ("0.5|1.5", {"type": "number", "enum": [0.5, 1.5]}),
        ("1 | -2.5 ?", {"anyOf": [{"type": "number", "enum": [1, -2.5]}, {"type": "null"}]}),
        ("1.|2", {"type": "string", "enum": ["1.", "2"]}),
        ("0.5|half", {"type": "string", "enum": ["0.5", "half"]}),
        ('"0.5"|1.5', {"type": "string", "enum": ["0.5", "1.5"]}),
        ('"1"|2', {"type": "string", "enum": ["1", "2"]}),
        ("'a, b'|very good", {"type": "string", "enum": ["a, b", "very good"]}),
        ("int|float", {"anyOf": [{"type": "integer"}, {"type": "number"}]}),
        ("'str'|other", {"type": "string", "enum": ["str", "other"]}),
        ("'a?'", {"type": "string", "enum": ["a?"]}),
        ("list[list[a|b]]?", {"anyOf": [{"type": "array", "items": {"type": "array", "items": WORDS}}, NULL]}),
        (" bool ", {"type": "boolean"}),
    ],
)  # fmt: skip
def test_types(text: str, meant: object) -> None:
    assert schema_of(f"x: {text}")["properties"]["x"] == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "fields is empty; write each field as name: type"),
        ("a: str,", "has a comma with no field beside it"),
        ("a", "'a' has no type; write it as name: type"),
        ("a:", "'a' has no type; write it as a: str"),
        (": str", "the name in ': str' is empty"),
        ("a: strng", "did you mean str?"),
        ("a: string", "write str"),
        ("a: object", "write --schema"),
        ("a: str, b: int, a: int", "names 'a' twice"),
        ("a: str|good", "write 'str' in quotation marks"),
        ("a: good|good", "has the word 'good' twice"),
        ("a: good|", "the type of 'a' is empty"),
        ("a: list[str", "write a list as list[str]"),
        ("a: list", "write list[str]"),
        ("a: str??", "write one ? behind a type"),
        ("a[0]: str", "holds '['"),
        (f"{'n' * 65}: str", "more than 64 characters"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema_of(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
