"""The content of a request in the order in which a model reads it, as a cache of prefixes sees it: tools, system, messages.

A token of it is four bytes, as everywhere in the simulator. Roles count, marks for a cache do not: they may be moved.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from runner.simulator.dialect import Refusal, decode

BYTES_PER_TOKEN = 4
_MARK = "cache_control"


class Block(NamedTuple):
    """A tool, or one part of the content of a message. marked: a cache is to keep everything up to its end."""

    content: bytes
    marked: bool


def blocks(body: bytes) -> list[Block]:
    """Return the content of a valid request of either dialect, block by block. Raises Refusal (400) if it is nested too deep."""
    asked = decode(body, dict[str, Any])
    found = [_tool(tool) for tool in _list(asked.get("tools"))]
    if "system" in asked:
        found += _parts("system", asked["system"])
    for message in asked["messages"]:
        found += _parts(message["role"], message.get("content"))
    if found and asked.get(_MARK) is not None:
        # a mark of the whole request is one of its last block
        found[-1] = Block(found[-1].content, marked=True)
    return found


def _tool(tool: Any) -> Block:
    return Block(b"\0tool\0" + _json(tool), _is_marked(tool))


def _parts(role: str, content: Any) -> Iterator[Block]:
    before = f"\0{role}\0".encode()
    for part in _list(content) or [content]:
        yield Block(before + _text(part), _is_marked(part))
        before = b""


def _text(part: Any) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text.encode()
    return b"" if part is None else _json(part)


def _json(value: Any) -> bytes:
    if isinstance(value, Mapping):
        value = {name: inner for name, inner in value.items() if name != _MARK}
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        # it was just shallow enough to be read
        raise Refusal(400, "The content of the request is nested too deeply.") from None


def _is_marked(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get(_MARK) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
