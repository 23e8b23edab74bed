"""Maps the status, error names and headers of a refusal to our error code and verdict.

Pure. One rule: billing and key errors stop the run, whatever a header says. The lists of names are data, at the top.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.errors import Verdict

Code: TypeAlias = Literal[
    "auth",
    "billing",
    "not_found",
    "redirect",
    "rate_limited",
    "overloaded",
    "server_error",
    "context_length",
    "content_policy",
    "too_large",
    "bad_request",
    "truncated",
]

MONEY_CODES: frozenset[str] = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",
        "payment_required",
        # an account in arrears; these names contain none of MONEY_WORDS
        "arrearage",
        "account_overdue_error",
    }
)
"""Types and codes that mean "out of credit": waiting does not help. In snake case."""

MONEY_WORDS: frozenset[str] = frozenset({"quota", "credit", "credits", "balance", "spend", "spending", "billing"})
"""A type or code that contains one of these words is about money, unless it also contains one of RATE_WORDS."""

RATE_WORDS: frozenset[str] = frozenset({"rate", "throttling", "throttled", "rpm", "tpm"})
"""Words in the names of plain rate limits, such as ``Throttling.RateQuota``."""

AUTH_CODES: frozenset[str] = frozenset(
    {
        "authentication_error",
        "invalid_api_key",
        "account_deactivated",
        "access_terminated",
        "permission_error",
        "unsupported_country_region_territory",
    }
)
"""Types and codes of a 403 that every other prompt would get as well."""

TYPE_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "bad_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that corresponds to the type or code of an error inside a 200 stream."""

_MONEY_PHRASES = re.compile(
    # whole sentences of the providers only: a word such as "quota" may be quoted from the prompt, or mean a limit per minute
    r"credit balance is too low|reached your specified (?:\w+ ){0,2}usage limits|billing hard limit has been reached",
    re.IGNORECASE,
)
_KEY_PHRASES = re.compile(r"\bapi[ _-]?key|\borgani[sz]ation\b|\bcredentials?\b", re.IGNORECASE)
_CONTEXT_PHRASES = re.compile(
    r"prompt is too long|input is too long|maximum context length|context (?:length|window|limit)", re.IGNORECASE
)
_POLICY_NAMES = re.compile(r"content_?(?:filter|policy)|moderation|safety|responsible_ai")
_POLICY_PHRASES = re.compile(
    r"content (?:management )?policy|content filter|safety system|usage polic|input was flagged|prompt was flagged",
    re.IGNORECASE,
)
_RETRIED = frozenset({408, 409, 425})
_WORDS = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Refusal(Struct, frozen=True, kw_only=True):
    """What an error body says, in the provider's own words."""

    type: str | None = None
    code: str | None = None
    message: str = ""
    # further error names, from the error's details
    details: tuple[str, ...] = ()


class Names(Struct, frozen=True, kw_only=True):
    """The names of one endpoint: its key and other secrets, which are never quoted, and its error names in snake case.

    money_codes: names that mean "out of credit". rate_codes: names of plain rate limits, although they mention money.
    """

    key: str | None = None
    secrets: frozenset[str] = frozenset()
    money_codes: frozenset[str] = MONEY_CODES
    rate_codes: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return "Names()"


class Ruling(Struct, frozen=True):
    """The meaning of a refusal. throttled: a rate limit, which does not count against the item's attempts."""

    code: Code
    verdict: Verdict
    throttled: bool = False


def status_of(type_: str | None, code: str | None) -> int | None:
    """Return the status that corresponds to an error inside a stream, or None if neither name is known."""
    for name in (code, type_):
        if name is None:
            continue
        if name.isascii() and name.isdecimal() and len(name) == 3 and int(name) >= 400:
            return int(name)
        status = TYPE_STATUS.get(snake(name))
        if status is not None:
            return status
    return None


def classify(status: int | None, refusal: Refusal, headers: Mapping[str, str], names: Names) -> Ruling:
    """Classify one refusal. status: None for an error inside a stream that corresponds to no status."""
    codes = tuple(snake(name) for name in (refusal.type, refusal.code, *refusal.details) if name)
    about_money = not names.rate_codes.intersection(codes) and (
        any(_is_money(code, names.money_codes) for code in codes) or _MONEY_PHRASES.search(refusal.message) is not None
    )
    ruling = _stop(status, codes, refusal.message, about_money=about_money) or _retry_or_fail(status, codes, refusal.message)
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if ruling.verdict == "retry" and should_retry == "false":
        return Ruling(ruling.code, "fail", throttled=ruling.throttled)
    if ruling.verdict == "fail" and should_retry == "true":
        return Ruling(ruling.code, "retry")
    return ruling


def _stop(status: int | None, codes: tuple[str, ...], message: str, *, about_money: bool) -> Ruling | None:
    if status == 401:
        return Ruling("auth", "stop")
    if status == 402 or (about_money and status in (None, 400, 403, 429)):
        return Ruling("billing", "stop")
    if status == 403 and (AUTH_CODES.intersection(codes) or _KEY_PHRASES.search(message)):
        return Ruling("auth", "stop")
    if status == 404 or (status in (400, 403) and "model_not_found" in codes):
        return Ruling("not_found", "stop")
    if status is not None and 300 <= status < 400:
        return Ruling("redirect", "stop")
    return None


def _retry_or_fail(status: int | None, codes: tuple[str, ...], message: str) -> Ruling:
    if status == 429:
        return Ruling("rate_limited", "retry", throttled=True)
    if status == 529 or "overloaded_error" in codes:
        return Ruling("overloaded", "retry")
    # an unnamed error inside a stream: the request had been accepted, so it is the server that failed
    if status is None or status >= 500 or status in _RETRIED:
        return Ruling("server_error", "retry")
    if 200 <= status < 300:
        return Ruling("truncated", "retry")
    if "context_length_exceeded" in codes or (status == 400 and _CONTEXT_PHRASES.search(message)):
        return Ruling("context_length", "fail")
    if status in (400, 403) and (any(map(_POLICY_NAMES.search, codes)) or _POLICY_PHRASES.search(message)):
        return Ruling("content_policy", "fail")
    if status == 413 or "request_too_large" in codes:
        return Ruling("too_large", "fail")
    return Ruling("bad_request", "fail")


def _is_money(name: str, money_codes: frozenset[str]) -> bool:
    words = name.split("_")
    return name in money_codes or (not MONEY_WORDS.isdisjoint(words) and RATE_WORDS.isdisjoint(words))


def snake(name: str) -> str:
    """Return a name in snake case, the form in which names are compared."""
    return _WORDS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
