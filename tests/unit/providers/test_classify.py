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
        *((status, "server_error", "retry") for status in (500, 502, 503, 504, 520, 524, 408, 409, 424, 425, 499, 599)),
        *((status, "bad_request", "fail") for status in (400, 403, 405, 410, 418, 422, 451, 101)),
        (413, "too_large", "fail"),
        (204, "truncated", "retry"),
        (206, "truncated", "retry"),
        (None, "server_error", "retry"),
    ],
)
def test_status_alone(status, code, verdict) -> None:
    assert ruled(status) == Ruling(code, verdict)


@pytest.mark.parametrize(
    ("status", "name"), [(429, "resource_unavailable"), (None, "resource_unavailable"), (498, "capacity_exceeded"), (498, None)]
)
def test_a_tier_without_capacity_is_no_rate_limit(status, name) -> None:
    assert ruled(status, name, name) == Ruling("no_capacity", "retry", throttled=True)


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
        "insufficient balance (1008)",
        "Insufficient Balance",
        "This request requires more credits, or fewer max_tokens.",
        "您的账户余额不足",
    ],
)
def test_money_by_sentence(message) -> None:
    for status in (400, 401, 403, 422, 429, 500, 503, None):
        assert ruled(status, "invalid_request_error", None, message) == Ruling("billing", "stop")


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 502, 503, None])
def test_a_name_that_the_job_calls_money_stops_at_every_status(status) -> None:
    assert ruled(status, None, "9931", money_codes=frozenset({"9931"})) == Ruling("billing", "stop")


@pytest.mark.parametrize("name", ["load_balance_error", "no_credit_server", "billing_service_unavailable"])
def test_a_word_of_money_in_the_name_of_a_server_error_stops_nothing(name) -> None:
    assert ruled(503, name).code == "server_error"


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


@pytest.mark.parametrize("status", [400, 403, None])
@pytest.mark.parametrize(
    ("type_", "details", "message"),
    [
        ("INVALID_ARGUMENT", ("API_KEY_INVALID",), ""),
        ("INVALID_ARGUMENT", (), "API key expired. Please renew the API key."),
        ("INVALID_ARGUMENT", (), "API key not valid. Please pass a valid API key."),
        ("Client specified an invalid argument", (), "Incorrect API key provided: xa***. You can obtain an API key from ..."),
        (None, (), "invalid x-api-key"),
        (None, (), "No auth credentials found"),
        (None, (), "Invalid token"),
        (None, (), "The access token has expired."),
        (None, (), "Authentication Fails, Your api key: ****abcd is invalid"),
        (None, (), "You didn't provide an API key."),
        ("ExpiredToken", (), ""),
        ("invalid_api_key", (), ""),
        (None, (), "Your account has been suspended"),
    ],
)
def test_a_key_that_is_refused_is_known_whatever_the_status(status, type_, details, message) -> None:
    assert ruled(status, type_, None, message, details=details) == Ruling("auth", "stop")


@pytest.mark.parametrize(
    "message",
    [
        "messages[0].content: 'invalid api key' is not allowed",
        "Invalid token count",
        "unexpected token at position 12",
        "the token limit is invalid for this model",
    ],
)
def test_a_word_about_keys_in_another_message_stops_nothing(message) -> None:
    assert ruled(400, "invalid_request_error", None, message) == Ruling("bad_request", "fail")


@pytest.mark.parametrize(
    "message",
    [
        "Unexpected endpoint or method. (POST /chat/completions)",
        "Unexpected endpoint or method. (POST /chat/completions). Returning 200 anyway",
        "404 page not found",
        "Not Found",
        "Invalid URL (POST /v1/v1/chat/completions)",
        "Cannot POST /chat/completions",
    ],
)
def test_no_such_route(message) -> None:
    for status in (None, 400, 405):
        assert ruled(status, None, None, message) == Ruling("not_found", "stop")


@pytest.mark.parametrize("status", [400, 403, 409])
@pytest.mark.parametrize(
    "name", ["ThrottlingException", "Throttling.RateQuota", "rate_limit_exceeded", "TooManyRequests", "RESOURCE_EXHAUSTED"]
)
def test_a_rate_limit_by_name(status, name) -> None:
    assert ruled(status, name) == Ruling("rate_limited", "retry", throttled=True)


@pytest.mark.parametrize("name", ["UNAVAILABLE", "internal_server_error", "CANCELLED", "DEADLINE_EXCEEDED", "ServiceUnavailable"])
def test_a_failure_of_the_server_by_name(name) -> None:
    for status in (400, 403, 412):
        assert ruled(status, name) == Ruling("server_error", "retry")


def test_a_refusal_that_asks_for_a_wait_is_none_of_the_row() -> None:
    for status in (400, 403, 418):
        refusal = Refusal(message="Request not allowed")
        assert classify(status, refusal, {}, Names(), asked=True) == Ruling("overloaded", "retry")
        assert classify(status, refusal, {"x-should-retry": "false"}, Names(), asked=True).verdict == "fail"
    for refusal in (Refusal(code="content_filter"), Refusal(code="context_length_exceeded"), Refusal(code="invalid_api_key")):
        assert classify(403, refusal, {}, Names(), asked=True) == classify(403, refusal, {}, Names())


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
        (403, "content_blocked", ""),
        (400, "DataInspectionFailed", "Input data may contain inappropriate content."),
        (401, "SAFETY", ""),
        (None, "content_filter", ""),
        (403, None, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
        (403, None, "The request was blocked by our acceptable use policy."),
    ],
)
def test_content_policy(status, code, message) -> None:
    for type_ in ("invalid_request_error", "permission_error", "authentication_error", "invalid_api_key"):
        assert ruled(status, type_, code, message) == Ruling("content_policy", "fail")


@pytest.mark.parametrize("message", ["Request blocked by network security policy", "Request not allowed", "Access denied"])
def test_the_words_of_a_firewall_are_not_about_what_the_row_says(message) -> None:
    assert ruled(403, "forbidden", None, message) == Ruling("bad_request", "fail")


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
