"""The JSON of a tool call that came in one piece, as the model wrote it. Pure.

A decoded value does not tell a key that stands twice, a number that is none, or half of a surrogate pair: a strict check needs
the text. In a stream the arguments come as text anyway.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from runner.model import Json

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Pairs(list[tuple[str, Any]]):
    """An object: its pairs, in order."""


class _Word(str):
    """A number, or what stands in the place of one."""

    __slots__ = ()


def inputs(body: bytes, content: list[Json]) -> list[Json]:
    """Return the content blocks of a message, the inputs of its tool calls as text. content: the blocks, decoded."""
    if not any(map(_has_input, content)):
        return content
    text = body.decode("utf-8-sig", "replace")
    try:
        message = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Word, parse_float=_Word, parse_constant=_Word, strict=False
        )
        # as in the decoded message, of a key that stands twice the last one counts
        blocks = dict(message)["content"]
        return [
            {**block, "input": _text(dict(one)["input"])} if _has_input(block) else block
            for block, one in zip(content, blocks, strict=True)
        ]
    except (KeyError, RecursionError, TypeError, ValueError):
        # it could be decoded in another way only
        return content


def _has_input(block: Any) -> bool:
    """Return True for a block with an input that is decoded. Some servers send its text."""
    return isinstance(block, Mapping) and isinstance(block.get("input"), dict | list) and bool(block["input"])


def _text(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{" + ",".join(f"{_text(key)}:{_text(part)}" for key, part in value) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, _Word):
        return value
    # half of a pair stays an escape: a text with it could not be stored
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(value, ensure_ascii=False))
