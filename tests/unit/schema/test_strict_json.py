"""JSON of answers: strictly read, with fences and words taken off."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.schema.strict_json import FaultError, Parsed, parse

pytestmark = pytest.mark.quick

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "inner", "notes"),
    [
        (' {"a": 1}\n', ' {"a": 1}\n', ()),
        ('\ufeff{"a": 1}', '{"a": 1}', ()),
        ('```json\n{"a": 1}\n```', '{"a": 1}', ("fenced",)),
        ('```\r\n{"a": 1}```', '{"a": 1}', ("fenced",)),
        ('```json\n{"a": 1}', '{"a": 1}', ("fenced",)),
        ('Sure:\n```json\n{"a": "``` {"}\n```\nDone.', '{"a": "``` {"}', ("fenced", "prose")),
        ('Here you are: {"a": 1} I hope it helps [1].', '{"a": 1}', ("prose",)),
        ('{"a": 1}\n\nAnything else?', '{"a": 1}', ("prose",)),
        ('{"a": "```json\\n{}\\n```"}', '{"a": "```json\\n{}\\n```"}', ()),
    ],
)
def test_what_stands_around_is_taken_off_and_noted(text: str, inner: str, notes: tuple[str, ...]) -> None:
    assert parse(text, ("{",)) == Parsed(json.loads(inner), inner, notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("I cannot say", "is not JSON: it begins with 'I cannot say'"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"b": {"a": 1, "a": 1}}', "has the key 'a' twice"),
        ('{"a": NaN}', "holds NaN, which is no number in JSON"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": 1e999}', "holds '1e999', a number that is too large"),
        ('{"a": 9223372036854775808}', "whole number of more than 64 bits"),
        (f'{{"a": {"9" * 5000}}}', "holds a number that is too large"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": 1}{"a": 2}', "holds something else beside its JSON: '{\"a\": 2}'"),
        ('{"a": 1}}', "holds something else beside its JSON"),
        ('{"a": 1} 2', "holds something else beside its JSON"),
        ('A: {"a": 1} or B: {"a": 2}', "holds something else beside its JSON"),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', "something else beside its JSON"),
        ('{"a": "x', "ends in the middle of its JSON"),
        ('{"a": [1,', "ends in the middle of its JSON"),
        ('{"a" 1}', "Expecting ':' delimiter at character 6"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1,}', "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("[" * 300 + "]" * 300, "is nested more than 200 levels deep"),
    ],
)
def test_what_other_programs_would_read_otherwise_is_refused(text: str, words: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_a_value_that_nothing_marks_has_to_be_the_whole_text() -> None:
    assert parse('"yes"', ()).value == "yes"
    assert parse("3", ()).value == 3
    with pytest.raises(FaultError, match="something else"):
        parse("3 of them", ())
    with pytest.raises(FaultError, match="something else"):
        parse('"a" ```', ())


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_what_json_writes_is_read_as_it_was(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        assert parse(text).value == value
    except FaultError as fault:
        assert "surrogate" in str(fault)  # noqa: PT017 - only such a text may be refused


@given(st.text(alphabet='{}[]",:`ab1 \n\\', max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_anything_but_a_value_or_a_fault(text: str) -> None:
    try:
        parsed = parse(text, ("{",))
    except FaultError:
        return
    assert json.loads(parsed.text) == parsed.value
