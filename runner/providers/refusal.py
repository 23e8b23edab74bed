"""Builds the ProviderError for a refusal from its status, headers and body, whatever the body is.

One rule: a provider's message is quoted on one line, shortened, with keys redacted.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

from msgspec import structs

from runner.errors import ProviderError, StreamError
from runner.model import Json
from runner.providers.classify import Names, Refusal, classify, status_of
from runner.providers.lenient_json import decode_json, json_text, table, word
from runner.providers.retry_after import asks_to_return, body_wait, retry_after, words_wait
from runner.providers.shapes import usual
from runner.text import Redactor

_LONGEST = 300
# bytes; a larger body is not parsed as JSON, and its beginning is quoted as text
_JSON_CAP = 1 << 20
_PAGE = 4096
_DEPTH = 4
# control characters, and the marks that reorder, hide or break a line
_UNSEEN = re.compile("[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]*)", re.IGNORECASE)
_DETAIL_KEYS = ("code", "error_code", "error_type", "reason", "type")
_BASE_RESP = {
    "1001": "timeout_error", "1002": "rate_limit_exceeded", "1004": "invalid_api_key", "1008": "insufficient_balance",
    "1026": "content_filter", "1027": "content_filter", "1039": "rate_limit_exceeded", "1041": "rate_limit_exceeded",
    "2013": "invalid_request_error", "2049": "invalid_api_key",
}  # fmt: skip
"""The numbers in ``base_resp.status_code`` (MiniMax), by which its answers with status 200 refuse."""


_ERROR_CODES = {
    "4": "rate_limit_exceeded", "6": "permission_error", "13": "invalid_api_key", "14": "invalid_api_key",
    "15": "invalid_api_key", "17": "rate_limit_exceeded", "18": "rate_limit_exceeded", "19": "rate_limit_exceeded",
    "100": "invalid_api_key", "110": "invalid_api_key", "111": "invalid_api_key", "336003": "invalid_request_error",
    "336100": "overloaded_error", "336501": "rate_limit_exceeded", "336502": "rate_limit_exceeded",
}  # fmt: skip
"""The numbers in ``error_code`` (Baidu)."""


def from_status(status: int, headers: Mapping[str, str], body: bytes, *, now: float, names: Names) -> ProviderError:
    """Return the error for an answer other than 200. now: seconds since the epoch."""
    refusal = read(body)
    if 300 <= status < 400:
        target = re.sub(r"//[^/@]*@", "//", headers.get("location", "")).partition("?")[0]
        refusal = Refusal(message=f"the endpoint redirects to {target or 'nowhere'}, and redirects are not followed")
    if kind := headers.get("x-amzn-errortype", "").partition(":")[0].strip():
        # Bedrock names its errors there, and not always in the body
        refusal = structs.replace(refusal, type=refusal.type or kind, details=(*refusal.details, kind))
    return _build(status, refusal, headers, now, names, "")


def from_stream(error: Json | bytes, *, names: Names) -> ProviderError:
    """Return the error for an error inside an answer with status 200. error: a decoded value, or the bytes of an event."""
    refusal = read(error) if isinstance(error, bytes) else of(error)
    return _build(status_of(refusal.type, refusal.code), refusal, {}, 0.0, names, " inside the answer")


def read(body: bytes) -> Refusal:
    """Parse an error body: JSON of any shape, plain text, or the title of an HTML page."""
    if len(body) <= _JSON_CAP:
        try:
            value, _ = decode_json(body)
            return of(value)
        except StreamError:
            pass
    text = body[:_PAGE].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("<"):
        return Refusal(message=text)
    title = _TITLE.search(text)
    return Refusal(message=f"an HTML page, {title[1].strip()!r}" if title else "an HTML page")


def of(value: Json) -> Refusal:
    """Extract the refusal from decoded JSON, with the wait that its fields or its message ask for."""
    refusal = _of(value)
    wait_s = body_wait(value)
    if wait_s is None:
        wait_s = refusal.wait_s
    if wait_s is None:
        wait_s = words_wait(refusal.message)
    return refusal if wait_s is None else structs.replace(refusal, wait_s=wait_s)


def _of(value: Json, depth: int = 0) -> Refusal:
    """Extract the names and the message; objects nested more than ``_DEPTH`` deep are ignored."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if not isinstance(value, dict):
        return Refusal(message=value[:_PAGE] if isinstance(value, str) else "")
    numbers = _ERROR_CODES if "error_code" in value else {}
    value = usual(value)
    inner = value.get("error") or value.get("detail") or value.get("errors")
    if isinstance(inner, dict | list) and depth < _DEPTH:
        nested = _of(inner, depth + 1)
        if nested != Refusal():
            return nested
    base = table(value.get("base_resp"))
    if base.get("status_code"):
        number = str(base["status_code"])
        words = json_text(base.get("status_msg") or "")[:_PAGE]
        return Refusal(type=_BASE_RESP.get(number, "server_error"), code=number, message=f"{words} ({number})" if words else "")
    message = value.get("message") or value.get("msg") or (inner if isinstance(inner, str) else None)
    refusal = Refusal(
        type=_type(value, inner, message) or numbers.get(str(value.get("code"))),
        code=_code(value.get("code")),
        message=json_text(message)[:_PAGE] if message else "",
        param=_param(value),
        details=(*_details(value.get("details")), *_details(value.get("metadata"))),
    )
    return _with_upstream(refusal, table(value.get("metadata")).get("raw"), depth)


def _with_upstream(refusal: Refusal, raw: Json, depth: int) -> Refusal:
    """Return a router's refusal in the words of the provider behind it. raw: that provider's body (``metadata.raw``)."""
    if not raw or depth >= _DEPTH:
        return refusal
    if isinstance(raw, str):
        try:
            raw = decode_json(raw[:_JSON_CAP].encode("utf-8", "replace"))[0]
        except StreamError:
            return structs.replace(refusal, message=raw[:_PAGE])
    upstream = _of(raw, depth + 1)
    # a router's own code is often a status only
    named = upstream.code and not upstream.code.isdecimal() and (refusal.code or "0").isdecimal()
    wait_s = body_wait(raw)
    return structs.replace(
        refusal,
        type=refusal.type or upstream.type,
        code=upstream.code if named else refusal.code,
        message=upstream.message or refusal.message,
        param=upstream.param or refusal.param,
        details=tuple(name for name in (*refusal.details, refusal.code, upstream.type, upstream.code, *upstream.details) if name),
        wait_s=upstream.wait_s if wait_s is None else wait_s,
    )


def _type(value: Mapping[str, Json], inner: Json, message: Json) -> str | None:
    found = word(value.get("type")) or word(value.get("__type")) or word(value.get("status"))
    # {"error": "invalid_client", "error_description": "..."}
    named = isinstance(inner, str) and inner is not message and re.fullmatch(r"[a-z]+(?:_[a-z]+)+", inner)
    return inner if isinstance(inner, str) and named and found is None else found


def _param(value: Mapping[str, Json]) -> str | None:
    """Return the parameter that an error is about: OpenAI's ``param``, or the place of a validation error of FastAPI."""
    place = value.get("loc")
    if isinstance(place, list) and place[:1] == ["body"] and len(place) == 2:
        return word(place[1])
    return word(value.get("param"))


def _code(value: Json) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1e9 else None
    return word(value)


def _details(value: Json) -> tuple[str, ...]:
    entries = value[:20] if isinstance(value, list) else [value]
    names = (word(table(entry).get(key)) for entry in entries for key in _DETAIL_KEYS)
    return tuple(name for name in names if name)


def _build(
    status: int | None, refusal: Refusal, headers: Mapping[str, str], now: float, names: Names, where: str
) -> ProviderError:
    # a 400 is about the request, and some gateways put the header on every refusal
    asked = refusal.wait_s is not None or (status not in (400, 422) and asks_to_return(headers, now))
    ruling = classify(status, refusal, headers, names, asked=asked)
    wait_s = retry_after(headers, now)
    redactor = Redactor((*([names.key] if names.key else []), *names.secrets))
    name = refusal.code if refusal.code and not refusal.code.isdecimal() else refusal.type
    name = quote(name, redactor, longest=80) if name else None
    head = " ".join(str(part) for part in (status, name) if part) or "an error"
    message = quote(refusal.message, redactor)
    if not message and not name and status is not None:
        message = next((s.phrase for s in HTTPStatus if s == status), "")
    error = ProviderError(
        f"{head}{where}: {message}" if message else f"{head}{where}",
        code=ruling.code,
        verdict=ruling.verdict,
        status=status,
        provider_code=name,
        param=refusal.param,
        throttled=ruling.throttled,
        retry_after_s=refusal.wait_s if wait_s is None else wait_s,
    )
    error.words = ruling.words
    return error


def quote(text: str, redactor: Redactor, *, longest: int = _LONGEST) -> str:
    """Return text of a server that is safe to show: one line, keys redacted, at most ``longest`` characters."""
    text = redactor(_UNSEEN.sub(" ", text)).strip()
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
