"""The lines of batch files: makes those of requests, reads those of results. Pure, but for reading a file.

Results are read tolerantly: any line that is not as it should be becomes an ``odd`` result, and none raises.
"""

import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from runner.batches import BatchResult
from runner.errors import StreamError
from runner.model import Json
from runner.providers.classify import status_of
from runner.providers.lenient_json import count, decode_json, encode_json, table, word

_BOM = b"\xef\xbb\xbf"
_BUFFER = 1 << 20
_REFUSED = 400
_ENDED_UNSENT: Final[dict[str, Literal["expired", "cancelled"]]] = {
    "batch_expired": "expired", "expired": "expired", "batch_cancelled": "cancelled", "batch_canceled": "cancelled",
    "cancelled": "cancelled", "canceled": "cancelled",
}  # fmt: skip
"""Codes of requests that the provider never began."""


def id_maker(pattern: str) -> Callable[[str], str]:
    """Return what makes the id of a row's request. pattern: of the whole of an id."""
    fits = re.compile(pattern).fullmatch

    def custom_id(key: str) -> str:
        if fits(key):
            return key
        return f"row-{blake2b(key.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"

    return custom_id


def line_maker(before_body: bytes) -> Callable[[str, bytes], bytes]:
    """Return what makes the line of a request from its id and its body. before_body: what stands between them."""
    encode = msgspec.json.Encoder().encode

    def line(custom_id: str, body: bytes) -> bytes:
        if b"\n" in body or b"\r" in body:
            # between the tokens; in a text it would be an escape
            body = msgspec.json.format(body, indent=-1)
        return b'{"custom_id":%b,%b%b}\n' % (encode(custom_id), before_body, body)

    return line


class _Response(Struct, gc=False):
    status_code: int
    body: Raw
    request_id: str | None = None


class _OpenAILine(Struct, gc=False):
    custom_id: str
    response: _Response
    error: None = None


class _Result(Struct, gc=False):
    type: Literal["succeeded"]
    message: Raw


class _AnthropicLine(Struct, gc=False):
    custom_id: str
    result: _Result


_openai_line = msgspec.json.Decoder(_OpenAILine).decode
_anthropic_line = msgspec.json.Decoder(_AnthropicLine).decode
_NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def openai_results(path: Path) -> Iterator[BatchResult]:
    """Yield the results in a file of answers or of errors, as OpenAI and those like it write them."""
    for line in _lines(path):
        try:
            plain = _openai_line(line)
            response = plain.response
            body = bytes(response.body)
            if 200 <= response.status_code < 300 and body[:1] == b"{" and len(body) > 2:
                yield BatchResult(
                    custom_id=plain.custom_id, kind="answered", status=response.status_code, body=body,
                    request_id=response.request_id or None,
                )  # fmt: skip
                continue
        except _NOT_PLAIN:
            pass
        yield _openai_other(line)


def anthropic_results(path: Path) -> Iterator[BatchResult]:
    """Yield the results in a file of results, as Anthropic writes them."""
    for line in _lines(path):
        try:
            plain = _anthropic_line(line)
            body = bytes(plain.result.message)
            if body[:1] == b"{":
                yield BatchResult(custom_id=plain.custom_id, kind="answered", status=200, body=body)
                continue
        except _NOT_PLAIN:
            pass
        yield _anthropic_other(line)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=_BUFFER) as file:
        first = file.readline().removeprefix(_BOM)
        if first.strip():
            yield first
        for line in file:
            if line != b"\n" and line.strip():
                yield line


def _openai_other(line: bytes) -> BatchResult:
    fields = _object(line)
    response, error = table(fields.get("response")), fields.get("error")
    status = count(response.get("status_code")) or count(response.get("status")) or None
    body, name = _body(response.get("body")), word(response.get("request_id"))
    if not body and isinstance(response.get("choices"), list):
        # Fireworks has the answer itself there
        body = dict(response)
    custom_id = _id(fields)
    if body and not body.get("error") and (status is None or status < _REFUSED):
        return BatchResult(custom_id=custom_id, kind="answered", status=status or 200, body=_bytes(body), request_id=name)
    code = _code(error)
    if code in _ENDED_UNSENT:
        return BatchResult(custom_id=custom_id, kind=_ENDED_UNSENT[code], status=status, body=_bytes({"error": error}))
    if body or error:
        refusal = body or {"error": error}
        known = status if status is not None and status >= _REFUSED else _status(refusal)
        return BatchResult(custom_id=custom_id, kind="refused", status=known, body=_bytes(refusal), request_id=name)
    if status is not None and status >= _REFUSED:
        return BatchResult(custom_id=custom_id, kind="refused", status=status, request_id=name)
    return BatchResult(custom_id=custom_id, kind="odd", status=status, request_id=name)


def _anthropic_other(line: bytes) -> BatchResult:
    fields = _object(line)
    result, custom_id = table(fields.get("result")), _id(fields)
    kind, message, error = result.get("type"), _body(result.get("message")), table(result.get("error"))
    if kind == "succeeded" and message:
        return BatchResult(custom_id=custom_id, kind="answered", status=200, body=_bytes(message))
    if isinstance(kind, str) and kind in _ENDED_UNSENT:
        return BatchResult(custom_id=custom_id, kind=_ENDED_UNSENT[kind])
    if error:
        own = dict(error) if "error" in error else {"error": error}
        name = word(error.get("request_id"))
        return BatchResult(custom_id=custom_id, kind="refused", status=_status(own), body=_bytes(own), request_id=name)
    return BatchResult(custom_id=custom_id, kind="odd")


def _bytes(value: Json) -> bytes:
    """Return a value as JSON; empty for one that cannot be written: numbers without end, and nesting without end."""
    try:
        return encode_json(value)
    except (OverflowError, RecursionError, ValueError):
        return b""


def _object(line: bytes) -> dict[str, Any]:
    try:
        return dict(table(decode_json(line)[0]))
    except StreamError:
        return {}


def _id(fields: dict[str, Any]) -> str | None:
    value = fields.get("custom_id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else word(value)


def _body(value: Json) -> dict[str, Any]:
    """Return a body that is an object, or a text that holds one: some gateways encode it twice."""
    return _object(value.encode(errors="replace")) if isinstance(value, str) and value[:1] == "{" else dict(table(value))


def _code(error: Json) -> str:
    return word(table(error).get("code")) or word(table(error).get("type")) or ""


def _status(refusal: dict[str, Any]) -> int | None:
    """Return the HTTP status that the names in a refusal stand for, or None."""
    error = table(refusal.get("error"))
    kind = word(error.get("type"))
    if kind == "invalid_request":
        return _REFUSED
    return status_of(kind, word(error.get("code")))
