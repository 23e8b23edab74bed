"""The table of refusals: which status, names and words mean what. Data only; ``classify`` takes the first rule that fits.

``docs/reference/errors.md`` shows this table as it is printed from here.
"""

import re
from fnmatch import translate
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

Statuses: TypeAlias = tuple[int | range | None, ...]
"""HTTP statuses and ranges of them. None is an error inside a 200 answer whose names stand for no status. Empty: all."""

REFUSED = range(400, 500)
BROKEN = range(500, 1000)
ABOUT_THE_REQUEST: Statuses = (400, 403, 404, 409, 422, 424, 451, None)
"""Statuses with which servers refuse what one request says."""


class Rule(Struct, frozen=True, kw_only=True):
    """One line of the table. It fits if the status does, and a name or the words, unless it gives neither.

    names: patterns with ``*`` of error types and codes in snake case. words: of the message. says: examples of them.
    money: also names about money, see ``classify.MONEY_CODES``. but: statuses that do not count.
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


# whole sentences of the providers only: a word such as "quota" may be quoted from the prompt, or mean a limit per minute
_MONEY = (
    r"credit balance is too low|reached your specified (?:\w+ ){0,2}usage limits|billing hard limit has been reached"
    r"|insufficient (?:account )?(?:balance|credits?|funds)\b|(?:account )?balance (?:is )?(?:insufficient|not enough|too low)"
    r"|(?:not enough|out of|no more|requires more) (?:credits|funds)\b|monthly included credits|account is (?:overdue|in arrears)"
    r"|余额不足|欠费"
)
_ACCOUNT = (
    r"your (?:account|access|organi[sz]ation|project) (?:is|has been|was) (?:\w+ )?"
    r"(?:suspended|terminated|deactivated|disabled|banned)"
)
_CONTENT = (
    r"content (?:management )?policy|content filter|content moderation|inappropriate content|harmful content|safety system"
    r"|safety[ _]check|(?:prohibited|sensitive) content|敏感|\bmoderation\b|guardrail"
    # not any policy: a firewall speaks of its own, and refuses every row by it
    r"|(?:usage|acceptable use|safety|community) (?:polic|guideline|standard)"
    r"|\b(?:content|input|prompt|message|request|response|output|image|text)s? (?:\w+ ){0,4}(?:flagged|violat\w+)\b"
)
# a sentence about the key may be quoted from the prompt as well: not behind a quotation mark
_KEY = (
    r"(?<!['\"`])(?:"
    r"(?:incorrect|invalid|wrong|expired|missing|malformed|unknown) (?:x-)?api[ _-]?key"
    r"|\bapi[ _-]?key (?:provided )?(?:is |was |has |has been |is missing or )?(?:not valid|invalid|incorrect|expired|missing|"
    r"not found|revoked|disabled|deleted|reported as leaked|blocked)"
    r"|\bno (?:api[ _-]?key|auth(?:entication|orization)?(?: header| credentials)?|credentials) (?:found|provided|given|supplied)"
    r"|\bmissing (?:authentication|authorization|auth|bearer token)|did ?n[o']t provide an api key"
    r"|could not (?:validate|resolve) (?:authentication|credentials)|\bnot authenticated|authentication (?:failed|fails|required)"
    r"|invalid (?:authentication|authorization|credentials)|carry the api secret key"
    r"|^\W*(?:your |the )?(?:invalid|expired) (?:access |auth |authentication |bearer |security |api )?token\W*$"
    r"|(?:^\W*(?:your |the )?|\b(?:access|auth|authentication|bearer|security|api) )token (?:is |has |has been )?"
    r"(?:invalid|not valid|expired|revoked)"
    r"|^\W*unauthori[sz]ed\W*$|无效的令牌|令牌(?:已过期|无效)|无效的 ?api ?key)"
)
_NO_ROUTE = (
    r"unexpected endpoint or method|^\W*(?:404:? )?(?:(?:page|route|endpoint|path|url|resource) )?not found\W*$"
    r"|no route (?:matched|found)|cannot post /|invalid url \(|unknown (?:endpoint|url|path|route|request url)"
    r"|\bmethod not allowed\b|no such (?:route|endpoint)"
)
_CONTEXT = (
    r"prompt is too long|input is too long|maximum context length|context (?:length|window|limit|size)"
    r"|too many (?:input )?tokens\b|reduce the length of the (?:messages|prompt|input)"
)
_KEY_NAMES = (
    "authentication_error", "authentication_failed", "invalid_authentication*", "unauthorized*", "unauthenticated",
    "invalid_api_key*", "incorrect_api_key*", "expired_api_key", "missing_api_key", "invalid_key", "api_key_*",
    "invalid_x_api_key", "*invalid_token", "*expired_token", "*token_expired", "*token_invalid", "consumer_invalid",
    "consumer_suspended", "auth_failure*", "invalid_client",
)  # fmt: skip
_CONTENT_NAMES = (
    "*content_filter*", "*content_policy*", "*contentfilter*", "*content_block*", "*content_violat*", "*content_reject*",
    "*content_moderat*", "*content_safety*", "*unsafe_content*", "*prohibited_content*", "*sensitive_content*",
    "*moderation*", "*safety*", "*responsible_ai*", "*flagged*", "*data_inspection*", "*blocklist*", "*nsfw*",
    "policy", "*policy_violation*", "usage_policy*", "*policy_block*", "prompt_blocked", "input_blocked", "output_blocked",
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    Rule(code="billing", verdict="stop", statuses=(402,)),
    Rule(
        code="billing",
        verdict="stop",
        money=True,
        words=_MONEY,
        says=("Your credit balance is too low", "insufficient balance (1008)", "Not enough credits", "您的账户余额不足"),
    ),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(400, 403, None),
        names=("account_deactivated", "account_suspended", "access_terminated", "unsupported_country_region_territory"),
        words=_ACCOUNT,
        says=("Your account has been suspended",),
    ),
    Rule(code="content_policy", verdict="fail", statuses=(*ABOUT_THE_REQUEST, 401), names=_CONTENT_NAMES),
    Rule(
        code="content_policy",
        verdict="fail",
        statuses=ABOUT_THE_REQUEST,
        words=_CONTENT,
        says=("Output blocked by content filtering policy", "your input was flagged", "Content violates usage guidelines"),
    ),
    Rule(code="auth", verdict="stop", statuses=(401,)),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(403,),
        names=("permission_error",),
        words=r"\bapi[ _-]?key|\borgani[sz]ation\b|\bcredentials?\b",
        says=("Your API key does not have permission",),
    ),
    Rule(
        code="auth",
        verdict="stop",
        statuses=(400, 403, None),
        names=_KEY_NAMES,
        words=_KEY,
        says=("Incorrect API key provided", "API key expired", "No auth credentials found", "Invalid token", "invalid x-api-key"),
    ),
    Rule(code="rate_limited", verdict="retry", statuses=(429,), throttled=True),
    Rule(code="not_found", verdict="stop", statuses=(404,)),
    Rule(
        code="not_found",
        verdict="stop",
        statuses=(400, 403, None),
        names=("model_not_found", "deployment_not_found", "no_such_model"),
    ),
    Rule(
        code="not_found",
        verdict="stop",
        statuses=(400, 405, 501, None),
        words=_NO_ROUTE,
        says=("Unexpected endpoint or method. (POST /chat/completions)", "Invalid URL (POST /v1/v1)", "Method Not Allowed"),
    ),
    Rule(code="redirect", verdict="stop", statuses=(range(300, 400),)),
    Rule(code="context_length", verdict="fail", but=(range(501, 1000),), names=("context_length_exceeded",)),
    Rule(
        code="context_length",
        verdict="fail",
        statuses=(400, 422, 424, 500, None),
        words=_CONTEXT,
        says=("prompt is too long: 210000 tokens > 200000 maximum", "This model's maximum context length is 8192 tokens"),
    ),
    Rule(code="too_large", verdict="fail", statuses=(413,)),
    Rule(code="too_large", verdict="fail", names=("request_too_large",)),
    Rule(
        code="rate_limited",
        verdict="retry",
        throttled=True,
        statuses=(REFUSED, None),
        names=(
            "*throttl*",
            "rate_limit*",
            "*too_many_requests*",
            "*slow_down*",
            "resource_exhausted",
            "limit_requests",
            "*concurrency_limit*",
            "request_limit_exceeded*",
        ),
        words=r"^\W*(?:too many requests|rate exceeded|request was throttled)|\brate limit (?:has been )?(?:reached|exceeded)",
        says=("Too many requests", "Rate limit reached for requests"),
    ),
    Rule(code="overloaded", verdict="retry", statuses=(529, 498)),
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
    Rule(code="bad_request", verdict="fail"),
)
"""All rules, in order. The last one fits everything."""


def pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return one pattern for the names of a rule; None if it has none."""
    return re.compile("|".join(map(translate, names))) if names else None
