"""Says what is wrong with a key or an address, with the exact address to use, where an error shows it. Pure.

    auth -----------------> no key was sent | the key in VARIABLE looks wrong | VARIABLE held the key
    403 without a key ----> no key was sent (stops, code auth, while the run has no answer)
    TLS to a plain port --> use http://...      (stops)
    plain to a TLS port --> use https://...     (stops, code address)
    no such path ---------> base_url lacks /v1: use ...   (stops, code not_found, also where the server says it with a 200)
    redirect -------------> use the address it points to
    a row's own model ----> the row names it itself

Addresses are only judged before the endpoint has answered once: after that they are right.
"""

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from runner.errors import AttemptError, ProviderError
from runner.text import clean

ENDINGS = {"openai": "/chat/completions", "anthropic": "/v1/messages"}
"""What each dialect adds to base_url."""

BASE_URLS = {
    "openrouter.ai": "https://openrouter.ai/api/v1",
    "api.groq.com": "https://api.groq.com/openai/v1",
    "generativelanguage.googleapis.com": "https://generativelanguage.googleapis.com/v1beta/openai",
    "api.deepinfra.com": "https://api.deepinfra.com/v1/openai",
    "api.fireworks.ai": "https://api.fireworks.ai/inference/v1",
    "api.cohere.ai": "https://api.cohere.ai/compatibility/v1",
    "dashscope.aliyuncs.com": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "dashscope-intl.aliyuncs.com": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
}
"""Endpoints of the OpenAI dialect whose path is not /v1."""

FORBIDDEN = 403
"""The status with which a gateway refuses a request without a key, often with no further word."""

_PLAIN_SERVER = re.compile(
    r"wrong.version.number|record.layer.failure|[_ ]http.request|packet.length.too.long|unknown.protocol", re.IGNORECASE
)
_TLS_SERVER = re.compile(
    # of nginx, Go, Apache and others; the last is the start of a TLS alert, which is no HTTP
    r"plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server|speaking plain HTTP to an SSL"
    r"|\\x15\\x03",
    re.IGNORECASE,
)
_EXPECTS_HTTPS = "if the server expects https"
_NO_ROUTE = re.compile(
    r"\W*(?:404 )?(?:page not found|unexpected endpoint|invalid url|unrecognized request url|cannot (?:post|get) /|no route"
    r"|route \S*\s?not found|unknown (?:url|path|endpoint|route)|(?:endpoint|path|url|file|resource) not found|method not allowed"
    r"|not found\W*$|no static resource)",
    re.IGNORECASE,
)
_REDIRECT = re.compile(r"redirects to (https?://\S+?), and")
_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")


class Destination(Struct, frozen=True, kw_only=True):
    """Where the requests of a session go, and how they are signed.

    variable: the environment variable of the key. missing: why no key is sent ("is not set", "is empty"); None if one is.
    by: what carries the key, in words, where it is not that variable. fault: what the key looks like, if it looks wrong. other:
    another variable that may hold the key.
    named: the user has named the server, so that a command may spell its address. model: the run's; None if unknown.
    answered: the run has answers of earlier sessions.
    """

    provider: str
    base_url: str
    variable: str
    missing: str | None = None
    by: str | None = None
    fault: str | None = None
    other: str | None = None
    named: bool = False
    model: str | None = None
    answered: bool = False


class _Found(NamedTuple):
    """What an error shows. address: the base_url to use, if it is certain."""

    words: str
    address: str | None = None


def explain(error: AttemptError, to: Destination, model: str, *, answered: bool) -> bool:
    """Add to the message of an error what it shows about key or address, and make it stop the run where that is certain.

    Return True if the server may expect https where the address says http.
    """
    _judge_want_of_key(error, to, answered=answered)
    if error.code == "auth":
        error.reworded(_about_key(str(error), to))
        return False
    found = None if answered else _about_scheme(error, to) or _about_path(error, to, model)
    if found is None and error.code == "not_found" and to.model not in (None, model):
        found = _Found(f"the row names the model {clean(model, 60)} itself")
    if found is None:
        return False
    error.reworded(f"{str(error).rstrip('.')}; {found.words}")
    if found.address is not None and _may_be_spelt(found.address, to):
        error.address = found.address
    return found.words.startswith(_EXPECTS_HTTPS)


def _judge_want_of_key(error: AttemptError, to: Destination, *, answered: bool) -> None:
    """Take a 403 that says nothing for want of a key, if none was sent and nothing is answered: so every row would fail."""
    if to.missing is None or answered or error.code != "bad_request" or getattr(error, "status", None) != FORBIDDEN:
        return
    if to.answered:
        # the server has answered without a key, or a key is missing that was there: the rows are held until that is clear
        error.reworded(_about_key(str(error), to))
    else:
        error.becomes(code="auth", verdict="stop")


def _may_be_spelt(address: str, to: Destination) -> bool:
    """Return True if a command may name an address: it is at the server that the user has named, and takes no encryption away.

    At a port of https, an answer that is not encrypted may be somebody else's.
    """
    then, now = urlsplit(to.base_url), urlsplit(address)
    encrypted = now.scheme == "https" or then.scheme == "http" or then.port not in (None, 443)
    return to.named and then.netloc == now.netloc and encrypted


def _about_key(message: str, to: Destination) -> str:
    if to.missing is not None:
        other = f", but {to.other} is: --api-key-env {to.other} sends it" if to.other is not None else ""
        return f"no key was sent: {to.variable} {to.missing}{other} ({message})"
    if to.fault is not None:
        return f"the key in {to.variable} {to.fault} ({message})"
    return f"{message.rstrip('.')}; the key was {'read from ' + to.variable if to.by is None else 'in ' + to.by}"


def _about_scheme(error: AttemptError, to: Destination) -> _Found | None:
    """Return words about http in place of https, or the reverse."""
    parts, message = urlsplit(to.base_url), str(error)
    swapped = _with_scheme(parts, "http" if parts.scheme == "https" else "https")
    full = f"{swapped}?{parts.query}" if parts.query else swapped
    if parts.scheme == "https":
        if error.code == "tls" and _PLAIN_SERVER.search(message):
            error.becomes(code="tls", verdict="stop")
            return _Found(f"the server does not speak https there: use {swapped}", full)
        broken = error.code in ("tls", "closed", "timeout_connect") and "certificate" not in message
        unsure = broken or (error.code == "connect" and "reset" in message.lower())
        return _Found(f"if the server speaks http, use {swapped}") if unsure and parts.port not in (None, 443) else None
    if _TLS_SERVER.search(message) and error.code in ("bad_request", "bad_http"):
        error.becomes(code="address", verdict="stop")
        return _Found(f"the server speaks https there: use {swapped}", full)
    return _Found(f"{_EXPECTS_HTTPS}, use {swapped}") if error.code in ("closed", "bad_http") else None


def _about_path(error: AttemptError, to: Destination, model: str) -> _Found | None:
    """Return words about the path of base_url, for an error that shows that there is no such path."""
    message = str(error)
    if error.code == "redirect":
        target = _REDIRECT.search(message)
        address = target[1].removesuffix(ENDINGS.get(to.provider, "/")).rstrip("/") if target else to.base_url
        return _Found(f"use {address}", address) if address != to.base_url else None
    said = message.partition(": ")[2]
    if error.code == "not_found":
        about_model = rf"\bmodels?\b|(?<![\w-]){re.escape(model)}(?![\w-])"
        missing = re.search(about_model, said, re.IGNORECASE) is None
    else:
        wrong_method = isinstance(error, ProviderError) and error.status == 405
        missing = error.code in ("bad_request", "server_error") and (wrong_method or _NO_ROUTE.match(said) is not None)
        if missing:
            error.becomes(code="not_found", verdict="stop")
    error.misplaced = missing or error.code == "not_an_api"
    return _better(to) if error.misplaced else None


def _better(to: Destination) -> _Found | None:
    """Return words with the address to use, as far as it can be told from the address in use."""
    parts = urlsplit(to.base_url)
    known = BASE_URLS.get(parts.hostname or "")
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    if to.provider == "anthropic":
        used = f"{root}{path.removesuffix('/v1')}"
        return _Found(
            f"the server has no {used}/v1/messages: if it speaks the OpenAI dialect, use --provider openai with {used}/v1"
        )
    if to.provider != "openai":
        return None
    if known is not None and to.base_url != known:
        return _Found(f"base_url of {parts.hostname} is {known}", known)
    query = f"?{parts.query}" if parts.query else ""
    if path.endswith("/v1/v1"):
        used = f"{root}{path.removesuffix('/v1')}"
        return _Found(f"base_url has /v1 twice: use {used}", f"{used}{query}")
    if path.startswith("/api/v0") or _VERSION.search(path) is None:
        used = f"{root}{path.removesuffix('/api/v0').removesuffix('/api')}/v1"
        return _Found(f"base_url lacks /v1: use {used}", f"{used}{query}")
    return _Found(f"nothing is at {to.base_url}{ENDINGS['openai']}")


def _with_scheme(parts: SplitResult, scheme: str) -> str:
    return f"{scheme}://{parts.netloc}{parts.path}"
