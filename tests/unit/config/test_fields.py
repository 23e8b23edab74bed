"""Headers and query parts: what they may hold, where their variables come from, and what is kept of them."""

from pathlib import Path
from typing import Any

import pytest

from runner.config.fields import Field, joined, read_headers, read_query, restored, stored
from runner.errors import UsageError

SECRET = "hush-hush-hush-1"


def a_field(text: str | None, name: str = "X-A") -> Field:
    return Field(name=name, text=text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("Bearer ${A}", "Bearer one"),
        ("${A}-${B}", "one-two"),
        ("$A and $$A", "$A and $$A"),
        ("$${A}", "${A}"),
        ("$", "$"),
        ("Grüße", "Grüße"),
    ],
)
def test_variables_are_filled_in(text: str, value: str) -> None:
    assert a_field(text).resolve({"A": " one\n", "B": "two"}, "header") == value


@pytest.mark.parametrize("environment", [{}, {"A": ""}, {"A": " "}])
def test_a_variable_that_is_not_set_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="A is not set; the header 'X-A' needs it"):
        a_field("Bearer ${A}").resolve(environment, "header")


@pytest.mark.parametrize("value", ["a\r\nX-B: 1", "a\r\n", "a\nb", "a\x00b", "a\x7fb", "caf\u00e9 \u20ac", "\U0001f600"])
def test_a_value_that_no_header_can_carry_is_refused_and_not_repeated(value: str) -> None:
    for attempt in (
        lambda: read_headers({"X-A": SECRET + value}, "the test"),
        lambda: read_headers([f"X-A: {SECRET}{value}"], "the test"),
        lambda: a_field("${A}").resolve({"A": SECRET + value + "x"}, "header"),
    ):
        with pytest.raises(UsageError, match="the value of the header 'X-A' contains") as refused:
            attempt()
        assert "hush" not in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["X A", "X\n", "X:", "", "Ü", "(x)"])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        read_headers({name: "x"}, "the test")


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "Accept-Encoding"])
def test_what_the_client_says_itself_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="runner sends its own"):
        read_headers([f"{name}: x"], "the test")


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${A B}", "${A:-x}", "${1}"])
def test_a_reference_that_names_no_variable_is_refused(text: str) -> None:
    for read in (read_headers, read_query):
        with pytest.raises(UsageError, match="the name of an environment variable"):
            read({"x": text}, "the test")


def test_texts_and_tables_mean_the_same() -> None:
    assert read_headers(["X-A: one", "X-B:two: three"], "t") == read_headers({"X-A": "one", "X-B": "two: three"}, "t")
    assert read_headers("X-A: one", "t") == {"X-A": "one"}
    assert read_query(["a=1", "b=2=3", "c="], "t") == {"a": "1", "b": "2=3", "c": ""}


@pytest.mark.parametrize("value", [[SECRET], ["no name " + SECRET], {"X-A": 1}, [1], 3, [": " + SECRET]])
def test_what_is_no_header_is_refused_and_not_repeated(value: Any) -> None:
    with pytest.raises(UsageError, match="headers must be a table") as refused:
        read_headers(value, "the test")
    assert "hush" not in str(refused.value)


def test_a_header_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        read_headers(["X-A: 1", "x-a: 2"], "the test")


@pytest.mark.parametrize("name", ["key", "api_key", "token", "sig", "code"])
def test_a_secret_of_the_query_has_to_come_from_a_variable(name: str) -> None:
    with pytest.raises(UsageError, match="sounds like a secret") as refused:
        read_query({name: SECRET}, "the test")
    assert "hush" not in str(refused.value)
    assert read_query({name: "${KEY}"}, "the test") == {name: "${KEY}"}


def test_a_later_source_adds_and_replaces_by_name() -> None:
    first = joined("headers", None, {"X-A": "1", "X-B": "2"}, unvouched=True, file=Path("job.toml"))
    both = joined("headers", first, {"x-a": "3", "X-C": "4"})
    assert [(field.name, field.text, field.unvouched) for field in both] == [
        ("X-B", "2", True), ("x-a", "3", False), ("X-C", "4", False),
    ]  # fmt: skip
    assert joined("int", 1, 2) == 2


def test_no_value_is_kept_that_may_be_a_secret() -> None:
    texts = {"X-A": "${A}", "X-B": "Bearer ${B}", "X-C": SECRET, "X-D": f"{SECRET} ${{A}}", "X-E": "$${A}"}
    fields = joined("headers", None, texts)
    assert stored("headers", fields, Path("/d/p.jsonl")) == {
        "X-A": "${A}",
        "X-B": "Bearer ${B}",
        "X-C": None,
        "X-D": None,
        "X-E": None,
    }
    in_file = joined("headers", None, {"X-C": SECRET}, unvouched=True, file=Path("/d/job.toml"))
    assert stored("headers", in_file, Path("/d/p.jsonl")) == {"X-C": {"from": "job.toml"}}
    assert stored("query", joined("query", None, {"v": "1", "key": "${K}"}), Path("/d/p.jsonl")) == {"v": "1", "key": "${K}"}
    assert stored("headers", (), Path("/d/p.jsonl")) is None
    assert "hush" not in repr(fields + in_file)


def test_what_was_kept_comes_back_and_the_rest_is_read_again_or_asked_for() -> None:
    kept = {"X-A": "${A}", "X-B": {"from": "job.toml"}, "X-C": None}
    found = restored("headers", kept, Path("/d/p.jsonl"), lambda file: {"x-b": "again"} if file == Path("/d/job.toml") else {})
    assert [(field.name, field.text) for field in found] == [("X-A", "${A}"), ("X-B", "again"), ("X-C", None)]
    with pytest.raises(UsageError, match="the value of the header 'X-C' is not kept in the store; give it again with --header"):
        found[2].resolve({}, "header")
    assert restored("headers", None, Path("/d/p.jsonl"), lambda _: {}) == ()


@pytest.mark.parametrize(
    ("name", "text", "secrets"),
    [
        ("X-A", "${A}", {"drawn-from-a-variable"}),
        ("Authorization", "Bearer hush1", {"Bearer hush1", "hush1"}),
        ("X-Team", "blue", set()),
        ("X-Team", "0123456789abcdef0123", {"0123456789abcdef0123"}),
        ("HTTP-Referer", "https://me.example", set()),
        ("X-Title", "a long title with the number 42 in it", set()),
    ],
)
def test_which_values_no_answer_may_show(name: str, text: str, secrets: set[str]) -> None:
    environment = {"A": "drawn-from-a-variable"}
    field = a_field(text, name)
    assert set(field.secrets(field.resolve(environment, "header"), environment)) == secrets
