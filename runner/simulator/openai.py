"""The server side of the OpenAI dialect: Chat Completions.

The bytes around each chunk of text are built once per answer, so that sending a chunk only joins bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.simulator.dialect import Answer, Ask, Refusal, Window, decode, output_tokens
from runner.simulator.shaped import shape_of

_OVERLOADED = "Our servers are currently overloaded. Please try again later."
_NO_MONEY = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
_ERRORS = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", None, "Invalid URL."),
    409: ("invalid_request_error", None, "The request conflicts with the state of what it is about."),
    413: ("invalid_request_error", "request_too_large", "Request body is too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again in 1s."),
    498: ("capacity_exceeded", "capacity_exceeded", "Flex tier capacity exceeded. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", _OVERLOADED),
    529: ("service_unavailable_error", "server_is_overloaded", _OVERLOADED),
}


_TIERS = {"auto": "default", "default": "default", "flex": "flex", "priority": "priority"}


class _Message(msgspec.Struct):
    role: str


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    service_tier: str | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    structured_outputs: dict[str, Any] | None = None


class OpenAI:
    """Chat Completions at ``/v1/chat/completions``."""

    name = "openai"
    path = "/v1/chat/completions"
    request_id_header = "x-request-id"
    standard_tier = "default"

    def out_of_credit(self) -> Refusal:
        """Return the refusal of an account without credit: a 429, although waiting does not help."""
        return Refusal(429, _NO_MONEY, cause="money", kind="insufficient_quota", code="insufficient_quota")

    def read(self, body: bytes, headers: Mapping[str, str]) -> Ask:  # noqa: ARG002 - required by the protocol
        """Parse a request; raise the Refusal (400) that the provider would send for an invalid one."""
        asked = decode(body, _Body)
        for name in ("model", "messages"):
            if getattr(asked, name) is None:
                raise Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
        if not asked.messages:
            raise Refusal(400, "Invalid 'messages': empty array.", param="messages", code="empty_array")
        for name in ("max_completion_tokens", "max_tokens"):
            number = getattr(asked, name)
            if number is not None and number < 1:
                raise Refusal(400, f"Invalid '{name}': must be at least 1.", param=name, code="integer_below_min_value")
        if asked.service_tier is not None and asked.service_tier not in _TIERS:
            message = f"Invalid value: {asked.service_tier!r}. Supported values are: {', '.join(map(repr, _TIERS))}."
            raise Refusal(400, message, param="service_tier", code="invalid_value")
        options = asked.stream_options or _StreamOptions()
        limits = [number for number in (asked.max_completion_tokens, asked.max_tokens) if number is not None]
        return Ask(
            model=asked.model or "",
            stream=asked.stream is True,
            max_tokens=min(limits, default=None),
            with_usage=options.include_usage is True,
            tier=None if asked.service_tier is None else _TIERS[asked.service_tier],
            shape=shape_of(asked.response_format, asked.tools, asked.structured_outputs),
        )

    def opening(self, answer: Answer) -> bytes:
        """Return the chunk with the role."""
        head, tail = _frame(answer)
        return b'%s{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null%s' % (
            head,
            tail,
        )

    def pieces(self, answer: Answer) -> list[bytes]:
        """Return one event per chunk of text."""
        head, tail = _frame(answer)
        before, after = head + b'{"content":"', b'"},"logprobs":null,"finish_reason":null' + tail
        if answer.tool is None:
            return [before + chunk + after for chunk in answer.chunks]
        before, after = head + b'{"tool_calls":[{"index":0,', b'}]},"logprobs":null,"finish_reason":null' + tail
        begun = b'"id":"call_%s","type":"function","function":{"name":%s,"arguments":"%s"}'
        first = begun % (answer.id.encode(), msgspec.json.encode(answer.tool), b"".join(answer.chunks[:1]))
        return [before + first + after, *(before + b'"function":{"arguments":"%s"}' % one + after for one in answer.chunks[1:])]

    def closing(self, answer: Answer) -> bytes:
        """Return the finish chunk, the usage chunk if it was requested, and the end mark."""
        head, tail = _frame(answer)
        finish = b'%s{},"logprobs":null,"finish_reason":"%s"%s' % (head, answer.finish.encode(), tail)
        usage = b'%s],"usage":%s}\n\n' % (_before_choices(answer), _usage(answer)) if answer.with_usage else b""
        return finish + usage + b"data: [DONE]\n\n"

    def broken(self, answer: Answer) -> bytes:
        """Return an event that is cut off inside its text."""
        head, _ = _frame(answer)
        return head + b'{"content":"cut o\n\n'

    def plain(self, answer: Answer) -> bytes:
        """Return the whole answer as one JSON document."""
        return (
            b'{"id":"chatcmpl-%s","object":"chat.completion","created":%d,"model":%s,"choices":[{"index":0,'
            b'"message":{"role":"assistant",%s,"refusal":null},"logprobs":null,"finish_reason":"%s"}],'
            b'"usage":%s%s,"system_fingerprint":"fp_simulator"}'
        ) % (
            answer.id.encode(),
            answer.created,
            msgspec.json.encode(answer.model),
            _content(answer),
            answer.finish.encode(),
            _usage(answer),
            _tier(answer),
        )

    def error(self, refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG002 - required by the protocol
        """Return the JSON document of a refusal."""
        kind, code, message = _ERRORS[refusal.status]
        error = {
            "message": refusal.message or message,
            "type": refusal.kind or refusal.limit or kind,
            "param": refusal.param,
            "code": refusal.code or code,
        }
        return msgspec.json.encode({"error": error})

    def error_event(self, request_id: str) -> bytes:
        """Return a data line with an error document in place of a chunk."""
        return b"data: %s\n\n" % self.error(Refusal(503), request_id)

    def limit_headers(self, windows: Sequence[Window], now_s: float) -> dict[str, str]:  # noqa: ARG002 - as above
        """Return the state of the limits as ``x-ratelimit-*`` headers, whose resets are durations."""
        headers = {}
        for window in windows:
            headers[f"x-ratelimit-limit-{window.kind}"] = str(window.limit)
            headers[f"x-ratelimit-remaining-{window.kind}"] = str(window.remaining)
            headers[f"x-ratelimit-reset-{window.kind}"] = duration(window.reset_s)
        return headers

    def models(self, model: str) -> bytes:
        """Return the JSON document that lists the one model."""
        entry = {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}
        return msgspec.json.encode({"object": "list", "data": [entry]})


def duration(seconds: float) -> str:
    """Format seconds as OpenAI does, rounded up to a millisecond: ``20ms``, ``1s``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    # Rounding first keeps the error of binary fractions from adding a millisecond.
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _before_choices(answer: Answer) -> bytes:
    return (
        b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":%d,"model":%s,'
        b'"system_fingerprint":"fp_simulator"%s,"choices":['
    ) % (answer.id.encode(), answer.created, msgspec.json.encode(answer.model), _tier(answer))


def _tier(answer: Answer) -> bytes:
    """Return the member that names the tier; OpenAI has it if the request has it."""
    return b"" if answer.tier is None else b',"service_tier":"%s"' % answer.tier.encode()


def _frame(answer: Answer) -> tuple[bytes, bytes]:
    usage = b',"usage":null' if answer.with_usage else b""
    return _before_choices(answer) + b'{"index":0,"delta":', b"}]%s}\n\n" % usage


def _content(answer: Answer) -> bytes:
    """Return the members of a whole message that hold what the model says."""
    said = b"".join(answer.chunks)
    if answer.tool is None:
        return b'"content":"%s"' % said
    call = b'{"id":"call_%s","type":"function","function":{"name":%s,"arguments":"%s"}}'
    return b'"content":null,"tool_calls":[%s]' % (call % (answer.id.encode(), msgspec.json.encode(answer.tool), said))


def _usage(answer: Answer) -> bytes:
    output = output_tokens(answer)
    details = b""
    if answer.cached_tokens is not None:
        # Only gateways to caches that charge for writing, such as OpenRouter, have the second figure.
        written = b"" if answer.written_tokens is None else b',"cache_write_tokens":%d' % answer.written_tokens
        details += b',"prompt_tokens_details":{"cached_tokens":%d%s}' % (answer.cached_tokens, written)
    if answer.reasoning_tokens is not None:
        details += b',"completion_tokens_details":{"reasoning_tokens":%d}' % answer.reasoning_tokens
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d%s}' % (
        answer.input_tokens,
        output,
        answer.input_tokens + output,
        details,
    )
