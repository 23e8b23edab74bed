"""Maps the status, error names and headers of a refusal to our error code and verdict, by the table in ``rules``.

Pure. One rule: billing and key errors stop the run, whatever a header says.
"""

import re
from collections.abc import Mapping
from functools import cache

from msgspec import Struct

from runner.errors import Verdict
from runner.providers.phrases import OF_A_PART, certain, never_fits, spoken
from runner.providers.rules import BROKEN, RULES, Code, Rule, Statuses, pattern

MONEY_CODES: frozenset[str] = frozenset(
    {
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",
        "payment_required",
        "budget_exceeded",
        # an account in arrears; these names contain none of MONEY_WORDS
        "arrearage",
        "account_overdue_error",
    }
)
"""Types and codes that mean "out of credit" with any status: waiting does not help. In snake case."""

MONEY_WORDS: frozenset[str] = frozenset({"quota", "credit", "credits", "balance", "spend", "spending", "billing"})
"""A type or code that contains one of these words is about money, unless it also contains one of RATE_WORDS.

Not with a status of 500 or above: there it may speak of a load balancer, for example."""

RATE_WORDS: frozenset[str] = frozenset({"rate", "throttling", "throttled", "rpm", "tpm"})
"""Words in the names of plain rate limits, such as ``Throttling.RateQuota``."""

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

_OF_ROWS = (400, 403, 422, None)
"""Statuses of refusals that may quote the row."""
_WORDS = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@cache
def _compiled() -> tuple[tuple[Rule, re.Pattern[str] | None, re.Pattern[str] | None], ...]:
    """Return the rules, with the patterns of their names and words. They are compiled for the first refusal: it takes 10 ms."""
    return tuple((rule, pattern(rule.names), re.compile(rule.words, re.IGNORECASE) if rule.words else None) for rule in RULES)


class Refusal(Struct, frozen=True, kw_only=True):
    """What an error body says, in the provider's own words."""

    type: str | None = None
    code: str | None = None
    message: str = ""
    # the parameter of the request that it is about
    param: str | None = None
    # further error names, from the error's details
    details: tuple[str, ...] = ()
    # the wait in seconds that the body asks for
    wait_s: float | None = None


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
    """The meaning of a refusal. throttled: a rate limit or a lack of capacity, which do not count against the item's attempts.

    words: the words that alone say so, if they stand in the middle of a message: they may be the row's.
    """

    code: Code
    verdict: Verdict
    throttled: bool = False
    words: str = ""


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


def classify(status: int | None, refusal: Refusal, headers: Mapping[str, str], names: Names, *, asked: bool = False) -> Ruling:
    """Classify one refusal.

    status: None for an error inside a stream that corresponds to no status. asked: the server asks to come back after a wait.
    """
    codes = tuple(snake(name) for name in (refusal.type, refusal.code, *refusal.details) if name)
    rule, words = _first(status, codes, refusal.message, names)
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if rule.verdict == "retry" and should_retry == "false":
        return Ruling(rule.code, "fail", throttled=rule.throttled)
    if rule.verdict == "fail" and should_retry == "true":
        return Ruling(rule.code, "retry")
    if rule.passing and asked and should_retry != "false":
        # a refusal that says when to come back is none of the request
        return Ruling("overloaded", "retry")
    return Ruling(rule.code, rule.verdict, throttled=rule.throttled, words=words if status in _OF_ROWS else "")


def _first(status: int | None, codes: tuple[str, ...], message: str, names: Names) -> tuple[Rule, str]:
    """Return the rule that fits, and its words if they alone decided to stop the run, from the middle of the message."""
    spared = bool(names.rate_codes.intersection(codes))
    own = spoken(message)
    for rule, named, words in _compiled():
        if not _within(status, rule.statuses, empty=True) or _within(status, rule.but, empty=False):
            continue
        if named is None and words is None and not rule.money:
            return rule, ""
        if spared and rule.code == "billing" and status != 402:
            continue
        if rule.money and any(_is_money(code, names.money_codes, loose=status not in BROKEN) for code in codes):
            return rule, ""
        if named is not None and any(map(named.match, codes)):
            return rule, ""
        if words is not None and (found := _found(rule, words, message, own)) is not None:
            return rule, found
    raise AssertionError("the last rule fits everything")


def _found(rule: Rule, words: re.Pattern[str], message: str, own: str) -> str | None:
    """Return the words of a rule in a message if they may be the row's, else "". None: they are not there, or are the row's.

    own: the message without its quotations. Where only the row fails, it does not matter whose words they are.
    """
    if rule.numbers and (fits := never_fits(message)) is not None:
        return "" if fits else None
    found = words.search(message if rule.verdict == "fail" else own)
    if found is None or rule.verdict == "fail":
        return None if found is None else ""
    if OF_A_PART.search(own, 0, found.start()):
        return None
    return "" if rule.verdict == "retry" or certain(own[: found.start()]) else found[0]


def _within(status: int | None, statuses: Statuses, *, empty: bool) -> bool:
    if not statuses:
        return empty
    return any(status in part if isinstance(part, range) else status == part for part in statuses)


def _is_money(name: str, money_codes: frozenset[str], *, loose: bool) -> bool:
    words = name.split("_")
    return name in money_codes or (loose and not MONEY_WORDS.isdisjoint(words) and RATE_WORDS.isdisjoint(words))


def snake(name: str) -> str:
    """Return a name in snake case, the form in which names are compared."""
    return _WORDS.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
