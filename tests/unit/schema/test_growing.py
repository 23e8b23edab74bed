"""Answers that still grow: which of them can no longer become valid."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.schema.answers import AnswerCheck
from runner.schema.fields import schema_of
from runner.schema.growing import Growing
from runner.schema.structure import Structure
from runner.schema.validation import Validator

pytestmark = pytest.mark.quick

SCHEMA = schema_of("mood: good|bad, score: int, tags: list[str], more: bool?")
NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {"parts": {"type": "array", "maxItems": 2, "items": {**schema_of("name: str, n: int"), "minProperties": 2}}},
    "required": ["parts"],
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab,: ", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({"k": VALUES, "l": VALUES})


def fault(text: str, schema: dict[str, Any] = SCHEMA) -> str | None:
    return Growing(Validator(schema), ("{",)).fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure, here it is:\n```json\n",
        '{"mood": "go',
        '{"mood": "good", "sc',
        '{"mood": "good", "score": 1',
        '{"mood": "good", "score": 12, "tags": ["a", "b',
        'Sure: {"mood": "good", "tags": [',
        '{"mood": "good", "score": 1, "tags": [], "more": nul',
        '{"mood": "good", "score": 1, "tags": [], "more": null}',
        '{"mood": "good", "score": 1, "tags": ["{]"], "more": null}\n``` I hope',
        '{"tags": ["\\u12',
    ],
)
def test_what_can_still_fit_goes_on(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mood": "great", "why": "because', 'at mood: "great" is not one of'),
        ('{"mood": "great"', 'at mood: "great" is not one of'),
        ('Sure: {"mood": "great", "sc', 'at mood: "great" is not one of'),
        ('{"score": "x", ', 'at score: "x" is not of type "integer"'),
        ('{"score": 1.5, ', "at score: 1.5 is not of type"),
        ('{"tags": {"', 'at tags: {} is not of type "array"'),
        ('{"tags": ["a", 1,', 'at tags[1]: 1 is not of type "string"'),
        ('{"mood": "good", "other": {', "('other' was unexpected)"),
        ('{"mood": "good", "mood": "b', "Detected duplicate key"),
        ("{'mood", "is not JSON"),
        ('{"score": NaN', "is not JSON"),
        ('{"mood": good', "is not JSON"),
        ('{"mood": "good"}', '"score" is a required property'),
        ('{"mood": "good", "score": 1, "tags": [], "more": 3} and', "at more: 3 is not valid"),
    ],
)
def test_what_nothing_can_mend_ends(text: str, words: str) -> None:
    assert words in (fault(text) or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mood": "good" "n', "',' or '}' is missing at character 17"),
        ('{"mood" "good"', "':' is missing at character 9"),
        ('{"tags": ["a" "b', "',' or ']' is missing at character 15"),
        ('{"tags": ["a", ]', "a value is missing"),
        ('{"tags": ["a"} ', "',' or ']' is missing"),
        ('{"mood": "good", }', "a key in quotation marks is missing"),
        ('{"tags": [], and', "a key in quotation marks is missing"),
        ('{"score": 01 ', "a value is missing"),
        ('{"score": trye', "a value is missing"),
        ('Sure: {"mood": "good" "n', "is missing at character 23"),
        ('{"a\\x": ', "has an escape that is none"),
    ],
)
def test_what_is_no_json_ends_where_it_is_none(text: str, words: str) -> None:
    assert words in (fault(text) or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"score": "long te', "at score: a text does not fit there"),
        ('{"mood": 1', "at mood: a number does not fit there"),
        ('{"tags": ["a", n', "at tags[1]: null does not fit there"),
        ('{"mood": "good", "more": "y', "at more: a text does not fit there"),
        ('{"mood": "good", "more": [', "at more: a list does not fit there"),
        ('[[{"mood": "go', 'is not of type "object"'),
        ('["word word', 'is not of type "object"'),
        ('Sure:\n```json\n["word', 'is not of type "object"'),
        ('{"other": t', "'other' was unexpected"),
    ],
)
def test_the_type_of_a_value_is_known_by_its_first_character(text: str, words: str) -> None:
    assert words in (fault(text) or "")


@pytest.mark.parametrize(
    "text", ['See [1]: {"mood": "go', '"Good", I say:\n```\n{"mood"', '{"mood": "good", "more": t', '{"more": n', '{"score": -']
)
def test_words_before_the_json_may_have_marks(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize("text", ['"unclear [see note]"', '```json\n"unclear {"', '\ufeff "["'])
def test_brackets_in_a_text_are_not_the_beginning_of_a_value(text: str) -> None:
    """A schema without a type of its own takes a text as well as an object."""
    growing = AnswerCheck({"enum": ["yes", "unclear [see note]", "[", "unclear {"]}).growing().answer()
    assert [growing.fault(text[:end], values=True) for end in range(len(text) + 1)] == [None] * (len(text) + 1)


def test_what_a_condition_asks_for_waits_for_what_decides_it() -> None:
    kinds = {"if": {"properties": {"kind": {"const": "person"}}, "required": ["kind"]}}
    then = {"then": {"properties": {"id": {"type": "integer"}}}, "else": {"$ref": "#/$defs/named"}}
    named = {"properties": {"id": {"type": "string"}}}
    schema = {"type": "object", "properties": {"kind": {"enum": ["person", "firm"]}}, "allOf": [{**kinds, **then}]}
    for beginning in ('{"id": 17, "note', '{"id": "x", "kind": "pers'):
        assert fault(beginning, {**schema, "$defs": {"named": named}}) is None
    items = {"properties": {"k": {}}, "if": {"properties": {"k": {"const": 1}}}, "then": named}
    assert fault('{"items": [{"id": 5, "x', {"properties": {"items": {"items": items}}}) is None
    assert "is not one of" in (fault('{"id": 17, "kind": []', {**schema, "$defs": {"named": named}}) or "")


def test_a_reference_to_a_part_of_all_of_finds_that_part() -> None:
    schema = {
        "type": "object",
        "allOf": [{"properties": {"q": {"type": "string"}}}],
        "anyOf": [{"properties": {"n": {"type": "integer"}}}],
        "properties": {"b": {"$ref": "#/allOf/0"}},
    }
    assert fault('{"b": {"n": "te', schema) is None
    assert (fault('{"b": {"q": [', schema) or "").startswith("at b.q: ")
    assert (fault('{"n": "te', schema) or "").startswith("at n: ")


def test_a_schema_of_choices_and_references_takes_the_beginnings_of_each() -> None:
    part = {"type": "object", "properties": {"n": {"type": "integer"}, "of": {"$ref": "#/$defs/part"}}, "required": ["n"]}
    schema = {
        "oneOf": [{"$ref": "#/$defs/part"}, {"type": "object", "properties": {"n": {"const": "x"}}}],
        "$defs": {"part": part},
    }
    for beginning in ('{"n": "', '{"n": 1', '{"n": 1, "of": {"n', '{"n": "x", "of": [t'):
        assert fault(beginning, schema) is None
    assert "does not fit there" in (fault('{"n": [', schema) or "")
    assert "does not fit there" in (fault('{"of": {"of": [', {**schema, "oneOf": [{"$ref": "#/$defs/part"}]}) or "")


@given(PARTS, st.sampled_from([None, 1]), st.data())
@settings(max_examples=80, deadline=None)
def test_a_mark_that_is_missing_is_noticed(value: dict[str, Any], indent: int | None, data: st.DataObject) -> None:
    text = json.dumps(value, indent=indent)
    at = data.draw(st.sampled_from([place for place, char in enumerate(text) if char in ",:"]))
    broken = text[:at] + text[at + 1 :]
    assume(not is_json(broken))
    growing = Growing(Validator({}), ("{",)).answer()
    assert any(growing.fault(broken[:end]) for end in range(len(broken) + 1))


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_each_character_is_looked_at_once() -> None:
    text = json.dumps({"tags": ["word " * 40, 'a "quoted" one'] * 20, "n": {"o": [1.5, True, None]}})
    whole, pieces = Structure(0), Structure(0)
    whole.take(text)
    for end in range(1, len(text) + 1):
        # whoever looked again at what lies far behind would find something else there; no text in quotes is as long
        pieces.take(text[:end].replace(text[: end - 250], "\0" * (end - 250), 1) if end > 250 else text[:end])
    assert (whole.whole, whole.fault) == (pieces.whole, pieces.fault) == (True, None)


def test_only_what_is_complete_has_to_be_whole() -> None:
    assert fault('{"parts": [{"name": "a"', NESTED) is None
    assert fault('{"parts": [{"name": "a", "n": 1}, {', NESTED) is None
    assert (fault('{"parts": [{"name": "a"}', NESTED) or "").startswith("at parts[0]: ")
    assert "has more than 2 items" in (fault('{"parts": [{"name": "a", "n": 1}, {"name": "a", "n": 1}, {', NESTED) or "")


def test_the_digits_at_the_end_may_be_followed_by_others() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 10}, "y": {"enum": [12.5]}}}
    for beginning in ('{"n": 1', '{"n": -', '{"y": 12', '{"y": 12.', '{"y": 1e'):
        assert fault(beginning, schema) is None
    assert "less than the minimum of 10" in (fault('{"n": 1,', schema) or "")


def test_a_value_that_nothing_marks_is_not_looked_at() -> None:
    assert Growing(Validator({"type": "string"}), ()).fault('{"a"') is None


@given(
    st.fixed_dictionaries(
        {
            "mood": st.sampled_from(["good", "bad"]),
            "score": st.integers(-(10**6), 10**6),
            "tags": st.lists(st.text(max_size=6), max_size=3),
            "more": st.none() | st.booleans(),
        }
    ),
    st.sampled_from(["", "Sure:\n```json\n"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_beginning_of_a_valid_answer_is_ended(value: dict[str, Any], before: str, ascii_: bool) -> None:
    text = before + json.dumps(value, ensure_ascii=ascii_, indent=None if ascii_ else 1)
    growing = Growing(Validator(SCHEMA), ("{",))
    for end in range(len(text) + 1):
        assert growing.fault(text[:end]) is None, text[:end]
