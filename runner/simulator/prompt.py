"""The content of a request in the order in which a model reads it, as a cache of prefixes sees it: tools, system, messages.

A token of it is four bytes, as everywhere in the simulator. Roles count, marks for a cache do not: they may be moved.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from runner.simulator.dialect import Refusal, decode

BYTES_PER_TOKEN = 4
_MARK = "cache_control"
Life = Literal["5m", "1h"]


class Block(NamedTuple):
    """A tool, or one part of the content of a message. life: a cache is to keep everything up to its end, for so long.

    None: it has no mark.
    """

    content: bytes
    life: Life | None


def blocks(body: bytes) -> list[Block]:
    """Return the content of a valid request of either dialect, block by block.

    Raises Refusal (400) if it is nested too deep or has wrong marks.
    """
    asked = decode(body, dict[str, Any])
    found = [_tool(tool) for tool in _list(asked.get("tools"))]
    if "system" in asked:
        found += _parts("system", asked["system"])
    for message in asked["messages"]:
        found += _parts(message["role"], message.get("content"))
    if found and (life := _life(asked)) is not None:
        # a mark of the whole request is one of its last block
        found[-1] = Block(found[-1].content, life)
    return found


def _tool(tool: Any) -> Block:
    return Block(b"\0tool\0" + _json(tool), _life(tool))


def _parts(role: str, content: Any) -> Iterator[Block]:
    before = f"\0{role}\0".encode()
    for part in _list(content) or [content]:
        yield Block(before + _text(part), _life(part))
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


def _life(part: Any) -> Life | None:
    """Return for how long a cache is to keep what ends here. Raises Refusal (400) for a life that Anthropic does not sell."""
    mark = part.get(_MARK) if isinstance(part, Mapping) else None
    if mark is None:
        return None
    life = mark.get("ttl", "5m") if isinstance(mark, Mapping) else "5m"
    if life not in ("5m", "1h"):
        raise Refusal(400, "cache_control.ttl: Input should be '5m' or '1h'")
    return "1h" if life == "1h" else "5m"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
