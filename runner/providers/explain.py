"""Says what is wrong with a key or an address, with the exact address to use, where an error shows it. Pure.

    auth -----------------> no key was sent | the key in VARIABLE looks wrong | VARIABLE held the key
    TLS to a plain port --> use http://...      (stops)
    plain to a TLS port --> use https://...     (stops, code address)
    no such path ---------> base_url lacks /v1: use ...   (stops, code not_found, also where the server says it with a 200)
    redirect -------------> use the address it points to

Addresses are only judged before the endpoint has answered once: after that they are right.
"""

import re
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from runner.errors import AttemptError, ProviderError

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

_Words: TypeAlias = str | None

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
    fault: what the key looks like, if it looks wrong. other: another variable that may hold the key.
    """

    provider: str
    base_url: str
    variable: str
    missing: str | None = None
    fault: str | None = None
    other: str | None = None


def explain(error: AttemptError, to: Destination, model: str, *, answered: bool) -> bool:
    """Add to the message of an error what it shows about key or address, and make it stop the run where that is certain.

    Return True if the server may expect https where the address says http.
    """
    if error.code == "auth":
        error.reworded(_about_key(str(error), to))
    elif not answered:
        words = _about_scheme(error, to) or _about_path(error, to, model)
        if words is not None:
            error.reworded(f"{str(error).rstrip('.')}; {words}")
            return words.startswith(_EXPECTS_HTTPS)
    return False


def _about_key(message: str, to: Destination) -> str:
    if to.missing is not None:
        other = f", but {to.other} is: --api-key-env {to.other} sends it" if to.other is not None else ""
        return f"no key was sent: {to.variable} {to.missing}{other} ({message})"
    if to.fault is not None:
        return f"the key in {to.variable} {to.fault} ({message})"
    return f"{message.rstrip('.')}; the key was read from {to.variable}"


def _about_scheme(error: AttemptError, to: Destination) -> _Words:
    """Return words about http in place of https, or the reverse."""
    parts, message = urlsplit(to.base_url), str(error)
    swapped = _with_scheme(parts, "http" if parts.scheme == "https" else "https")
    if parts.scheme == "https":
        if error.code == "tls" and _PLAIN_SERVER.search(message):
            error.becomes(code="tls", verdict="stop")
            return f"the server does not speak https there: use {swapped}"
        broken = error.code in ("tls", "closed", "timeout_connect") and "certificate" not in message
        unsure = broken or (error.code == "connect" and "reset" in message.lower())
        return f"if the server speaks http, use {swapped}" if unsure and parts.port not in (None, 443) else None
    if _TLS_SERVER.search(message) and error.code in ("bad_request", "bad_http"):
        error.becomes(code="address", verdict="stop")
        return f"the server speaks https there: use {swapped}"
    return f"{_EXPECTS_HTTPS}, use {swapped}" if error.code in ("closed", "bad_http") else None


def _about_path(error: AttemptError, to: Destination, model: str) -> _Words:
    """Return words about the path of base_url, for an error that shows that there is no such path."""
    message = str(error)
    if error.code == "redirect":
        target = _REDIRECT.search(message)
        address = target[1].removesuffix(ENDINGS.get(to.provider, "/")).rstrip("/") if target else to.base_url
        return f"use {address}" if address != to.base_url else None
    said = message.partition(": ")[2]
    if error.code == "not_found":
        about_model = rf"\bmodels?\b|(?<![\w-]){re.escape(model)}(?![\w-])"
        missing = re.search(about_model, said, re.IGNORECASE) is None
    else:
        wrong_method = isinstance(error, ProviderError) and error.status == 405
        missing = error.code in ("bad_request", "server_error") and (wrong_method or _NO_ROUTE.match(said) is not None)
        if missing:
            error.becomes(code="not_found", verdict="stop")
    return _better(to) if missing or error.code == "not_an_api" else None


def _better(to: Destination) -> _Words:
    """Return words with the address to use, as far as it can be told from the address in use."""
    parts = urlsplit(to.base_url)
    known = BASE_URLS.get(parts.hostname or "")
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    if to.provider == "anthropic":
        used = f"{root}{path.removesuffix('/v1')}"
        return f"the server has no {used}/v1/messages: if it speaks the OpenAI dialect, use --provider openai with {used}/v1"
    if to.provider != "openai":
        return None
    if known is not None and to.base_url != known:
        return f"base_url of {parts.hostname} is {known}"
    if path.endswith("/v1/v1"):
        return f"base_url has /v1 twice: use {root}{path.removesuffix('/v1')}"
    if path.startswith("/api/v0") or _VERSION.search(path) is None:
        return f"base_url lacks /v1: use {root}{path.removesuffix('/api/v0').removesuffix('/api')}/v1"
    return f"nothing is at {to.base_url}{ENDINGS['openai']}"


def _with_scheme(parts: SplitResult, scheme: str) -> str:
    return f"{scheme}://{parts.netloc}{parts.path}"
