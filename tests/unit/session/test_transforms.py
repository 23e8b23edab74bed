"""Texts and sentences out of events: complete ones only, in any script, code in one piece, and none lost with the pieces."""

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.event_types import Noted, RowFinished, StreamEvent
from runner.model import Result
from runner.row_events import Token
from runner.session.transforms import sentences, texts, values

pytestmark = pytest.mark.quick


def finished(text: str | None, id_: str = "a", *, earlier: bool = False) -> RowFinished:
    status = "done" if text is not None else "failed"
    known = {"id": id_, "metadata": {}, "text": text, "status": status, "attempts": 1, "line": 1, "answer_number": 1}
    result = Result(**{**dict.fromkeys(Result.__struct_fields__), **known})
    return RowFinished(result=result, earlier=earlier)


def token(text: str, at: int, id_: str = "a", attempt: int = 1, kind: str = "text") -> Token:
    return Token(id=id_, attempt=attempt, kind=kind, text=text, at=at)  # type: ignore[arg-type]


def told(text: str, sizes: Iterator[int] | None = None) -> list[StreamEvent]:
    events, at = [], 0
    while at < len(text):
        size = next(sizes, 1) if sizes is not None else 1
        events.append(token(text[at : at + size], at))
        at += size
    return [*events, finished(text)]


def heard(transform, events: list[StreamEvent]) -> list[tuple[str, str]]:
    async def given() -> AsyncIterator[StreamEvent]:
        for event in events:
            yield event

    async def gathered() -> list[tuple[str, str]]:
        return [element async for element in transform(given())]

    return anyio.run(gathered)


def split(text: str) -> list[str]:
    return [sentence for _, sentence in heard(sentences, told(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 3.14 at example.com today. Good.", ["It costs 3.14 at example.com today.", "Good."]),
        ("Dr. Who met J. Smith, e.g. here. Then left.", ["Dr. Who met J. Smith, e.g. here.", "Then left."]),
        ('He said "No." Then "Yes!" came.', ['He said "No."', 'Then "Yes!" came.']),
        ("Wait... what? Well… Yes.", ["Wait... what?", "Well…", "Yes."]),
        ("今日は。「はい。」そうですか？はい", ["今日は。", "「はい。」", "そうですか？", "はい"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("Steps:\n1. Do it now. Quickly.\n2. Rest.\n- apples\n- pears", None),
        ("A title\n\nA text. B", ["A title", "A text.", "B"]),
        ("Run this:\n```py\na = 1. \n\nB. C\n```\nDone. Ok.", ["Run this:", "```py\na = 1. \n\nB. C\n```", "Done.", "Ok."]),
        ("Use `a. B` there. Yes.", ["Use `a. B` there.", "Yes."]),
        ("It's `open. Next one.\nEnd.", ["It's `open.", "Next one.", "End."]),
        ("", []),
        (" \n\n ", []),
        ("```\nnever closed. Yes.", ["```\nnever closed. Yes."]),
    ],
)
def test_sentences(text: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Steps:", "1. Do it now.", "Quickly.", "2. Rest.", "- apples", "- pears"]
    assert split(text) == expected


SOME = st.text(st.sampled_from("ab A.!?。」\"'`\n-1 "), max_size=40)


@settings(max_examples=300)
@given(SOME, st.lists(st.integers(1, 6), max_size=40))
def test_the_sentences_are_the_same_however_the_text_comes(text: str, sizes: list[int]) -> None:
    cut = heard(sentences, told(text, iter(sizes)))
    assert cut == heard(sentences, [finished(text)])
    # and nothing is lost
    assert "".join("".join(sentence for _, sentence in cut).split()) == "".join(text.split())


def test_a_sentence_comes_as_soon_as_it_is_complete() -> None:
    events = told("One. Two. Three")[:8]
    assert heard(sentences, events) == [("a", "One.")]


def test_a_text_that_starts_over_is_told_again() -> None:
    events = [token("One. Tw", 0), token("Uno. ", 0, attempt=2), token("Dos.", 5, attempt=2), finished("Uno. Dos.")]
    assert [sentence for _, sentence in heard(sentences, events)] == ["One.", "Uno.", "Dos."]
    assert heard(texts, events)[-1] == ("a", "Uno. Dos.")
    assert [text for _, text in heard(texts, events)] == ["One. Tw", "Uno. ", "Uno. Dos."]


def test_what_was_dropped_comes_with_the_result() -> None:
    events = [token("One. T", 0), token("o. Three.", 8), finished("One. Two. Three."), finished("Old. Row.", "b", earlier=True)]
    assert heard(sentences, events) == [("a", s) for s in ("One.", "Two.", "Three.")] + [("b", "Old."), ("b", "Row.")]
    assert heard(texts, events) == [("a", "One. T"), ("a", "One. Two. Three."), ("b", "Old. Row.")]


def test_rows_are_told_apart_and_reasoning_is_left_out() -> None:
    events = [
        token("Hm. So. ", 0, kind="reasoning"),
        token("A one. A", 0),
        token("B one. ", 0, "b"),
        Noted(note="a note"),
        token(" two.", 8),
        finished("A one. A two."),
        finished(None, "b"),
    ]
    assert heard(sentences, events) == [("a", "A one."), ("a", "A two.")]


def test_values_grow_and_end_with_the_answer() -> None:
    text = 'Sure: {"a": "x\\ny", "n": 12, "l": [true, {"b": null}]}'
    found = heard(values, [*told(text)[:-1], finished(text[6:])])
    assert {row for row, _ in found} == {"a"}
    seen = [value for _, value in found]
    assert seen[:4] == [{}, {"a": ""}, {"a": "x"}, {"a": "x\ny"[:2]}]
    assert seen[-1] == {"a": "x\ny", "n": 12, "l": [True, {"b": None}]}
    assert all(one != other for one, other in pairwise(seen))


def test_values_of_another_attempt_of_a_failed_row_and_of_an_earlier_session() -> None:
    events: list[StreamEvent] = [token('{"a": 1', 0), token('{"b": "', 0, attempt=2), finished('{"b": "c"}')]
    assert heard(values, events) == [("a", {"a": 1}), ("a", {"b": ""}), ("a", {"b": "c"})]
    assert heard(values, [token("no JSON", 0), finished(None)]) == []
    assert heard(values, [finished("[1]", earlier=True)]) == [("a", [1])]
    # pieces are missing: the rest comes with the result
    assert heard(values, [token("x", 5), finished('{"a": 1}')]) == [("a", {"a": 1})]
