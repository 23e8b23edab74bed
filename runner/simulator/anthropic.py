"""The server side of the Anthropic dialect: Messages.

The bytes around each chunk of text are constants, so that sending a chunk only joins bytes.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from runner.simulator.dialect import Answer, Ask, Refusal, Window, decode, output_tokens
from runner.simulator.shaped import shape_of

_NO_MONEY = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
)
_ERRORS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    529: ("overloaded_error", "Overloaded"),
}
_STOP_REASON = {"stop": b"end_turn", "length": b"max_tokens"}
_TIERS = {"auto": "standard", "standard_only": "standard"}
_BEFORE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
_AFTER = b'"}}\n\n'
_BEFORE_ARGUMENTS = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"'
)
_BLOCK_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
)
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _Message(msgspec.Struct):
    role: str


class _Body(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    service_tier: str | None = None
    output_config: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


class Anthropic:
    """Messages at ``/v1/messages``."""

    name = "anthropic"
    path = "/v1/messages"
    request_id_header = "request-id"
    standard_tier = "standard"

    def out_of_credit(self) -> Refusal:
        """Return the refusal of an account without credit: a 400 that differs from others by its message only."""
        return Refusal(400, _NO_MONEY, cause="money")

    def read(self, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Parse a request; raise the Refusal (400) that the provider would send for an invalid one."""
        if "anthropic-version" not in headers:
            raise Refusal(400, "anthropic-version: header is required")
        asked = decode(body, _Body)
        for name in ("model", "messages", "max_tokens"):
            if getattr(asked, name) is None:
                raise Refusal(400, f"{name}: Field required")
        if not asked.messages:
            raise Refusal(400, "messages: at least one message is required")
        if asked.max_tokens is not None and asked.max_tokens < 1:
            raise Refusal(400, "max_tokens: must be greater than or equal to 1")
        if asked.service_tier is not None and asked.service_tier not in _TIERS:
            raise Refusal(400, f"service_tier: Input should be {' or '.join(map(repr, _TIERS))}")
        return Ask(
            model=asked.model or "",
            stream=asked.stream is True,
            max_tokens=asked.max_tokens,
            with_usage=True,
            tier=None if asked.service_tier is None else _TIERS[asked.service_tier],
            shape=shape_of((asked.output_config or {}).get("format"), asked.tools, None),
        )

    def opening(self, answer: Answer) -> bytes:
        """Return the start of the message and, if there will be text, the start of its one block."""
        start = (
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_%s","type":"message",'
            b'"role":"assistant","model":%s,"content":[],"stop_reason":null,"stop_sequence":null,'
            b'"usage":%s}}\n\n'
        ) % (answer.id.encode(), msgspec.json.encode(answer.model), _usage(answer, 1))
        return start + (_block_start(answer) if answer.chunks else b"") + _PING

    def pieces(self, answer: Answer) -> list[bytes]:
        """Return one event per chunk of text."""
        before = _BEFORE if answer.tool is None else _BEFORE_ARGUMENTS
        return [before + chunk + _AFTER for chunk in answer.chunks]

    def closing(self, answer: Answer) -> bytes:
        """Return the end of the block, the stop reason with the usage, and the end of the message."""
        delta = (
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"%s","stop_sequence":null},'
            b'"usage":{"output_tokens":%d}}\n\n'
        ) % (_stop_reason(answer), output_tokens(answer))
        return (_BLOCK_STOP if answer.chunks else b"") + delta + _MESSAGE_STOP

    def broken(self, answer: Answer) -> bytes:  # noqa: ARG002 - required by the protocol
        """Return an event that is cut off inside its text."""
        return _BEFORE + b"cut o\n\n"

    def plain(self, answer: Answer) -> bytes:
        """Return the whole answer as one JSON document."""
        content = _block(answer) if answer.chunks else b""
        return (
            b'{"id":"msg_%s","type":"message","role":"assistant","model":%s,"content":[%s],"stop_reason":"%s",'
            b'"stop_sequence":null,"usage":%s}'
        ) % (
            answer.id.encode(),
            msgspec.json.encode(answer.model),
            content,
            _stop_reason(answer),
            _usage(answer, output_tokens(answer)),
        )

    def error(self, refusal: Refusal, request_id: str) -> bytes:
        """Return the JSON document of a refusal."""
        kind, message = _ERRORS[refusal.status]
        error = {"type": kind, "message": refusal.message or message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})

    def error_event(self, request_id: str) -> bytes:
        """Return an error event with the document of a 529."""
        return b"event: error\ndata: %s\n\n" % self.error(Refusal(529), request_id)

    def limit_headers(self, windows: Sequence[Window], now_s: float) -> dict[str, str]:
        """Return the state of the limits as ``anthropic-ratelimit-*`` headers, whose resets are points in time."""
        headers = {}
        for window in windows:
            reset = datetime.fromtimestamp(math.ceil(now_s + window.reset_s), UTC)
            headers[f"anthropic-ratelimit-{window.kind}-limit"] = str(window.limit)
            headers[f"anthropic-ratelimit-{window.kind}-remaining"] = str(window.remaining)
            headers[f"anthropic-ratelimit-{window.kind}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def models(self, model: str) -> bytes:
        """Return the JSON document that lists the one model."""
        entry = {"type": "model", "id": model, "display_name": "Simulator", "created_at": "2024-01-01T00:00:00Z"}
        return msgspec.json.encode({"data": [entry], "has_more": False, "first_id": model, "last_id": model})


def _block_start(answer: Answer) -> bytes:
    if answer.tool is None:
        return _BLOCK_START
    block = b'{"type":"tool_use","id":"toolu_%s","name":%s,"input":{}}' % (answer.id.encode(), msgspec.json.encode(answer.tool))
    return b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":%s}\n\n' % block


def _block(answer: Answer) -> bytes:
    """Return the content of a whole message. The input of a tool is an object there, so one that is broken is left out."""
    said = b"".join(answer.chunks)
    if answer.tool is None:
        return b'{"type":"text","text":"%s"}' % said
    try:
        given = msgspec.json.encode(msgspec.json.decode(msgspec.json.decode(b'"%s"' % said, type=str)))
    except msgspec.MsgspecError:
        given = b"{}"
    return b'{"type":"tool_use","id":"toolu_%s","name":%s,"input":%s}' % (
        answer.id.encode(),
        msgspec.json.encode(answer.tool),
        given,
    )


def _stop_reason(answer: Answer) -> bytes:
    return b"tool_use" if answer.tool is not None and answer.finish == "stop" else _STOP_REASON[answer.finish]


def _usage(answer: Answer, output: int) -> bytes:
    """Return the usage. Its input tokens are those that the cache neither held nor took."""
    cached, written = answer.cached_tokens or 0, answer.written_tokens or 0
    cache = b""
    if answer.cached_tokens is not None:
        lives = (written - answer.written_1h_tokens, answer.written_1h_tokens)
        cache = (
            b',"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,'
            b'"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d}'
        ) % (written, cached, *lives)
    tier = b"" if answer.tier is None else b',"service_tier":"%s"' % answer.tier.encode()
    return b'{"input_tokens":%d%s,"output_tokens":%d%s}' % (answer.input_tokens - cached - written, cache, output, tier)
