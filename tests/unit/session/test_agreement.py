"""How far answers agree, and when kappa can be told."""

import json

import pytest

from runner.session.agreement import Tally

pytestmark = pytest.mark.quick


def told(pairs: list[tuple[object, object]], number: int = 1) -> tuple[float | None, float | None]:
    tally = Tally(["x"])
    for left, right in pairs * number:
        tally.add(json.dumps({"x": left}), json.dumps({"x": right}))
    return tally.fields["x"].agreement, tally.fields["x"].kappa


def test_kappa_is_what_the_books_say() -> None:
    """Cohen's own kind of table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no; kappa is 0.4."""
    pairs: list[tuple[object, object]] = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    agreement, kappa = told(pairs)
    assert (agreement, kappa) == (0.7, pytest.approx(0.4))


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "a")] * 9,
        [(float(n), float(n)) for n in range(3)] * 9,
        [(n, n) for n in range(60)] * 9,
        [(n, n) for n in range(10)],
        [("long " * 50, "x")] * 9,
        [({"a": 1}, [1])] * 9,
    ],
    ids=["one value", "numbers", "60 values", "each once", "long texts", "no values"],
)
def test_where_values_are_no_categories_there_is_no_kappa(pairs: list[tuple[object, object]]) -> None:
    agreement, kappa = told(pairs)
    assert (agreement is not None, kappa) == (True, None)


def test_values_and_what_is_no_answer() -> None:
    assert told([(True, 1), (1, 1.0), (None, None), (" a ", "a"), ([1], [1])])[0] == 4 / 5
    tally = Tally(["x"])
    # a field that is missing is as one that is null; a text that is no JSON has no fields
    assert tally.add("{}", '{"x": null}')
    assert tally.add("no JSON", "{}")
    assert Tally([]).add("[1, 2]", "[1,2]")
    assert not Tally([]).add("[1, 2]", "[2, 1]")
    assert (Tally().whole.agreement, Tally().add(" x\n", "x")) == (None, True)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"y": 1}, {"y": True}, False),
        ([[{"y": [0]}]], [[{"y": [False]}]], False),
        ([1, True], [1.0, True], True),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ({"a": None}, {"b": None}, False),
        ([1], [1, 1], False),
        ({}, [], False),
    ],
)
def test_true_is_not_1_however_deep(left: object, right: object, same: bool) -> None:
    assert told([(left, right)])[0] == same
    assert Tally([]).add(json.dumps(left), json.dumps(right)) == same


def test_very_deep_answers_are_compared_too() -> None:
    deep = "[" * 900 + "{}" + "]" * 900
    assert Tally([]).add(deep.format(1), deep.format("1.0"))
    assert not Tally([]).add(deep.format(1), deep.format("true"))


@pytest.mark.parametrize("other", [1, "True"])
def test_true_is_a_category_of_its_own(other: object) -> None:
    """Chance is as for two names."""
    pairs: list[tuple[object, object]] = [(True, True), (other, other), (True, other)]
    names: list[tuple[object, object]] = [("a", "a"), ("b", "b"), ("a", "b")]
    assert told(pairs, 9) == told(names, 9)
    assert told(pairs, 9)[1] == pytest.approx(0.4)
