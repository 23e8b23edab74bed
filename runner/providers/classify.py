"""What a provider's refusal means: from status, names and headers to our error code and verdict.

Pure. Its one rule: money and keys stop the run, whatever a header says; lists of names are data, at the top.
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
        # names that hold none of MONEY_WORDS: an account in arrears
        "arrearage",
        "account_overdue_error",
    }
)
"""Types and codes that say: no money, no answer, and waiting will not help. In snake case."""

MONEY_WORDS: frozenset[str] = frozenset({"quota", "credit", "credits", "balance", "spend", "spending", "billing"})
"""A type or code with one of these words in it is about money, unless it also has one of RATE_WORDS."""

RATE_WORDS: frozenset[str] = frozenset({"rate", "throttling", "throttled", "rpm", "tpm"})
"""Words of a plain rate limit, as in ``Throttling.RateQuota``."""

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
"""Types and codes of a 403 that no other prompt would escape."""

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
"""The status that an error inside a 200 stream stands for, by its type or code."""

_MONEY_PHRASES = re.compile(
    # whole sentences of the providers only: a word such as "quota" may be an echo of the prompt, or a limit per minute
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
    """What an error body says, as it says it."""

    type: str | None = None
    code: str | None = None
    message: str = ""
    # further names, out of the error's details
    details: tuple[str, ...] = ()


class Names(Struct, frozen=True, kw_only=True):
    """What is peculiar to an endpoint: its key, never to be quoted, and its words for money and for rate limits (snake case)."""

    key: str | None = None
    money_codes: frozenset[str] = MONEY_CODES
    # names of plain rate limits, although they speak of money
    rate_codes: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return "Names()"


class Ruling(Struct, frozen=True):
    """What a refusal means. throttled: a rate limit, which does not use up the item's attempts."""

    code: Code
    verdict: Verdict
    throttled: bool = False


def status_of(type_: str | None, code: str | None) -> int | None:
    """Give the status an error inside a stream stands for; None when neither name is known."""
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
    """Judge one refusal. ``status`` None: an error inside a stream that names none."""
    said = tuple(snake(name) for name in (refusal.type, refusal.code, *refusal.details) if name)
    about_money = not names.rate_codes.intersection(said) and (
        any(_is_money(name, names.money_codes) for name in said) or _MONEY_PHRASES.search(refusal.message) is not None
    )
    ruling = _stop(status, said, refusal.message, about_money=about_money) or _go_on(status, said, refusal.message)
    asked = headers.get("x-should-retry", "").strip().lower()
    if ruling.verdict == "retry" and asked == "false":
        return Ruling(ruling.code, "fail", throttled=ruling.throttled)
    if ruling.verdict == "fail" and asked == "true":
        return Ruling(ruling.code, "retry")
    return ruling


def _stop(status: int | None, names: tuple[str, ...], message: str, *, about_money: bool) -> Ruling | None:
    if status == 401:
        return Ruling("auth", "stop")
    if status == 402 or (about_money and status in (None, 400, 403, 429)):
        return Ruling("billing", "stop")
    if status == 403 and (AUTH_CODES.intersection(names) or _KEY_PHRASES.search(message)):
        return Ruling("auth", "stop")
    if status == 404 or (status in (400, 403) and "model_not_found" in names):
        return Ruling("not_found", "stop")
    if status is not None and 300 <= status < 400:
        return Ruling("redirect", "stop")
    return None


def _go_on(status: int | None, names: tuple[str, ...], message: str) -> Ruling:
    if status == 429:
        return Ruling("rate_limited", "retry", throttled=True)
    if status == 529 or "overloaded_error" in names:
        return Ruling("overloaded", "retry")
    # an unnamed error inside a stream: the request had been accepted, so the trouble is the server's
    if status is None or status >= 500 or status in _RETRIED:
        return Ruling("server_error", "retry")
    if 200 <= status < 300:
        return Ruling("truncated", "retry")
    if "context_length_exceeded" in names or (status == 400 and _CONTEXT_PHRASES.search(message)):
        return Ruling("context_length", "fail")
    if status in (400, 403) and (any(map(_POLICY_NAMES.search, names)) or _POLICY_PHRASES.search(message)):
        return Ruling("content_policy", "fail")
    if status == 413 or "request_too_large" in names:
        return Ruling("too_large", "fail")
    return Ruling("bad_request", "fail")


def _is_money(name: str, money_codes: frozenset[str]) -> bool:
    words = name.split("_")
    return name in money_codes or (not MONEY_WORDS.isdisjoint(words) and RATE_WORDS.isdisjoint(words))


def snake(name: str) -> str:
    """Give a name in the form in which names are compared."""
    return _WORDS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
