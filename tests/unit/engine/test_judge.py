"""What an error means for the run, given what came before it."""

import pytest

from runner.engine.judge import AUTH_AFTER_SUCCESS, MISSES_AFTER_SUCCESS, OUTAGE_S, SAME_REFUSAL, UNREACHED_S, Judge
from runner.errors import (
    MODEL_STAYS,
    UNKNOWN,
    AttemptError,
    AttemptTimeoutError,
    ProviderError,
    Remedy,
    StreamError,
    TransportError,
    advice,
    remedy,
)
from runner.model import Item, Request

AUTH = ProviderError("401: wrong key", code="auth", verdict="stop", status=401)
BILLING = ProviderError("402: no money", code="billing", verdict="stop", status=402)
NOT_FOUND = ProviderError("404: no such model", code="not_found", verdict="stop", status=404)
REDIRECT = ProviderError("the endpoint redirects", code="redirect", verdict="stop", status=302)
HTML = StreamError("the endpoint answered text/html", code="not_an_api", verdict="stop")
BAD = ProviderError("400: no such parameter", code="bad_request", verdict="fail", status=400)
BUSY = ProviderError("500", code="server_error", verdict="retry", status=500)
LIMITED = ProviderError("429", code="rate_limited", verdict="retry", status=429, throttled=True)
REFUSED = TransportError("no connection", code="connect", sent=False)
NO_NAME = TransportError("not found", code="dns", sent=False)
TLS = TransportError("certificate", code="tls", verdict="stop", sent=False)


def after_a_success(model: str = "m") -> Judge:
    judge = Judge()
    judge.success(model)
    return judge


@pytest.mark.parametrize("error", [AUTH, BILLING, NOT_FOUND, REDIRECT, HTML, TLS], ids=lambda e: e.code)
def test_wrong_settings_stop_the_run_at_the_first_answer(error: AttemptError) -> None:
    assert Judge().verdict(error, "m", 0) == "stop"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AUTH, "retry"),
        (BILLING, "stop"),
        (NOT_FOUND, "fail"),
        (REDIRECT, "fail"),
        (HTML, "fail"),
        (TLS, "stop"),
        (BAD, "fail"),
        (BUSY, "retry"),
        (LIMITED, "retry"),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_after_a_success_odd_answers_are_the_items_own(error: AttemptError, expected: str) -> None:
    assert after_a_success().verdict(error, "m", 0) == expected


@pytest.mark.parametrize("error", [NOT_FOUND, REDIRECT, HTML], ids=lambda e: e.code)
def test_success_of_one_model_says_nothing_about_another(error: AttemptError) -> None:
    assert after_a_success("good").verdict(error, "misspelt", 0) == "stop"


def test_a_key_that_had_worked_gets_a_few_more_tries_in_a_row() -> None:
    judge = after_a_success()
    verdicts = [judge.verdict(AUTH, "m", 0) for _ in range(AUTH_AFTER_SUCCESS)]
    assert verdicts == ["retry"] * (AUTH_AFTER_SUCCESS - 1) + ["stop"]


def test_a_success_between_key_errors_begins_the_count_anew() -> None:
    judge = after_a_success()
    for _ in range(10):
        assert judge.verdict(AUTH, "m", 0) == "retry"
        judge.success("m")


@pytest.mark.parametrize(
    "between", [BUSY, LIMITED, BAD, NOT_FOUND, StreamError("cut off", code="truncated")], ids=lambda e: e.code
)
def test_key_errors_have_to_follow_each_other_to_stop_the_run(between: AttemptError) -> None:
    judge = after_a_success()
    for _ in range(10):
        for _ in range(AUTH_AFTER_SUCCESS - 1):
            assert judge.verdict(AUTH, "m", 0) == "retry"
        assert judge.verdict(between, "m", 0) != "stop"
    for _ in range(AUTH_AFTER_SUCCESS - 1):
        judge.verdict(AUTH, "m", 0)
    assert judge.verdict(AUTH, "m", 0) == "stop"


def refusal(code: str, status: int = 400) -> ProviderError:
    return ProviderError(f"{status}: no", code=code, verdict="fail", status=status)


@pytest.mark.parametrize("judge", [after_a_success(), Judge(succeeded=True)], ids=["this session", "an earlier one"])
def test_once_the_run_has_an_answer_a_refusal_may_be_the_endpoints(judge: Judge) -> None:
    for error in (BAD, NOT_FOUND, REDIRECT, HTML, refusal("bad_request", 403), refusal("rate_limited", 429)):
        assert judge.doubts(error)
    for code in ("content_policy", "context_length", "too_large"):
        assert not judge.doubts(refusal(code))
    for other in (
        StreamError("too large", code="size_cap", verdict="fail"),
        AttemptError("bug", code="internal", verdict="fail"),
    ):
        assert not judge.doubts(other)


def test_a_refusal_for_size_of_a_row_no_larger_than_an_answered_one_may_be_the_endpoints() -> None:
    judge = Judge()
    assert not judge.doubts(refusal("too_large", 413), "m", 10)
    judge.success("m", 100)
    judge.success("m", 50)
    for code in ("too_large", "context_length"):
        assert judge.doubts(refusal(code), "m", 100)
        assert not judge.doubts(refusal(code), "m", 101)
        assert not judge.doubts(refusal(code), "another", 10)
    assert not judge.doubts(refusal("content_policy"), "m", 10)


@pytest.mark.parametrize("judge", [after_a_success(), Judge(succeeded=True)], ids=["this session", "an earlier one"])
def test_words_of_money_that_may_be_a_rows_have_to_come_again(judge: Judge) -> None:
    error = ProviderError("400: so: out of credits", code="billing", verdict="stop", status=400)
    error.words = "out of credits"
    assert [judge.verdict(error, "m", 0) for _ in range(2)] == ["fail"] * 2
    assert judge.doubts(error)
    judge.success("m")
    assert [judge.verdict(error, "m", 0) for _ in range(3)] == ["fail", "fail", "stop"]
    assert judge.verdict(BILLING, "m", 0) == "stop"
    assert Judge().verdict(error, "m", 0) == "stop"


def test_before_the_first_answer_only_a_refusal_that_no_row_causes_may_be_the_endpoints() -> None:
    assert Judge().doubts(refusal("bad_request", 403))
    assert Judge().doubts(refusal("bad_request", 405))
    assert not Judge().doubts(refusal("bad_request", 400))
    assert not Judge().doubts(refusal("bad_request", 422))
    judge = Judge()
    # these are held, so that they do not end the run before the streak does
    assert {judge.verdict(refusal("bad_request", 403), "m", 0) for _ in range(2 * SAME_REFUSAL)} == {"fail"}


def test_the_same_refusal_of_all_first_rows_is_a_wrong_setting() -> None:
    judge = Judge()
    verdicts = [judge.verdict(BAD, "m", 0) for _ in range(SAME_REFUSAL)]
    assert verdicts == ["fail"] * (SAME_REFUSAL - 1) + ["stop"]


def test_different_refusals_are_the_rows_own() -> None:
    judge = Judge()
    for number in range(5 * SAME_REFUSAL):
        error = ProviderError(f"400: field {number % 2}", code="bad_request", verdict="fail", status=400)
        assert judge.verdict(error, "m", 0) == "fail"


def test_refusals_after_a_success_never_stop_the_run() -> None:
    judge = after_a_success()
    assert {judge.verdict(BAD, "m", 0) for _ in range(5 * SAME_REFUSAL)} == {"fail"}


@pytest.mark.parametrize("error", [REFUSED, NO_NAME, AttemptTimeoutError("no connection", timeout="connect", sent=False)])
def test_an_endpoint_never_reached_is_tried_for_a_short_while(error: AttemptError) -> None:
    judge = Judge()
    assert judge.verdict(error, "m", 1000) == "retry"
    assert judge.verdict(error, "m", 1000 + UNREACHED_S - 0.1) == "retry"
    assert judge.verdict(error, "m", 1000 + UNREACHED_S) == "stop"


def test_an_endpoint_that_had_answered_gets_longer() -> None:
    judge = after_a_success()
    assert judge.verdict(REFUSED, "m", 0) == "retry"
    assert judge.verdict(REFUSED, "m", UNREACHED_S + 1) == "retry"
    assert judge.verdict(REFUSED, "m", OUTAGE_S) == "stop"


@pytest.mark.parametrize(
    "error", [BUSY, LIMITED, BAD, TransportError("cut", code="cut"), AttemptTimeoutError("", timeout="silence")]
)
def test_any_answer_ends_an_outage(error: AttemptError) -> None:
    judge = Judge()
    assert judge.verdict(REFUSED, "m", 0) == "retry"
    judge.verdict(error, "m", UNREACHED_S - 1)
    assert judge.verdict(REFUSED, "m", UNREACHED_S + 1) == "retry"
    assert judge.verdict(REFUSED, "m", UNREACHED_S + OUTAGE_S) == "retry"
    assert judge.verdict(REFUSED, "m", UNREACHED_S + OUTAGE_S + 1) == "stop"


def test_a_success_ends_an_outage() -> None:
    judge = after_a_success()
    judge.verdict(REFUSED, "m", 0)
    judge.success("m")
    assert judge.verdict(REFUSED, "m", OUTAGE_S) == "retry"


@pytest.mark.parametrize("verdict", ["retry", "fail"])
def test_other_errors_mean_what_they_say(verdict: str) -> None:
    error = StreamError("odd", code="size_cap" if verdict == "fail" else "truncated", verdict=verdict)  # type: ignore[arg-type]
    assert [Judge().verdict(error, "m", 0), after_a_success().verdict(error, "m", 0)] == [verdict, verdict]


def test_the_same_refusal_of_all_rows_is_the_rows_own_when_earlier_sessions_had_answers() -> None:
    judge = Judge(succeeded=True)
    assert {judge.verdict(BAD, "m", 0) for _ in range(5 * SAME_REFUSAL)} == {"fail"}


def test_answers_of_earlier_sessions_do_not_excuse_a_wrong_key_or_want_of_money() -> None:
    for error in (AUTH, BILLING):
        assert Judge(succeeded=True).verdict(error, "m", 0) == "stop"


@pytest.mark.parametrize("error", [NOT_FOUND, REDIRECT, HTML], ids=lambda e: e.code)
def test_answers_of_earlier_sessions_excuse_a_few_rows_without_a_model_but_not_an_endpoint_that_is_gone(
    error: AttemptError,
) -> None:
    judge = Judge(succeeded=True)
    assert [judge.verdict(error, "m", 0) for _ in range(MISSES_AFTER_SUCCESS)] == ["fail", "fail", "stop"]
    judge = Judge(succeeded=True)
    for _ in range(10):
        assert judge.verdict(error, "missing", 0) == "fail"
        judge.success("m")


# -- a model that a row names itself


def test_a_rows_own_missing_model_stops_the_run_whatever_another_one_has_answered() -> None:
    judge = Judge(succeeded=True, model="m")
    assert [judge.verdict(NOT_FOUND, "typo", 0) for _ in range(MISSES_AFTER_SUCCESS)] == ["fail", "fail", "stop"]
    for judge in (Judge(model="m"), Judge(model="m")):
        assert judge.verdict(NOT_FOUND, "typo", 0) == "stop"
        judge.success("m")
        assert judge.verdict(NOT_FOUND, "typo", 0) == "stop"


def test_the_runs_own_missing_model_stops_it_whatever_rows_have_answered() -> None:
    judge = Judge(model="m")
    judge.success("another")
    assert judge.verdict(NOT_FOUND, "m", 0) == "stop"


def item(model: str, position: int = 7) -> Item:
    request = Request(model=model, messages=())
    return Item(key="k", position=position, request=request, metadata={}, fingerprint=0)


def test_what_a_stop_advises() -> None:
    fresh, answered = Judge(model="m"), Judge(model="m", succeeded=True)
    said = str(NOT_FOUND)
    assert fresh.advice(NOT_FOUND, item("m"), said) == advice("not_found")
    assert answered.advice(NOT_FOUND, item("m"), said) == MODEL_STAYS
    for judge in (fresh, answered):
        assert remedy(judge.advice(NOT_FOUND, item("typo"), said)) == Remedy(line=7)
        assert judge.advice(AUTH, item("m"), said) == advice("auth")


@pytest.mark.parametrize(
    ("address", "said", "told"),
    [
        ("http://h/v1", "use http://h/v1", "http://h/v1"),
        ("http://h/v1?a=b", "use http://h/v1", "'http://h/v1?a=b'"),
        # a secret in it was concealed
        ("http://h/secret/v1", "use http://h/[redacted]/v1", UNKNOWN),
        ("http://h/`x`/v1", "use http://h/`x`/v1", UNKNOWN),
    ],
)
def test_an_address_is_told_as_a_shell_reads_it(address: str, said: str, told: str) -> None:
    error = ProviderError("404", code="not_found", verdict="stop", status=404)
    error.misplaced, error.address = True, address
    assert remedy(f"404. {Judge(model='m').advice(error, item('m'), said)}") == Remedy(address=told)
