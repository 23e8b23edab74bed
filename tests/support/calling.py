"""Answers that are a call of the tool of a schema, in both dialects."""

from typing import Any

from raw_server import (
    BLOCK_STOP,
    DONE,
    MESSAGE_START,
    MESSAGE_STOP,
    USAGE,
    Reply,
    block_delta,
    delta,
    finish,
    message_delta,
    named,
    sse,
    stream,
)


def call(dialect: str, *pieces: str, said: str = "", name: str = "answer") -> list[bytes]:
    """Return the events of a call whose arguments come in these pieces. said: what the model says before it."""
    if dialect == "openai":

        def of(call: dict[str, Any]) -> bytes:
            return sse({"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]})

        begun = of({"id": "t", "type": "function", "function": {"name": name, "arguments": ""}})
        return [*([delta(said)] if said else []), begun, *(of({"function": {"arguments": piece}}) for piece in pieces)]
    text = [named("content_block_start", index=0, content_block={"type": "text", "text": ""}), block_delta(said), BLOCK_STOP]
    tool = named("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": name, "input": {}})
    parts = [named("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": piece}) for piece in pieces]
    return [MESSAGE_START, *(text if said else []), tool, *parts]


def ended(dialect: str, *pieces: str, **more: Any) -> Reply:
    end = [named("content_block_stop", index=1), message_delta("tool_use"), MESSAGE_STOP]
    return stream(*call(dialect, *pieces, **more), *([finish("tool_calls"), USAGE, DONE] if dialect == "openai" else end))
