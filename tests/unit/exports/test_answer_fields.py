"""The fields of answers as columns: their names, what they hold, and their values."""

from typing import Any

import pytest

from runner.answer_shape import fields_of
from runner.exports.answer_fields import added, filled, kinds_of, named, place

pytestmark = pytest.mark.quick


def test_fields_are_named_and_typed_by_the_schema() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    properties: dict[str, Any] = {
        "text": {"type": "string"},
        "number": {"type": ["integer", "null"]},
        "share": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "yes": {"const": True},
        "mood": {"enum": ["good", "bad", None]},
        "rating": {"enum": [1, 2]},
        "odd": {"enum": [1, "one"]},
        "mixed": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "tags": {"type": "array"},
        "node": {"$ref": "#/$defs/node"},
        "word": {"$ref": "#/$defs/word"},
        "any": {},
        "amount": {"type": ["integer", "number", "null"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        "half": {"enum": [1, 1.5]},
    }
    schema = {"type": "object", "properties": properties, "$defs": {"node": node, "word": {"type": "string"}}}
    assert fields_of(schema) == {
        "text": "text", "number": "int", "share": "float", "yes": "bool", "mood": "text", "rating": "int", "odd": "other",
        "mixed": "other", "tags": "other", "node": "other", "word": "text", "any": "other",
        "amount": "float", "either": "float", "half": "float",
    }  # fmt: skip
    assert list(fields_of(schema)) == list(properties)
    assert fields_of({"$ref": "#/$defs/node", "$defs": {"node": node}}) == {"next": "other"}
    both = {
        "anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}]
    }
    assert fields_of(both) == {"a": "other", "b": "int"}
    assert fields_of({"oneOf": [{"properties": {"a": {"type": kind}}} for kind in ("number", "integer")]}) == {"a": "float"}
    assert fields_of({"type": "array", "items": {}}) == fields_of({"$ref": "#"}) == fields_of({"properties": 3}) == {}


def test_a_name_that_another_column_has_gets_a_prefix() -> None:
    columns = ["id", "mood", "text", "answer_number", "status"]
    assert named(columns, ["mood", "status", "new", "answer_mood"]) == [
        "answer_mood",
        "answer_status",
        "new",
        "answer_answer_mood",
    ]
    assert named(["Mood"], ["mood", "MOOD"], str.lower) == ["answer_mood", "answer_answer_MOOD"]
    assert (place(columns), place(["text", "status"])) == (4, 1)
    assert named(columns, ["mood", "new"], prefix=True) == ["answer_mood", "answer_new"]
    assert added(["text", "status"], ["status", "new"]) == ["text", "answer_status", "new", "status"]


def test_only_answers_that_count_have_values() -> None:
    columns = ["id", "text", "status"]
    rows = [
        ["a", '{"x": 1, "y": [2]}', "done"],
        ["b", '{"x": 1}', "done"],
        ["c", '{"x": 1}', "failed"],
        ["d", None, "failed"],
        ["e", "[1]", "done"],
        ["f", "no JSON", "done"],
    ]
    made = [row[2:4] for row in filled(rows, columns, {"x": "int", "y": "other"})]
    assert made == [[1, [2]], [1, None], [None, None], [None, None], [None, None], [None, None]]


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        ([], ("int", "float", "bool", "text", "other")),
        (['{"i": 1, "f": 2, "b": true, "t": "x", "o": 1}', None, "no JSON", "[1]"], ("int", "float", "bool", "text", "other")),
        (['{"i": 1.5, "f": 0.5}', '{"i": 2, "f": 9007199254740992}'], ("float", "float", "bool", "text", "other")),
        (['{"i": 9223372036854775808, "f": 9007199254740993}'], ("other", "other", "bool", "text", "other")),
        (['{"i": 3.0}', '{"i": 3e0}', '{"i": 9007199254740993}'], ("int", "float", "bool", "text", "other")),
        (['{"i": 1e300}', '{"i": 2}'], ("float", "float", "bool", "text", "other")),
        # a store that somebody has changed
        (['{"i": "1", "f": true, "b": "yes", "t": 5}'], ("other", "other", "other", "text", "other")),
    ],
)
def test_columns_are_typed_by_the_schema_unless_a_value_does_not_fit(texts: list[str | None], kinds: tuple[str, ...]) -> None:
    assert tuple(kinds_of(texts, {"i": "int", "f": "float", "b": "bool", "t": "text", "o": "other"})) == kinds
