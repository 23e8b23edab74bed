"""Every refusal and its error code and verdict."""

import pytest

from runner.providers.classify import MONEY_CODES, TYPE_STATUS, Names, Refusal, Ruling, classify, status_of

STOPS = ("auth", "billing", "not_found", "redirect")


def ruled(status, type_=None, code=None, message="", headers=None, **more):
    refusal = Refusal(type=type_, code=code, message=message, details=more.pop("details", ()))
    return classify(status, refusal, headers or {}, Names(**more))


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (401, "auth", "stop"),
        (402, "billing", "stop"),
        (404, "not_found", "stop"),
        (301, "redirect", "stop"),
        (308, "redirect", "stop"),
        (304, "redirect", "stop"),
        (529, "overloaded", "retry"),
        *((status, "server_error", "retry") for status in (500, 502, 503, 504, 520, 524, 408, 409, 425, 599)),
        *((status, "bad_request", "fail") for status in (400, 403, 405, 410, 418, 422, 451, 499, 101)),
        (413, "too_large", "fail"),
        (204, "truncated", "retry"),
        (206, "truncated", "retry"),
        (None, "server_error", "retry"),
    ],
)
def test_status_alone(status, code, verdict) -> None:
    assert ruled(status) == Ruling(code, verdict)


@pytest.mark.parametrize("name", [None, "rate_limit_exceeded", "rate_limit_error", "throttling_error", "429", "weird"])
def test_429_is_a_rate_limit_whatever_it_is_called(name) -> None:
    assert ruled(429, name, name) == Ruling("rate_limited", "retry", throttled=True)
    assert ruled(429, "tokens", name, "Rate limit reached, check your quota and billing") == ruled(429)


@pytest.mark.parametrize("status", [400, 403, 429, None])
@pytest.mark.parametrize(
    "name",
    [
        *sorted(MONEY_CODES),
        "credit_balance_too_low",
        "spend_limit_reached",
        "InsufficientBalance",
        "QuotaExceeded",
        "BILLING-NOT-ACTIVE",
        "Arrearage",
        "AccountOverdueError",
    ],
)
def test_money_stops(status, name) -> None:
    stop = Ruling("billing", "stop")
    assert ruled(status, name) == ruled(status, "invalid_request_error", name) == stop
    assert ruled(status, "rate_limit_error", None, "", details=("x", name)) == stop
    assert ruled(status, name, headers={"x-should-retry": "true"}) == stop


@pytest.mark.parametrize("name", ["Throttling.RateQuota", "rate_quota", "tpm_quota_exceeded"])
def test_a_quota_per_minute_is_no_money(name) -> None:
    assert ruled(429, name).code == "rate_limited"


def test_an_endpoint_may_have_its_own_words() -> None:
    message = "Your credit balance is too low"
    assert ruled(429, None, "insufficient_quota", message, rate_codes=frozenset({"insufficient_quota"})).throttled
    assert ruled(429, None, "1113", money_codes=frozenset({"1113"})).code == "billing"


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.",
        "You have reached your specified workspace API usage limits.",
        "Billing hard limit has been reached",
    ],
)
def test_money_by_sentence(message) -> None:
    for status in (400, 403, 429):
        assert ruled(status, "invalid_request_error", None, message) == Ruling("billing", "stop")
    assert ruled(500, "api_error", None, message).code == "server_error"
    assert ruled(422, None, None, message).code == "bad_request"


@pytest.mark.parametrize("message", ["bad value: 'what is my billing quota?'", "You exceeded your current quota"])
def test_a_word_about_money_in_a_message_stops_nothing(message) -> None:
    assert ruled(400, "invalid_request_error", None, message).verdict == "fail"
    assert ruled(429, "RESOURCE_EXHAUSTED", "429", message).throttled


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        ("permission_error", ""),
        ("authentication_error", ""),
        (None, "Your API key does not have permission to use the specified resource."),
        (None, "This organization has been disabled."),
        (None, "This organisation has been disabled."),
        ("unsupported_country_region_territory", "Country not supported"),
        ("access_terminated", ""),
    ],
)
def test_403_that_names_key_or_organisation(type_, message) -> None:
    assert ruled(403, type_, None, message) == Ruling("auth", "stop")


def test_a_model_that_is_not_there() -> None:
    for status in (400, 403, 404):
        assert ruled(status, "invalid_request_error", "model_not_found") == Ruling("not_found", "stop")


def test_overloaded_by_name() -> None:
    for status in (None, 503, 529):
        assert ruled(status, "overloaded_error") == Ruling("overloaded", "retry")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("context_length_exceeded", ""),
        (None, "prompt is too long: 210000 tokens > 200000 maximum"),
        (None, "This model's maximum context length is 8192 tokens."),
        (None, "input length and `max_tokens` exceed context limit: 1 + 2 > 3"),
        (None, "the request exceeds the available context window"),
    ],
)
def test_context_length(code, message) -> None:
    assert ruled(400, "invalid_request_error", code, message) == Ruling("context_length", "fail")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "content_filter", ""),
        (400, "content_policy_violation", ""),
        (400, "ResponsibleAIPolicyViolation", ""),
        (400, None, "Output blocked by content filtering policy"),
        (400, None, "Your request was rejected as a result of our safety system."),
        (400, None, "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
        (403, "moderation", "your input was flagged"),
    ],
)
def test_content_policy(status, code, message) -> None:
    assert ruled(status, "invalid_request_error", code, message) == Ruling("content_policy", "fail")


def test_too_large_by_name() -> None:
    assert ruled(400, "request_too_large") == Ruling("too_large", "fail")


@pytest.mark.parametrize("status", [*range(100, 600), None])
def test_x_should_retry_changes_retry_and_fail_but_never_a_stop(status) -> None:
    plain = ruled(status)
    no, yes = (ruled(status, headers={"x-should-retry": value}) for value in ("false", " TRUE "))
    if plain.verdict == "stop":
        assert plain == no == yes
        assert plain.code in STOPS
    else:
        assert (no.verdict, yes.verdict) == ("fail", "retry")
        assert no.code == yes.code == plain.code
        # throttled all the same, so the lane still slows down
        assert no.throttled == plain.throttled
    assert ruled(status, headers={"x-should-retry": "perhaps"}) == plain


@pytest.mark.parametrize(
    ("type_", "code", "status"),
    [
        *((name, None, status) for name, status in TYPE_STATUS.items()),
        ("invalid_request_error", "rate_limit_exceeded", 429),
        ("InternalServerError", "500", 500),
        (None, "502", 502),
        ("NotFoundError", "404", 404),
        ("BadRequestError", None, 400),
        ("provider_error", "content_filter", None),
        (None, "42", None),
        (None, "0429", None),
        (None, "²²²", None),
        (None, None, None),
    ],
)
def test_status_of(type_, code, status) -> None:
    assert status_of(type_, code) == status
