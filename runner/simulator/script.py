"""Decides which bytes are sent for one answer, faults included. Pure: ``play`` sends them."""

from typing import Literal

import msgspec

from runner.simulator import text
from runner.simulator.dialect import Answer, Ask, Dialect, Refusal
from runner.simulator.draw import Draw

_STREAM = "text/event-stream; charset=utf-8"
_JSON = "application/json"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, ready to be sent."""

    content_type: str
    # Never empty. There is a pause between one part and the next.
    parts: list[bytes]
    # What follows the last part: the body ends, the connection is reset, or it stays open without data.
    ending: Literal["end", "reset", "stall"] = "end"


def answer(ask: Ask, draw: Draw, *, input_tokens: int, created: int, echoed: list[bytes] | None = None) -> Answer:
    """Return the answer as it would be sent without a fault. echoed: its chunks, if they are not to be drawn."""
    full = draw.tokens if echoed is None else len(echoed)
    wanted = 0 if draw.fault == "empty" else full
    count = wanted if ask.max_tokens is None else min(wanted, ask.max_tokens)
    finished = count == wanted and draw.fault != "length"
    return Answer(
        id=draw.answer_id,
        model=ask.model,
        created=created,
        chunks=text.compose(draw.noise(count), finished=finished) if echoed is None else echoed[:count],
        finish="stop" if finished else "length",
        input_tokens=input_tokens,
        with_usage=ask.with_usage,
    )


def script(dialect: Dialect, ask: Ask, draw: Draw, whole: Answer, request_id: str) -> Script:
    """Return the script of an answer in the requested form, with its fault applied."""
    if ask.stream and draw.fault != "json":
        return _streamed(dialect, draw, whole, request_id)
    return _plain(dialect, draw, whole, request_id)


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
    opening = dialect.opening(whole)
    if not pieces:
        return Script(content_type=_STREAM, parts=[opening + closing])
    pieces[0] = opening + pieces[0]
    pieces[-1] += closing
    return Script(content_type=_STREAM, parts=pieces, ending=ending)


def _plain(dialect: Dialect, draw: Draw, whole: Answer, request_id: str) -> Script:
    """Return the script of a plain answer. Faults that cut it do so inside the document; a malformed one lacks its last brace."""
    body = dialect.plain(whole)
    match draw.fault:
        case "malformed":
            body = body[:-1]
        case "truncate" | "disconnect" | "stall":
            body = body[: 1 + int(draw.cut * (len(body) - 1))]
        case "error_event":
            body = dialect.error(Refusal(529), request_id)
    return Script(content_type=_JSON, parts=[body], ending=_ending(draw.fault))


def _ending(fault: str | None) -> Literal["end", "reset", "stall"]:
    match fault:
        case "disconnect":
            return "reset"
        case "stall":
            return "stall"
        case _:
            return "end"
