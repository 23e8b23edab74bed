"""What is stored of an attempt, and that it never contains our own key."""

import pytest
from msgspec import structs
from world import Exchange, an_item

from runner.engine.outcomes import conceal, done, failed, partial_of, record
from runner.errors import AttemptError, StreamError, TransportError
from runner.model import Attempt, Completion, Usage
from runner.text import REDACTED, Redactor

KEY = "sk-canary-0001"
BEGUN = Attempt(key="7", number=3, started_at=1_700_000_000.0, duration_s=0.0)
HELLO = Completion(
    text="Hello", finish_reason="stop", usage=Usage(input_tokens=7), served_model="m-2026", response_id="r-1", notes=("empty",)
)


class Odd:
    """A decoder that fails in ``completion``."""

    def completion(self) -> Completion:
        raise KeyError("choices")


def ended(result: Completion | AttemptError, exchange: Exchange | None = None, *, known: Completion = HELLO) -> Attempt:
    exchange = exchange or Exchange(status=200, bytes_received=111, time_to_first_token_s=0.25)
    return record(BEGUN, 2.00000049, exchange, known, result, Redactor([KEY]))


def test_an_answered_attempt() -> None:
    assert ended(HELLO) == structs.replace(
        BEGUN,
        duration_s=2.0,
        time_to_first_token_s=0.25,
        status=200,
        bytes_received=111,
        usage=Usage(input_tokens=7),
        served_model="m-2026",
        response_id="r-1",
    )


def test_a_failed_attempt_keeps_what_its_answer_showed() -> None:
    attempt = ended(StreamError(f"answered {KEY!r}", code="truncated"))
    assert (attempt.error_code, attempt.error) == ("truncated", f"answered {REDACTED!r}")
    assert (attempt.usage, attempt.served_model, attempt.response_id) == (Usage(input_tokens=7), "m-2026", "r-1")
    assert (attempt.sent, attempt.status, attempt.bytes_received) == (True, 200, 111)


def test_one_that_never_reached_the_server() -> None:
    nothing = Completion(text="", finish_reason="")
    attempt = ended(TransportError("no", code="connect", sent=False), Exchange(), known=nothing)
    assert (attempt.sent, attempt.status, attempt.usage, attempt.time_to_first_token_s) == (False, None, None, None)


def test_a_slow_tail_is_not_the_answers_time_but_all_of_a_failures_time_is_its_own() -> None:
    exchange = Exchange(status=200, answered_s=1.5)
    assert ended(HELLO, exchange).duration_s == 1.5
    assert ended(StreamError("odd", code="truncated"), exchange).duration_s == 2.0


@pytest.mark.parametrize("name", ["text", "finish_reason", "served_model", "response_id"])
def test_a_key_that_a_server_echoes_is_in_no_answer(name: str) -> None:
    echoed = structs.replace(HELLO, **{name: f"<{KEY}>"})
    hidden = conceal(echoed, Redactor([KEY]))
    assert hidden == structs.replace(HELLO, **{name: f"<{REDACTED}>"})


def test_a_key_deep_inside_is_found_too() -> None:
    hidden = conceal(structs.replace(HELLO, extra={"tool_calls": [{"arguments": f"x{KEY}y", "index": 0}]}), Redactor([KEY]))
    assert hidden.extra == {"tool_calls": [{"arguments": f"x{REDACTED}y", "index": 0}]}


def test_every_secret_is_taken_out_and_an_answer_without_one_is_left_as_it_is() -> None:
    both = conceal(structs.replace(HELLO, text=f"{KEY} other-secret"), Redactor([KEY, "other-secret"]))
    assert both.text == f"{REDACTED} {REDACTED}"
    assert conceal(HELLO, Redactor([KEY])) is HELLO


@pytest.mark.parametrize("echoed", ['se"cret/one', "se%22cret%2Fone", "se%22cret/one", 'se\\"cret/one', "se&quot;cret/one"])
@pytest.mark.parametrize("place", ["text", "extra"])
def test_a_key_that_a_server_echoes_in_another_spelling(echoed: str, place: str) -> None:
    value = {"text": f"<{echoed}>"} if place == "text" else {"extra": {"arguments": f"<{echoed}>"}}
    hidden = conceal(structs.replace(HELLO, **value), Redactor(['se"cret/one']))
    assert (hidden.text if place == "text" else hidden.extra["arguments"]) == f"<{REDACTED}>"


def test_a_short_key_is_left_in_an_answer() -> None:
    short = structs.replace(HELLO, text="EMPTY handed")
    assert conceal(short, Redactor(["EMPTY"])) is short


def test_a_decoder_that_fails_shows_nothing() -> None:
    assert partial_of(Odd()) == Completion(text="", finish_reason="")  # type: ignore[arg-type]


def test_outcomes() -> None:
    item, attempt = an_item(7, attempts_before=2), ended(HELLO)
    good = done(item, 3, attempt, HELLO)
    assert (good.key, good.position, good.status, good.completion, good.attempt) == ("7", 7, "done", HELLO, attempt)
    assert (good.attempts, good.error_code, good.error) == (3, None, None)
    bad = failed(item, 3, None, "internal", "odd")
    assert (bad.key, bad.position, bad.status, bad.completion, bad.attempt) == ("7", 7, "failed", None, None)
    assert (bad.attempts, bad.error_code, bad.error) == (3, "internal", "odd")
