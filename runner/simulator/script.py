"""Decides which bytes are sent for one answer, faults included. Pure: ``play`` sends them."""

from typing import Literal

import msgspec

from runner.simulator import text
from runner.simulator.dialect import Answer, Ask, Dialect, Refusal
from runner.simulator.draw import Draw
from runner.simulator.shaped import chunks_of

_STREAM = "text/event-stream; charset=utf-8"
_JSON = "application/json"
# Tokens with which an answer that fills its limit ends in any case: a model has a limit of its own.
_LONGEST = 131_072
_CUT = frozenset({"truncate", "disconnect", "stall", "error_event"})


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, ready to be sent."""

    content_type: str
    # Never empty. There is a pause between one part and the next.
    parts: list[bytes]
    # What follows the last part: the body ends, the connection is reset, or it stays open without data.
    ending: Literal["end", "reset", "stall"] = "end"
    # Tokens of text that the model makes for it. In a stream, each part carries one of them, as long as there are any.
    tokens: int
    streamed: bool
    # It ends before the answer does.
    cut: bool
    # A client that receives all of it knows the usage.
    with_usage: bool


def answer(
    ask: Ask, draw: Draw, *, input_tokens: int, created: int, echoed: list[bytes] | None = None, fill: bool = False
) -> Answer:
    """Return the answer as it would be sent without a fault.

    echoed: its chunks, if they are not to be drawn. fill: it is as long as the request allows, if it says how long that is.
    """
    limit = ask.max_tokens if not fill or ask.max_tokens is None else min(ask.max_tokens, _LONGEST)
    if echoed is None and ask.shape is not None:
        echoed, fill = chunks_of(ask.shape, draw.noise(64), broken=draw.cut if draw.fault == "invalid_json" else None), False
    reasoning = draw.reasoning if limit is None or draw.reasoning is None else min(draw.reasoning, limit)
    room = None if limit is None else limit - (reasoning or 0)
    full = draw.tokens if echoed is None else len(echoed)
    wanted = 0 if draw.fault == "empty" else full
    filled = fill and room is not None and draw.fault != "empty"
    count = wanted if room is None else room if filled else min(wanted, room)
    finished = count == wanted and draw.fault != "length" and not filled
    return Answer(
        id=draw.answer_id,
        model=ask.model,
        created=created,
        chunks=text.compose(draw.noise(count), finished=finished) if echoed is None else echoed[:count],
        finish="stop" if finished else "length",
        input_tokens=input_tokens,
        with_usage=ask.with_usage,
        reasoning_tokens=reasoning,
        tool=ask.shape.tool if ask.shape is not None else None,
    )


def script(dialect: Dialect, ask: Ask, draw: Draw, whole: Answer, request_id: str) -> Script:
    """Return the script of an answer in the requested form, with its fault applied."""
    if ask.stream and draw.fault != "json":
        return _streamed(dialect, draw, whole, request_id)
    return _plain(dialect, draw, whole, request_id)


def made(played: Script, sent: int) -> int:
    """Return the tokens of text that the model has made once this many parts were sent.

    A stream is made as it is sent; any other answer is made whole, whoever waits for it.
    """
    return min(sent, played.tokens) if played.streamed else played.tokens


def ending(played: Script, sent: int, *, complete: bool) -> Literal["whole", "cut", "abandoned"]:
    """Return how an answer ended of which this many parts were sent: as it should, by a fault, or because the client was gone."""
    if complete and not played.cut:
        return "whole"
    return "cut" if sent == len(played.parts) and played.cut else "abandoned"


def _streamed(dialect: Dialect, draw: Draw, whole: Answer, request_id: str) -> Script:
    pieces = dialect.pieces(whole)
    closing = dialect.closing(whole)
    ending: Literal["end", "reset", "stall"] = "end"
    position = int(draw.cut * len(pieces))
    match draw.fault:
        case "malformed":
            pieces[position] = dialect.broken(whole)
        case "truncate" | "disconnect" | "stall" | "error_event":
            pieces = pieces[: position + 1]
            closing = dialect.error_event(request_id) if draw.fault == "error_event" else b""
            ending = _ending(draw.fault)
    tokens = len(pieces)
    # A part is sent even if there is no text.
    pieces = pieces or [b""]
    pieces[0] = dialect.opening(whole) + pieces[0]
    pieces[-1] += closing
    return Script(
        content_type=_STREAM,
        parts=pieces,
        ending=ending,
        tokens=tokens,
        streamed=True,
        cut=draw.fault in _CUT,
        with_usage=whole.with_usage and draw.fault not in _CUT and draw.fault != "malformed",
    )


def _plain(dialect: Dialect, draw: Draw, whole: Answer, request_id: str) -> Script:
    """Return the script of a plain answer. Faults that cut it do so inside the document; a malformed one lacks its last brace."""
    body = dialect.plain(whole)
    tokens = len(whole.chunks)
    match draw.fault:
        case "malformed":
            body = body[:-1]
        case "truncate" | "disconnect" | "stall":
            body = body[: 1 + int(draw.cut * (len(body) - 1))]
        case "error_event":
            body = dialect.error(Refusal(529), request_id)
            tokens = min(tokens, 1 + int(draw.cut * tokens))
    return Script(
        content_type=_JSON,
        parts=[body],
        ending=_ending(draw.fault),
        tokens=tokens,
        streamed=False,
        cut=draw.fault in _CUT,
        with_usage=draw.fault not in _CUT and draw.fault != "malformed",
    )


def _ending(fault: str | None) -> Literal["end", "reset", "stall"]:
    match fault:
        case "disconnect":
            return "reset"
        case "stall":
            return "stall"
        case _:
            return "end"
