"""Marks in a request of the Messages dialect that tell the provider what its cache is to keep. Pure.

A mark is ``cache_control`` of a content block, and stands for all that is up to that block. A text that is to be kept in part
becomes two blocks, which a model reads as one text.
"""

from collections.abc import Mapping, Sequence

from runner.model import SYSTEM_ROLES, Json, Message, Request
from runner.providers.lenient_json import table, text_of

_MARK = {"cache_control": {"type": "ephemeral"}}
_MARKABLE = ("text", "image", "document", "tool_use", "tool_result")
"""Content blocks that can have a mark. One without text cannot."""


def is_marked(body: bytes) -> bool:
    """Return True if an encoded request has marks of the user's own, which are left alone."""
    # inside a text, a backslash stands before the second quotation mark
    return b'"cache_control":' in body


def system_of(messages: Sequence[Message]) -> Json:
    """Return the system text that these system messages become: one text, or blocks if one of them has a mark."""
    if not any(_mark_of(part) for message in messages for part in (message, *_parts(message))):
        return "\n\n".join(text for message in messages if (text := text_of(message.get("content"))))
    blocks: list[dict[str, Json]] = []
    # what the next block begins with: what stands between two messages, and blanks, which are refused as a block
    before = ""
    for message in messages:
        before += "\n\n" if blocks and text_of(message.get("content")) else ""
        for part in _parts(message):
            text = before + text_of([part])
            before = "" if text.strip() else text
            if text.strip():
                blocks.append({"type": "text", "text": text})
            if blocks:
                # a mark of blanks stands for all that is before them
                blocks[-1] = {**_mark_of(part), **blocks[-1]}
        if blocks:
            # a mark of the whole message is one of its last block
            blocks[-1] = {**_mark_of(message), **blocks[-1]}
    return [*blocks[:-1], {**blocks[-1], "text": f"{blocks[-1]['text']}{before}"}] if blocks else before


def _parts(message: Message) -> Sequence[Json]:
    content = message.get("content")
    return content if isinstance(content, list) else [content] if isinstance(content, str) else []


def _mark_of(part: Json) -> dict[str, Json]:
    """Return the mark that a part of a message has, or the message itself; an empty object if it has none."""
    mark = table(part).get("cache_control")
    return {"cache_control": mark} if mark is not None else {}


def marked(request: Request, body: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parts of a body that change, with a mark where each prefix of its request ends."""
    sent, systems = _by_role(request.messages)
    # what becomes of each text: how many characters of it each prefix has; None: all
    cuts: dict[int, list[int | None]] = {}
    for messages, chars in request.prefixes:
        number, at = (messages, chars) if chars else (messages - 1, None)
        if number in systems:
            # these become one text: a prefix that ends before its last message, or within one of several, has no block
            if number != systems[-1] or (at is not None and len(systems) > 1):
                continue
            number = -1
        cuts.setdefault(number if number < 0 else sent.index(number), []).append(at)
    changed: dict[str, Json] = {}
    if -1 in cuts and body.get("system"):
        changed["system"] = _blocks(body["system"], cuts.pop(-1))
    sent_messages = [
        {**message, "content": _blocks(message.get("content"), cuts[place])} if place in cuts else message
        for place, message in enumerate(body["messages"])
    ]
    return {**changed, "messages": sent_messages}


def _by_role(messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Return the numbers of the messages that are sent as such, and those that become the system text."""
    numbers: tuple[list[int], list[int]] = [], []
    for number, message in enumerate(messages):
        numbers[message.get("role") in SYSTEM_ROLES].append(number)
    return numbers


def _blocks(content: Json, cuts: Sequence[int | None]) -> Json:
    """Return the content of a message as blocks with marks. cuts: how many characters each prefix has of it; None: all."""
    if isinstance(content, str):
        pieces, last = [], 0
        for cut in sorted(cut for cut in cuts if cut is not None):
            # a block of blanks alone is refused
            if content[last:cut].strip() and content[cut:].strip():
                pieces.append({"type": "text", "text": content[last:cut], **_MARK})
                last = cut
        if not content[last:].strip():
            return content
        return [*pieces, {"type": "text", "text": content[last:], **(_MARK if None in cuts else {})}]
    if isinstance(content, list) and content and isinstance(last_block := content[-1], dict):
        can_be = last_block.get("type") in _MARKABLE and (last_block.get("type") != "text" or text_of([last_block]).strip())
        return [*content[:-1], {**last_block, **_MARK}] if can_be and None in cuts else content
    return content
