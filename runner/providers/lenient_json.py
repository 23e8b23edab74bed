"""JSON for all dialects: decode answers, encode requests, and read values whose types nobody guarantees.

Pure. One rule: JSON from a server raises StreamError and no other exception.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import StreamError
from runner.model import Json

NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised by a dialect's decoder of plain text pieces for any other event, which must then be decoded by ``decode_json``."""

_decode = msgspec.json.Decoder().decode
_SURROGATE = re.compile("[\ud800-\udfff]")
_BIGGEST = 2**63 - 1


def decode_json(data: bytes) -> tuple[Json, tuple[str, ...]]:
    """Decode JSON leniently; return the value, and what had to be repaired: "invalid_utf8", "lone_surrogate".

    Invalid UTF-8 and lone surrogates become U+FFFD; NaN and infinities become None. Anything else that is not JSON raises
    StreamError with the code ``malformed_stream``.
    """
    try:
        return _decode(data), ()
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise malformed("JSON that is nested too deeply") from None
    return _repair(data)


def malformed(what: str) -> StreamError:
    """Return the error for an answer that violates its dialect. what: what the answer contains."""
    return StreamError(f"the answer holds {what}", code="malformed_stream", verdict="retry")


def other_dialect(speaks: str) -> StreamError:
    """Return the error for an answer in the dialect of another provider."""
    words = f"the server speaks the {'Anthropic' if speaks == 'anthropic' else 'OpenAI'} dialect: use --provider {speaks}"
    return StreamError(words, code="malformed_stream", speaks=speaks)


def _repair(data: bytes) -> tuple[Json, tuple[str, ...]]:
    if not data.strip():
        raise malformed("no data where JSON was expected")
    notes: list[str] = []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("utf-8-sig", "replace")
        notes.append("invalid_utf8")
    try:
        # not strict: some servers leave control characters unescaped in strings, and accepting those loses nothing
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, strict=False)
        scrubbed = _scrub(value)
    except RecursionError:
        raise malformed("JSON that is nested too deeply") from None
    except ValueError as e:
        words = f"data that is not JSON ({getattr(e, 'msg', 'a number is too long')})"
        # a piece of JSON may hold the text of an answer; anything else says what it is
        quoted = "" if text.lstrip()[:1] in ("{", "[", '"') else f": {text.strip()[:100]!r}"
        raise malformed(words + quoted) from None
    if scrubbed is not value:
        notes.append("lone_surrogate")
    return scrubbed, tuple(notes)


def _no_number(_: str) -> None:
    return None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _scrub(value: Json) -> Json:
    """Replace lone surrogates; return the same object if there are none."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value) if _SURROGATE.search(value) else value
    if isinstance(value, list):
        items = [_scrub(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        pairs = [(_scrub(k), _scrub(v)) for k, v in value.items()]
        changed = any(k is not old or v is not value[old] for (k, v), old in zip(pairs, value, strict=True))
        return dict(pairs) if changed else value
    return value


def encode_json(value: Json) -> bytes:
    """Encode a request body. Lone surrogates are sent as escapes, as they were in the input."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")


def _plain(value: object) -> Json:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def json_text(value: Json) -> str:
    """Return a decoded value as compact JSON; a string is returned unchanged."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise malformed("JSON that is nested too deeply") from None


def merged(body: dict[str, Json], extra: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return the body updated with ``extra``; a null in ``extra`` removes the field."""
    if not extra:
        return body
    return {name: value for name, value in {**body, **extra}.items() if value is not None or name not in extra}


def count(value: Json) -> int | None:
    """Return a number of tokens, or None if the value is not a whole number of 0 or more."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _BIGGEST:
        return value
    return None


def word(value: Json) -> str | None:
    """Return a name, or None if the value is not a string or is empty."""
    return value if isinstance(value, str) and value else None


def table(value: Json) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one if the value is anything else."""
    return value if isinstance(value, dict) else {}


def text_of(content: Json) -> str:
    """Return the text of a message's content: a string, or the text parts of a list joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part if isinstance(part, str) else word(table(part).get("text")) or "" for part in content)


def join_url(base: str, path: str) -> str:
    """Append a path to a base URL, before the query if there is one."""
    head, mark, query = base.strip().partition("?")
    return head.rstrip("/") + path + mark + query


def stream_headers(version: str) -> dict[str, str]:
    """Return the headers of a streaming request, without the key."""
    return request_headers(version, stream=True)


def request_headers(version: str, *, stream: bool) -> dict[str, str]:
    """Return the headers of a request, without the key. stream: False for an answer in one piece."""
    return {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "identity",
        "user-agent": f"prompt-runner/{version}",
    }
