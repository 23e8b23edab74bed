"""The lines of batch files: any line is read, none raises, and what was sent is what the provider encoded."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batches import BatchResult
from runner.errors import UsageError
from runner.providers.batch.lines import anthropic_results, id_maker, line_maker, openai_results
from runner.providers.batch.rules import ANTHROPIC, VENDORS, vendor_of

ANSWER = {"id": "chatcmpl-1", "choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": None}
REFUSAL = {"error": {"message": "no such tool", "type": "invalid_request_error", "code": "bad"}}
EXPIRED = {"code": "batch_expired", "message": "This request could not be executed before the completion window expired."}
Told = tuple[str | None, str, int | None, Any]


def told(result: BatchResult) -> Told:
    return result.custom_id, result.kind, result.status, json.loads(result.body) if result.body else None


def read(tmp_path: Path, *lines: bytes | dict[str, Any], anthropic: bool = False) -> list[BatchResult]:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return list((anthropic_results if anthropic else openai_results)(path))


def line(response: Any, error: Any = None, custom_id: Any = "a") -> dict[str, Any]:
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (line({"status_code": 200, "request_id": "r", "body": ANSWER}), ("a", "answered", 200, ANSWER)),
        (line({"status_code": 400, "request_id": "r", "body": REFUSAL}), ("a", "refused", 400, REFUSAL)),
        (line(None, EXPIRED), ("a", "expired", None, {"error": EXPIRED})),
        (line(None, {"code": "batch_cancelled", "message": "x"}), ("a", "cancelled", None, ...)),
        # status 0, no body, nothing at all
        (line({"status_code": 0, "request_id": "", "body": ""}), ("a", "odd", None, None)),
        (line({"status_code": 0, "body": ANSWER}), ("a", "answered", 200, ANSWER)),
        (line({"status_code": 0, "body": None}, {"code": "server_error", "message": "x"}), ("a", "refused", 500, ...)),
        (line({"status_code": 200, "body": None}), ("a", "odd", 200, None)),
        (line({"status_code": 200, "body": {}}), ("a", "odd", 200, None)),
        (line({"status_code": 503, "body": None}), ("a", "refused", 503, None)),
        (line(None), ("a", "odd", None, None)),
        ({"custom_id": "a"}, ("a", "odd", None, None)),
        # Together: an error, and no response
        ({"custom_id": "a", "error": {"code": "batch_client_error", "message": "x"}}, ("a", "refused", None, ...)),
        ({"custom_id": "a", "error": "out of memory"}, ("a", "refused", None, {"error": "out of memory"})),
        # an answer is paid for, whatever stands beside it
        (line({"status_code": 200, "body": ANSWER}, {"code": "late"}), ("a", "answered", 200, ANSWER)),
        (line({"body": ANSWER}), ("a", "answered", 200, ANSWER)),
        (line({"status_code": 400, "body": {**ANSWER, "error": None}}), ("a", "refused", 400, ...)),
        (line({"status_code": 200, "body": {**ANSWER, "error": None}}, {"code": "x"}), ("a", "answered", 200, ...)),
        # encoded twice; ids that are no texts; what is no object
        (line({"status_code": 200, "body": json.dumps(ANSWER)}), ("a", "answered", 200, ANSWER)),
        (line({"status_code": 200, "body": ANSWER}, custom_id=7), ("7", "answered", 200, ANSWER)),
        (line({"status_code": 200, "body": ANSWER}, custom_id=None), (None, "answered", 200, ANSWER)),
        (b"[1, 2]", (None, "odd", None, None)),
        (b'{"custom_id": "a", "response": {"status_co', (None, "odd", None, None)),
        (b"<html>", (None, "odd", None, None)),
        (b"\xff\xfe", (None, "odd", None, None)),
    ],
)
def test_what_a_line_of_openai_says(found: bytes | dict[str, Any], expected: Told, tmp_path: Path) -> None:
    (result,) = read(tmp_path, found)
    assert told(result)[:3] == expected[:3]
    if expected[3] is not ...:
        assert told(result)[3] == expected[3]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"type": "succeeded", "message": ANSWER}, ("a", "answered", 200, ANSWER)),
        ({"type": "succeeded", "message": None}, ("a", "odd", None, None)),
        ({"type": "expired"}, ("a", "expired", None, None)),
        ({"type": "canceled"}, ("a", "cancelled", None, None)),
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request", "message": "x"}}},
            ("a", "refused", 400, ...),
        ),
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}},
            ("a", "refused", 529, ...),
        ),
        ({"type": "errored", "error": {"type": "api_error", "message": "x"}}, ("a", "refused", 500, ...)),
        ({"type": "errored"}, ("a", "odd", None, None)),
        (None, ("a", "odd", None, None)),
    ],
)
def test_what_a_line_of_anthropic_says(result: Any, expected: Told, tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"custom_id": "a", "result": result}, anthropic=True)
    assert told(found)[:3] == expected[:3]
    if expected[3] is not ...:
        assert told(found)[3] == expected[3]


def test_a_mark_at_the_beginning_empty_lines_and_no_end_of_the_last_line(tmp_path: Path) -> None:
    good = json.dumps(line({"status_code": 200, "body": ANSWER})).encode()
    results = read(tmp_path, b"\xef\xbb\xbf" + good, b"", b"  \r", good + b"\r", good)
    assert [told(one)[:2] for one in results] == [("a", "answered")] * 3
    assert read(tmp_path, b"") == []


def test_the_bytes_of_an_answer_are_those_that_came(tmp_path: Path) -> None:
    body = b'{"id" : 1.50, "choices":[ ] , "x":"\\u00e9"}'
    before = b'{"custom_id":"a","response":{"status_code":200,"body":'
    plain, half = read(tmp_path, before + body + b"}}", before + b'{"x":"\\ud83d"}}}')
    assert plain.body == body
    # half a character is read as live
    assert told(half) == ("a", "answered", 200, {"x": "\N{REPLACEMENT CHARACTER}"})


@pytest.mark.parametrize("odd", [b"1" * 400, b"[" * 5000 + b"]" * 5000, b"NaN", b"-1e999"])
def test_values_that_no_parser_likes(odd: bytes, tmp_path: Path) -> None:
    for anthropic in (False, True):
        for found in (b'{"custom_id":"a","error":%b}', b'{"custom_id":"a","response":{"status_code":200,"body":{"x":%b}}}',
                      b'{"custom_id":"a","result":{"type":"succeeded","message":{"x":%b},"error":{"x":%b}}}'):  # fmt: skip
            assert len(read(tmp_path, found.replace(b"%b", odd), anthropic=anthropic)) == 1


@given(st.lists(st.binary(max_size=60).filter(lambda one: b"\n" not in one), max_size=5), st.booleans())
def test_no_line_raises(lines: list[bytes], anthropic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert len(read(Path(folder), *lines, anthropic=anthropic)) <= len(lines)


@pytest.mark.parametrize("vendor", [*VENDORS, ANTHROPIC], ids=lambda one: one.rules.vendor)
@given(key=st.text(min_size=1, max_size=80))
def test_an_id_is_the_key_where_it_fits_and_always_fits(vendor: Any, key: str) -> None:
    pattern = vendor.rules.custom_id
    own = id_maker(pattern)(key)
    assert re.fullmatch(pattern, own)
    assert (own == key) == (re.fullmatch(pattern, key) is not None)
    # within each of these it is as good an id as it was
    assert id_maker(pattern)(own) == own


def test_a_line_holds_the_body_as_it_is() -> None:
    make = line_maker(b'"method":"POST","url":"/v1/chat/completions","body":')
    body = b'{"model":"m","messages":[{"content":"a\\nb"}],"n":1.0}'
    made = make('row "1"', body)
    assert made == b'{"custom_id":"row \\"1\\"","method":"POST","url":"/v1/chat/completions","body":' + body + b"}\n"
    spread = make("a", b'{\n "model": "m",\r\n "content": "a\\nb"}')
    assert (spread.count(b"\n"), spread.count(b"\r")) == (1, 0)
    assert msgspec.json.decode(spread)["body"] == {"model": "m", "content": "a\nb"}


@pytest.mark.parametrize(
    ("address", "vendor"),
    [
        ("https://api.openai.com/v1", "OpenAI"),
        ("https://eu.api.openai.com/v1/", "OpenAI"),
        ("https://notopenai.com/v1", "the server"),
        ("https://me.openai.azure.com/openai/v1", "Azure OpenAI"),
        ("https://api.groq.com/openai/v1", "Groq"),
        ("https://API.together.xyz/v1", "Together"),
        ("https://api.mistral.ai/v1", "Mistral"),
        ("http://localhost:8000/v1", "the server"),
    ],
)
def test_the_host_says_whose_rules_hold(address: str, vendor: str) -> None:
    assert vendor_of("openai", address).rules.vendor == vendor
    assert vendor_of("anthropic", address).rules.vendor == "Anthropic"


@pytest.mark.parametrize(
    ("dialect", "address", "word"),
    [
        ("openai", "https://openrouter.ai/api/v1", "OpenRouter"),
        ("mine", "https://example.com", "mine"),
    ],
)
def test_who_has_no_such_api(dialect: str, address: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        vendor_of(dialect, address)
