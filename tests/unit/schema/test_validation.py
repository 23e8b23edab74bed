"""Schemas: compiled without fetching anything, and answers checked by them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from raw_server import RawServer, in_thread, whole

from runner.errors import InvalidAnswerError, UsageError
from runner.model import Completion
from runner.schema.answers import AnswerCheck
from runner.schema.fields import schema_of
from runner.schema.reading import schema_in, schema_of_class
from runner.schema.validation import Validator

FIELDS = schema_of("mood: good|bad, score: int, tags: list[str]")


def test_nothing_is_fetched_by_http_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "part.json"
    file.write_text('{"type": "string"}')
    with in_thread(RawServer(whole("200 OK", {"type": "string"}))) as server:
        for address in (f"{server.origin}/part.json", file.as_uri()):
            for schema in (
                {"$ref": address},
                {"type": "object", "properties": {"a": {"$ref": f"{address}#/x"}}},
                {"$id": address, "$ref": "other.json"},
            ):
                with pytest.raises(UsageError, match=r"refers to another document.*under \$defs"):
                    Validator(schema)
            with pytest.raises(UsageError, match="cannot be used"):
                Validator({"$schema": address})
        assert server.requests == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strng"}, 'at type: "strng" is not valid'),
        ({"properties": {"a": {"pattern": "("}}}, "at properties.a.pattern"),
        ({"$ref": "#/$defs/missing"}, "'/$defs/missing' does not exist"),
        ({"required": "a"}, "at required"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_its_place(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Validator(schema)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_says_where_and_what_and_not_the_whole_answer() -> None:
    validator = Validator({**FIELDS, "properties": {**FIELDS["properties"], "day": {"type": "string", "format": "date"}}})
    assert validator.faults({"mood": "good", "score": 1, "tags": []}) == []
    long = "x" * 5_000
    found = validator.faults({"mood": long, "score": "3", "tags": ["a", 2]})
    assert [fault[:14] for fault in found] == ['at mood: "xxxx', 'at score: "3" ', "at tags[1]: 2 "]
    assert found[0].endswith('is not one of "good" or "bad"')
    assert len(found[0]) < 150
    assert validator.faults([1]) == ['[1] is not of type "object"']
    assert validator.faults({"mood": "good", "tags": []}) == ['"score" is a required property']
    assert validator.faults({"mood": "good", "score": 1, "tags": [], "day": "soon"}) == ['at day: "soon" is not a "date"']


def check(text: str, reason: str = "stop", **extra: Any) -> Completion | InvalidAnswerError:
    made = AnswerCheck(FIELDS, is_cut=lambda word: word == "length")
    return made(Completion(text=text, finish_reason=reason, extra=extra, notes=("old",)))


def test_an_answer_that_fits_is_the_same_or_loses_what_stands_around() -> None:
    good = '{"mood": "good", "score": 1, "tags": []}'
    assert check(good) == Completion(text=good, finish_reason="stop", notes=("old",))
    assert check(f"Sure!\n```json\n{good}\n```") == Completion(text=good, finish_reason="stop", notes=("old", "fenced", "prose"))
    called = [{"id": "1", "name": "answer", "arguments": good}]
    assert check("", tool_calls=called) == Completion(text=good, finish_reason="stop", notes=("old",))
    other = [{"id": "1", "name": "search", "arguments": good}]
    assert isinstance(check("", tool_calls=other), InvalidAnswerError)


def test_an_answer_that_does_not_fit_says_why_and_whether_it_may_be_mended() -> None:
    wrong = check('{"mood": "great", "score": 1, "tags": []}')
    assert isinstance(wrong, InvalidAnswerError)
    assert (wrong.code, wrong.verdict, wrong.kept, wrong.mendable) == ("invalid_output", "fail", True, True)
    assert str(wrong) == 'the answer does not fit the schema: at mood: "great" is not one of "good" or "bad"'
    cut = check('{"mood": "go', "length")
    assert isinstance(cut, InvalidAnswerError)
    assert not cut.mendable
    assert "ends at the limit of its length (finish reason 'length')" in str(cut)
    declined = check("", refusal="I will not")
    assert isinstance(declined, InvalidAnswerError)
    assert (str(declined), declined.mendable) == ("the model declined: I will not", False)


def test_a_stored_answer_fits_as_it_is_or_not_at_all() -> None:
    made = AnswerCheck(FIELDS)
    assert made.fits('{"mood": "bad", "score": 1, "tags": []}')
    assert not made.fits('```{"mood": "bad", "score": 1, "tags": []}```')
    assert not made.fits('{"mood": "bad", "score": 1}')
    assert not made.fits("")


class Review(pydantic.BaseModel):
    mood: str
    score: int = 3


class Part(msgspec.Struct):
    name: str


class Whole(msgspec.Struct):
    parts: list[Part]
    more: "Whole | None" = None


@dataclass
class Plain:
    name: str


def test_classes_have_their_schemas() -> None:
    assert schema_of_class(Review)["properties"]["mood"]["type"] == "string"
    assert schema_of_class(Part) == {
        "title": "Part",
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    assert schema_of_class(Plain)["properties"] == {"name": {"type": "string"}}
    made = schema_of_class(Whole)
    assert made["type"] == "object"
    assert set(made["$defs"]) == {"Part", "Whole"}
    assert Validator(made).faults(json.loads('{"parts": [{"name": "a"}], "more": {"parts": [], "more": null}}')) == []
    with pytest.raises(UsageError, match="the class object has no JSON Schema"):
        schema_of_class(object)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"a": 1, "a": 2}', "{}", "hello", "true"])
def test_a_file_that_holds_no_schema_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^the schema s\.json "):
        schema_in(text, "the schema s.json")
