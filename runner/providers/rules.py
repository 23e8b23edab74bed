"""The table of refusals: which status, names and words mean what. Data only; ``classify`` takes the first rule that fits.

``docs/reference/errors.md`` shows this table as it is printed from here.
"""

import re
from fnmatch import translate
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.errors import Verdict
from runner.providers import phrases

Code: TypeAlias = Literal[
    "auth",
    "billing",
    "not_found",
    "redirect",
    "rate_limited",
    "overloaded",
    "no_capacity",
    "server_error",
    "context_length",
    "content_policy",
    "too_large",
    "bad_request",
    "truncated",
]

Statuses: TypeAlias = tuple[int | range | None, ...]
"""HTTP statuses and ranges of them. None is an error inside a 200 answer whose names stand for no status. Empty: all."""

REFUSED = range(400, 500)
BROKEN = range(500, 1000)
ABOUT_THE_REQUEST: Statuses = (400, 403, 404, 409, 422, 424, 451, None)
"""Statuses with which servers refuse what one request says."""


class Rule(Struct, frozen=True, kw_only=True):
    """One line of the table. It fits if the status does, and a name or the words, unless it gives neither.

    names: patterns with ``*`` of error types and codes in snake case. words: of the message. says: examples of them.
    money: also names about money, see ``classify.MONEY_CODES``. but: statuses that do not count. numbers: also a message by
    whose numbers the request is larger than a whole limit. passing: a refusal that says when to come back is none of the request.
    """

    code: Code
    verdict: Verdict
    statuses: Statuses = ()
    but: Statuses = ()
    names: tuple[str, ...] = ()
    words: str = ""
    says: tuple[str, ...] = ()
    money: bool = False
    throttled: bool = False
    numbers: bool = False
    passing: bool = False


_KEY_NAMES = (
    "authentication_error", "authentication_failed", "invalid_authentication*", "unauthorized*", "unauthenticated",
    "invalid_api_key*", "incorrect_api_key*", "expired_api_key", "missing_api_key", "invalid_key", "api_key_*",
    "invalid_x_api_key", "*invalid_token", "*expired_token", "*token_expired", "*token_invalid", "consumer_invalid",
    "consumer_suspended", "*expired_token_exception", "unrecognized_client_exception", "*invalid_signature_exception",
    "service_disabled", "access_not_configured", "auth_failure*", "invalid_client",
)  # fmt: skip
_MODEL_NAMES = (
    "*model_not_found", "*deployment_not_found", "no_such_model", "model_not_exist*", "model_decommissioned", "model_deprecated",
    "invalid_model*", "unknown_model", "model_not_available",
)  # fmt: skip
_CONTEXT_NAMES = (
    "*context_length_exceeded", "exceed_context_size*", "*context_window_exceeded*", "*prompt_tokens_exceeded",
)  # fmt: skip

_PLAIN_CONTENT_NAMES = (
    "*content_filter*", "*content_policy*", "*contentfilter*", "*content_block*", "*content_violat*", "*content_reject*",
    "*content_moderat*", "*content_safety*", "*unsafe_content*", "*prohibited_content*", "*sensitive_content*",
    "*moderation*", "policy", "prompt_blocked", "input_blocked", "output_blocked",
)  # fmt: skip
"""Names that are about one prompt, whatever other names stand beside them."""
_CONTENT_NAMES = (
    *_PLAIN_CONTENT_NAMES, "*safety*", "*responsible_ai*", "*flagged*", "*data_inspection*", "*blocklist*", "*nsfw*",
    "*policy_violation*", "usage_policy*", "*policy_block*",
)  # fmt: skip
"""The same; but those that are not plain may be those of an account, if another name or the words say so."""

RULES: tuple[Rule, ...] = (
    Rule(code="content_policy", verdict="fail", statuses=ABOUT_THE_REQUEST, names=_PLAIN_CONTENT_NAMES),
    Rule(code="billing", verdict="stop", statuses=(402,)),
    Rule(code="billing", verdict="stop", money=True),
    Rule(
        code="bad_request",
        verdict="fail",
        statuses=(400, 404, 415, 422, None),
        words=phrases.PART_NOT_FOUND,
        says=("Unable to download image: rate limit exceeded by host", "Image https://host/x.png not found"),
        passing=True,
    ),
    Rule(
        code="billing",
        verdict="stop",
        words=phrases.MONEY,
        says=("Your credit balance is too low", "insufficient balance (1008)", "Not enough credits", "您的账户余额不足"),
    ),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(400, 403, None),
        names=("account_deactivated", "account_suspended", "access_terminated", "unsupported_country_region_territory"),
        words=phrases.ACCOUNT,
        says=("Your account has been suspended", "This organization has been disabled", "User location is not supported"),
    ),
    Rule(code="content_policy", verdict="fail", statuses=(*ABOUT_THE_REQUEST, 401), names=_CONTENT_NAMES),
    Rule(
        code="content_policy",
        verdict="fail",
        statuses=ABOUT_THE_REQUEST,
        words=phrases.CONTENT,
        says=("Output blocked by content filtering policy", "your input was flagged", "Content violates usage guidelines"),
    ),
    Rule(code="auth", verdict="stop", statuses=(401,)),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(400, 403, 422, None),
        names=_KEY_NAMES,
        words=phrases.KEY,
        says=("Incorrect API key provided", "API key expired", "No auth credentials found", "Invalid token", "invalid x-api-key"),
    ),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(BROKEN,),
        names=_KEY_NAMES,
        words=phrases.API_KEY,
        says=("Incorrect API key provided", "API key expired"),
    ),
    Rule(code="context_length", verdict="fail", but=(range(501, 1000),), names=_CONTEXT_NAMES),
    Rule(
        code="too_large",
        verdict="fail",
        statuses=(400, 413, 429, None),
        words=phrases.TOO_LARGE,
        says=("Request too large for m on tokens per min (TPM): Limit 30000, Requested 45000",),
        numbers=True,
    ),
    Rule(code="no_capacity", verdict="retry", throttled=True, statuses=(429, None), names=("resource_unavailable",)),
    Rule(code="no_capacity", verdict="retry", throttled=True, statuses=(498,)),
    Rule(code="rate_limited", verdict="retry", statuses=(429,), throttled=True),
    Rule(
        code="rate_limited",
        verdict="retry",
        throttled=True,
        statuses=(REFUSED, None),
        names=(
            "*throttl*",
            "*rate_limit*",
            "*too_many_requests*",
            "*slow_down*",
            "resource_exhausted",
            "limit_requests",
            "*concurrency_limit*",
            "request_limit_exceeded*",
        ),
        words=phrases.THROTTLED,
        says=("Too many requests", "Rate limit reached for requests", "Too many tokens, please wait before trying again"),
    ),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(403,),
        names=("permission_error",),
        words=r"\bapi[ _-]?key|\borgani[sz]ation\b|\bcredentials?\b",
        says=("Your API key does not have permission",),
    ),
    Rule(code="not_found", verdict="stop", statuses=(404,)),
    Rule(
        code="not_found",
        verdict="stop",
        statuses=(400, 403, 422, None),
        names=_MODEL_NAMES,
        words=phrases.NO_MODEL,
        says=("The model does not exist", "x is not a valid model ID", "You don't have access to the model"),
    ),
    Rule(
        code="not_found",
        verdict="stop",
        statuses=(400, 405, 501, None),
        words=phrases.NO_ROUTE,
        says=("Unexpected endpoint or method. (POST /chat/completions)", "Invalid URL (POST /v1/v1)", "Method Not Allowed"),
    ),
    Rule(code="redirect", verdict="stop", statuses=(range(300, 400),)),
    Rule(
        code="context_length",
        verdict="fail",
        statuses=(400, 422, 424, 500, None),
        words=phrases.CONTEXT,
        says=("prompt is too long: 210000 tokens > 200000 maximum", "This model's maximum context length is 8192 tokens"),
        passing=True,
    ),
    Rule(code="too_large", verdict="fail", statuses=(413,), passing=True),
    Rule(code="too_large", verdict="fail", names=("request_too_large",), passing=True),
    Rule(code="overloaded", verdict="retry", statuses=(529,)),
    Rule(
        code="overloaded",
        verdict="retry",
        statuses=(REFUSED, BROKEN, None),
        names=("*overloaded*", "capacity_exceeded", "over_capacity", "no_capacity"),
    ),
    Rule(code="server_error", verdict="retry", statuses=(BROKEN, 408, 409, 423, 424, 425, 444, 499)),
    Rule(
        code="server_error",
        verdict="retry",
        statuses=(REFUSED,),
        names=(
            "server_error",
            "internal_error",
            "internal_server_error",
            "internal",
            "service_unavailable*",
            "unavailable",
            "timeout_error",
            "gateway_timeout",
            "bad_gateway",
            "deadline_exceeded",
            "cancelled",
            "aborted",
        ),
    ),
    Rule(code="truncated", verdict="retry", statuses=(range(200, 300),)),
    # an unnamed error inside a stream: the request had been accepted, so it is the server that failed
    Rule(code="server_error", verdict="retry", statuses=(None,)),
    Rule(code="bad_request", verdict="fail", passing=True),
)
"""All rules, in order. The last one fits everything."""


def pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return one pattern for the names of a rule; None if it has none."""
    return re.compile("|".join(map(translate, names))) if names else None
