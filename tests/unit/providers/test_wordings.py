"""Real wordings of providers, gateways and routers, and what each means. Error bodies of public bug reports, 2023-2026."""

import json
from typing import Any

import pytest

from runner.errors import ProviderError
from runner.providers.phrases import never_fits, spoken
from runner.providers.refusal import Names, from_status, from_stream

RPM = "Rate limit reached for m in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."
LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 45000. The input or "
    "output tokens must be reduced in order to run successfully."
)


def refused(status: int | None, body: Any, headers: dict[str, str] | None = None) -> ProviderError:
    """Return the error of an answer with that status; None: the body is inside an answer with status 200."""
    raw = json.dumps(body).encode()
    return from_stream(raw, names=Names()) if status is None else from_status(status, headers or {}, raw, now=0, names=Names())


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


THROTTLES = [
    {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."},
    {
        "__type": "com.amazon.coral.service#ThrottlingException",
        "message": "Too many tokens per day, please wait before trying again.",
    },
    {"message": "Too many tokens, please wait before trying again."},
    {"message": "Too many requests, please wait before trying again."},
    {"message": "Too many connections, please wait before trying again."},
    said("ThrottlingException: Too many tokens, please wait before trying again.", type="throttling_error"),
    said("Too many tokens: maximum context length of the minute", code="rate_limit_exceeded"),
    said(RPM, type="tokens", code="rate_limit_exceeded"),
    said("Quota exceeded for aiplatform.googleapis.com/x with base model: m.", status="RESOURCE_EXHAUSTED"),
    said(
        "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your current OpenAI S0 pricing tier."
    ),
    said("Your requests to m in East US 2 have exceeded the token rate limit for your current AIServices S0 pricing tier."),
    said("This request would exceed your organization's rate limit of 40,000 input tokens per minute", type="rate_limit_error"),
    said("Provider returned error", code=400, metadata={"raw": "m is temporarily rate-limited upstream. Please retry shortly"}),
    said("litellm.RateLimitError: BedrockException - Too many tokens, please wait before trying again."),
    said("Model is getting throttled. Try your request again."),
    said("您当前使用该API的并发数过高", code="1302"),
]


@pytest.mark.parametrize("status", [400, 403, 413, 424, 429, None])
@pytest.mark.parametrize("body", THROTTLES)
def test_a_throttle_is_one_whatever_its_status_and_words_say_of_tokens(status: int | None, body: dict[str, Any]) -> None:
    error = refused(status, body)
    assert (error.code, error.verdict, error.throttled) == ("rate_limited", "retry", True)


def test_the_wait_of_a_throttle_is_kept() -> None:
    for status in (400, 413, 429, None):
        error = refused(status, said(f"{RPM} Please try again in 2s", code="rate_limit_exceeded"))
        assert (error.code, error.retry_after_s) == ("rate_limited", 2.0)
    raw = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "7s"}]}})
    error = refused(429, said("Provider returned error", code=429, metadata={"raw": raw}))
    assert (error.code, error.retry_after_s) == ("rate_limited", 7.0)


def test_a_throttle_that_a_header_names() -> None:
    error = refused(400, {"message": "Slow."}, {"x-amzn-errortype": "ThrottlingException:http://internal/"})
    assert (error.code, error.provider_code) == ("rate_limited", "ThrottlingException")


@pytest.mark.parametrize(
    "body",
    [
        said(LARGE, type="tokens", code="rate_limit_exceeded"),
        said("Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 9,000, please reduce"),
        said("Request too large for model m, please reduce your message size and try again."),
        said("Rate limit reached on tokens per min (TPM): Limit 10,000, Used 10, Requested 12,000.", code="rate_limit_exceeded"),
        said("Provider returned error", code=429, metadata={"raw": json.dumps(said(LARGE, code="rate_limit_exceeded"))}),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 429, None])
def test_a_request_above_a_whole_limit_fails_its_row(status: int | None, body: dict[str, Any]) -> None:
    error = refused(status, body)
    assert (error.code, error.verdict, error.throttled) == ("too_large", "fail", False)


def test_numbers_of_a_limit() -> None:
    assert never_fits(LARGE) is True
    assert never_fits(RPM) is False
    assert never_fits("Limit 5 of all") is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"),
        (400, "The decoder prompt (length 9000) is longer than the maximum model length of 8192."),
        (400, "The input token count (1189775) exceeds the maximum number of tokens allowed (1048576)."),
        (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
        (400, "Input is too long for requested model."),
        (400, "Range of input length should be [1, 30720]"),
        (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000"),
        (400, "prompt token count of 130123 exceeds the limit of 128000"),
    ],
)
def test_context_length(status: int, message: str) -> None:
    assert refused(status, said(message)).code == refused(None, said(message)).code == "context_length"
    routed = said("Provider returned error", code=status, metadata={"raw": json.dumps(said(message))})
    assert refused(status, routed).code == "context_length"
    assert message in str(refused(status, routed))


def test_a_request_that_is_too_large_for_now_comes_again() -> None:
    assert refused(413, said("Payload too large")).code == "too_large"
    assert refused(413, said("Payload too large"), {"retry-after": "3"}).code == "overloaded"
    assert refused(400, said("context window is full, retry in 3 seconds")).code == "overloaded"
    assert refused(400, said("no", code="context_length_exceeded"), {"retry-after": "3"}).code == "context_length"


QUOTES = ["'customer: {}'", '"{}"', "`{}`", "“{}”", "'he didn't say {}, but'", "'{}"]
SENTENCES = [
    "your app said insufficient balance",
    "Your credit balance is too low",
    "your account has been suspended",
    "this organization has been disabled",
    "incorrect API key provided",
    "invalid token",
    "the access token has expired",
    "404 page not found",
    "Method Not Allowed",
    "rate limit exceeded",
    "too many tokens, please wait",
    "the model does not exist",
    "余额不足",
]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("quote", QUOTES)
def test_what_a_row_says_decides_nothing_for_the_run(quote: str, sentence: str) -> None:
    quoted = quote.format(sentence)
    for message in (
        f"Invalid value for 'messages[0].content': {quoted} contains unsupported characters",
        f"Could not read {quoted}",
        f"Invalid schema: the user wrote {sentence}",
        f"messages[0].content: {sentence} is not allowed",
    ):
        for status in (400, 422):
            error = refused(status, said(message, type="invalid_request_error", code="invalid_value"))
            assert (error.code, error.verdict) == ("bad_request", "fail"), message


@pytest.mark.parametrize(
    "message",
    [
        "Token is invalid in your JSON schema",
        "Unable to download image: rate limit exceeded by host",
        "Failed to fetch image from url: 401 Unauthorized, invalid api key",
        "Error while downloading file: insufficient balance",
        "thinking budget: insufficient balance of parentheses",
        "Timeout while downloading https://host/x.png",
    ],
)
def test_a_trouble_of_what_the_row_names_is_the_rows(message: str) -> None:
    for status in (400, 422):
        assert (refused(status, said(message)).code, refused(status, said(message)).verdict) == ("bad_request", "fail")


@pytest.mark.parametrize("what", ["Image https://foo/x.png", "File report.pdf", "image 'a.png'", "document at https://h/x"])
def test_a_file_that_is_not_there_is_the_rows(what: str) -> None:
    for status in (400, 404):
        assert refused(status, said(f"{what} not found", type="invalid_request_error")).code == "bad_request"
    for page in ("File not found.", "404 page not found", "Not Found", "The requested resource was not found"):
        assert refused(404, said(page)).code == "not_found"


MONEY = [
    (400, said("Your credit balance is too low to access the Anthropic API.", type="invalid_request_error")),
    (400, said('litellm.BadRequestError: AnthropicException - b\'{"error":{"message":"Your credit balance is too low"}}\'')),
    (400, said("Error code: 400 - {'error': {'message': 'Your credit balance is too low to access'}}")),
    (
        400,
        said(
            "litellm.BadRequestError: OpenAIException - Budget has been exceeded! Current cost: 14.1, Max budget: 10", code="400"
        ),
    ),
    (429, said("LiteLLM User: engineer-1, exceeded budget for model=m", type="budget_exceeded", code="429")),
    (403, said("Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys", code=403)),
    (429, "Your team 16f2 has either used all available credits or reached its monthly spending limit."),
    (403, {"code": "permission denied", "error": "Your newly created team doesn't have any credits yet."}),
    (429, said("Your prepayment credits are depleted. Please go to AI Studio", status="RESOURCE_EXHAUSTED", code=429)),
    (403, said("This API method requires billing to be enabled.", status="PERMISSION_DENIED")),
    (400, said("Provider returned error", code=400, metadata={"raw": json.dumps(said("Insufficient credits"))})),
    (400, said("余额不足或无可用资源包,请充值。", code="1113")),
    (500, said("insufficient balance (1008)")),
]


@pytest.mark.parametrize(("status", "body"), MONEY)
def test_money(status: int, body: Any) -> None:
    for error in (refused(status, body), refused(None, body)):
        assert (error.code, error.verdict, error.words) == ("billing", "stop", "")


def test_words_of_money_in_mid_sentence_may_be_the_rows() -> None:
    for message in ("Rejected: a complaint about insufficient balance", "line 3, out of credits"):
        assert refused(400, said(message)).words
        assert not refused(402, said(message)).words
        assert not refused(400, said(message, code="insufficient_quota")).words


KEYS = [
    (403, {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}),
    (403, {"message": "The security token included in the request is invalid."}),
    (403, said("Generative Language API has not been used in project 1 before or it is disabled.", details=[{"reason": "X"}])),
    (403, said("no", status="PERMISSION_DENIED", details=[{"reason": "SERVICE_DISABLED"}])),
    (403, said("Method doesn't allow unregistered callers (callers without established identity).", status="PERMISSION_DENIED")),
    (400, said("This organization has been disabled.", type="invalid_request_error")),
    (400, said("User location is not supported for the API use.", status="FAILED_PRECONDITION")),
    (403, said("Provider returned error", metadata={"raw": json.dumps(said("no", code="unsupported_country_region_territory"))})),
    (500, said("Incorrect API key provided: sk-x", type="invalid_api_key")),
    (502, said("litellm.AuthenticationError: Incorrect API key provided")),
    (503, said("Invalid API key")),
    (422, said("Invalid API key")),
]


@pytest.mark.parametrize(("status", "body"), KEYS)
def test_a_refused_key(status: int, body: dict[str, Any]) -> None:
    error = refused(status, body)
    assert (error.code, error.verdict) == ("auth", "stop")


@pytest.mark.parametrize("message", ["Unauthorized upstream", "authentication failed between gateways", "token expired in cache"])
def test_a_broken_server_that_speaks_of_no_key_is_no_key_error(message: str) -> None:
    assert refused(500, said(message)).code == "server_error"


@pytest.mark.parametrize(
    "body",
    [
        said("The model `x` has been decommissioned and is no longer supported", code="model_decommissioned"),
        said("The model 'x' does not exist", code="invalid_model"),
        said("The model 'x' does not exist"),
        said("Model Not Exist"),
        said("Invalid model: x", type="invalid_model"),
        said("Invalid model name passed in model=x. Call `/v1/models` to view available models"),
        said("x/y is not a valid model ID", code=400),
        said("Model does not exist. Please check it carefully.", code=20012),
        {"__type": "AccessDeniedException", "message": "You don't have access to the model with the specified model ID."},
    ],
)
def test_a_model_that_is_not_there(body: dict[str, Any]) -> None:
    for status in (400, 403, 404):
        error = refused(status, body)
        assert (error.code, error.verdict) == ("not_found", "stop")


def test_a_router_passes_the_providers_words_on() -> None:
    raw = json.dumps(
        {"error": {"message": "Unsupported parameter", "type": "invalid_request_error", "param": "seed", "code": None}}
    )
    error = refused(400, said("Provider returned error", code=400, metadata={"raw": raw, "provider_name": "OpenAI"}))
    assert (str(error), error.param) == ("400 invalid_request_error: Unsupported parameter", "seed")
    assert str(refused(400, said("Provider returned error", code=400, metadata={"raw": {"message": "no"}}))) == "400: no"
    assert str(refused(400, said("Provider returned error", code=400, metadata={"raw": ""}))) == "400: Provider returned error"


def test_quotations() -> None:
    assert spoken("'all of it'") == "all of it"
    assert spoken("isn't the users' \"word\" here") == "isn't the users' '' here"
    assert spoken("cut 'in the middle of") == "cut ''"
    assert spoken("{'message': 'kept'}") == "{'': 'kept'}"
