"""What finish reasons mean: by themselves, and by the user's lists."""

from typing import Any

import pytest

from runner.errors import FinishError, UsageError
from runner.model import Completion
from runner.providers import finish
from runner.providers.finish import GAVE_UP, WHOLE, Finish, kind_of, normal, of


def answer(reason: str, *notes: str) -> Completion:
    return Completion(text="" if "empty" in notes else "Hello", finish_reason=reason, notes=notes)


def judged(reason: str, *notes: str, retry: Any = None, fail: Any = None, done: Any = None) -> Completion | FinishError:
    return of(retry, fail, done).judged(answer(reason, *notes))


def test_the_lists_are_apart_and_in_normal_form() -> None:
    assert not WHOLE & GAVE_UP
    assert {normal(reason) for reason in WHOLE | GAVE_UP} == WHOLE | GAVE_UP
    # a word that means giving up must not sit in a reason that is whole, unless it is listed
    assert all(kind_of(reason) == "whole" for reason in WHOLE)
    assert all(kind_of(reason) == "gave_up" for reason in GAVE_UP)


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("stop", "stop"),
        ("MAX_TOKENS", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("FinishReason.MAX_TOKENS", "max_tokens"),
        ("FINISH_REASON_STOP", "stop"),
        ("REASON_MAX_LEN", "max_len"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("malformedFunctionCall", "malformed_function_call"),
        ("Network Error", "network_error"),
        ("停止", "停止"),
    ],
)
def test_reasons_are_compared_in_one_form(reason: str, name: str) -> None:
    assert normal(reason) == name


@pytest.mark.parametrize(
    "reason",
    [
        "stop", "STOP", "end_turn", "eos", "eos_token", "length", "max_tokens", "MAX_TOKENS", "maxTokens", "stop_sequence",
        "tool_calls", "tool_use", "function_call", "content_filter", "safety", "SAFETY", "refusal", "pause_turn", "RECITATION",
        "model_context_window_exceeded", "model_length", "COMPLETE", "ERROR_TOXIC", "FINISH_REASON_STOP", "guardrail_intervened",
    ],
)  # fmt: skip
def test_what_the_model_had_to_say_is_done_without_a_note(reason: str) -> None:
    assert judged(reason) == answer(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "error", "ERROR", "Error", "abort", "aborted", "ABORTED", "insufficient_system_resource", "malformed_function_call",
        "MALFORMED_FUNCTION_CALL", "malformedFunctionCall", "network_error", "NetworkError", "unknown", "UNKNOWN", "OTHER",
        "cancelled", "canceled", "CANCELLED", "user_cancel", "timeout", "TIMEOUT", "timed_out", "timedOut", "overloaded",
        "overloaded_error", "server_error", "internal_server_error", "upstream_error", "SERVICE_UNAVAILABLE", "model_error",
        "FINISH_REASON_UNSPECIFIED", "FinishReason.OTHER", "null", "not_finished", "rate_limit_exceeded", "failed",
        "engine_failure", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "request_interrupted", "unload", "time_limit",
    ],
)  # fmt: skip
def test_a_server_that_gave_up_is_tried_again(reason: str) -> None:
    error = judged(reason)
    assert isinstance(error, FinishError)
    assert (error.code, error.verdict, error.sent, error.kept) == ("gave_up", "retry", True, False)
    assert repr(reason) in str(error)


@pytest.mark.parametrize("reason", ["plop", "x", "quota_of_words", "停止"])
def test_a_reason_that_nobody_knows_is_done_with_a_note(reason: str) -> None:
    assert judged(reason, "tail_lost") == answer(reason, "tail_lost", "unknown_finish")


def test_a_long_reason_is_quoted_short() -> None:
    assert len(str(judged("error_" * 10_000))) < 200


@pytest.mark.parametrize("reason", ["length", "LENGTH", "Length"])
def test_the_users_word_is_compared_in_the_same_form(reason: str) -> None:
    for said in ("length", "LENGTH", ["stop_word", "Length"]):
        error = judged(reason, retry=said)
        assert isinstance(error, FinishError)
        assert (error.code, error.verdict, error.kept) == ("finish_length", "retry", True)
        error = judged(reason, fail=said)
        assert isinstance(error, FinishError)
        assert (error.code, error.verdict, error.kept) == ("finish_length", "fail", True)


def test_an_empty_answer_has_a_word_of_its_own() -> None:
    error = judged("stop", "empty", retry="empty")
    assert isinstance(error, FinishError)
    assert (error.code, error.verdict) == ("finish_empty", "retry")
    assert judged("stop", retry="empty", fail=["empty"] * 0) == answer("stop")
    failed = judged("length", "empty", fail="empty", retry="length")
    assert isinstance(failed, FinishError)
    # what is certain to be paid for only once comes first
    assert (failed.code, failed.verdict) == ("finish_empty", "fail")


def test_the_users_word_comes_before_our_own() -> None:
    assert judged("error", done="error") == answer("error")
    assert judged("plop", done="plop") == answer("plop")
    error = judged("error", fail="error")
    assert isinstance(error, FinishError)
    assert (error.code, error.verdict, error.kept) == ("finish_error", "fail", True)


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (("length", "Length", None), "'length' is in finish.retry and in finish.fail"),
        ((["a", "b"], None, "b"), "'b' is in finish.retry and in finish.done"),
        ((None, "", None), "finish.fail names a finish reason without letters or digits"),
    ],
)
def test_lists_that_contradict_each_other_are_refused(lists: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        of(*lists)


def test_nothing_said_is_nothing_changed() -> None:
    assert of(None, None, None) == Finish()
    assert finish.EMPTY == "empty"
