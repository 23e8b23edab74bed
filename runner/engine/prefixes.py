"""The beginnings of a request that other requests may share, and that a provider's cache may hold. Pure."""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple, TypeAlias

import msgspec

from runner.model import SYSTEM_ROLES, Message, Request

Place: TypeAlias = tuple[int, int]
"""Behind so many messages, and so many characters of the next; the system text beside them is message -1."""


class Link(NamedTuple):
    """A beginning of a request. hash: of all that is in it. place: where it ends. size: its bytes."""

    hash: bytes
    place: Place
    size: int


Links: TypeAlias = Callable[[Request], list[Link]]
"""Returns the beginnings of a request that count, shortest first."""

_encode = msgspec.json.Encoder(order="sorted").encode
_NOT_JSON = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def whole_texts(head: Place | None, least: int) -> Links:
    """Return what finds the beginnings that end with the system text, with a message, or at the head of a template.

    least: bytes that one must have.
    """
    return lambda request: [link for link in _links(request, head) if link.size >= least]


def only_head(head: Place) -> Links:
    """Return what finds the beginning that ends at the head of a template. A row's own system text makes another one of it."""
    return lambda request: list(islice((link for link in _links(request, head) if link.place == head), 1))


def size_of(request: Request) -> int:
    """Return about how many bytes a request takes."""
    return sum(len(content) if isinstance(content := message.get("content"), str) else 1_000 for message in request.messages)


def _links(request: Request, head: Place | None) -> Iterator[Link]:
    whole = blake2b(f"{request.model}\0".encode("utf-8", "replace"), digest_size=12)
    size = 0
    try:
        if request.params.extra_body:
            # tools come before all messages
            whole.update(_encode(request.params.extra_body))
        for end, message in _texts(request):
            text = message.get("content")
            if not isinstance(text, str) and request.media:
                # files are read when the request goes out
                return
            if head is not None and head[1] and head[0] + 1 == end and isinstance(text, str):
                part, beginning = whole.copy(), text[: head[1]].encode()
                part.update(b"%d\0%b" % (end, beginning))
                yield Link(part.digest(), head, size + len(beginning))
            content = _encode(message)
            whole.update(content)
            size += len(content)
            yield Link(whole.digest(), (end, 0), size)
    except _NOT_JSON:
        # what cannot be sent has no beginning either; the row fails when its request is built
        return


def _texts(request: Request) -> Iterator[tuple[int, Message]]:
    """Yield what is sent, in order: the system text, if it is beside the messages, and these; each with the messages up to it."""
    if request.system and not any(message.get("role") in SYSTEM_ROLES for message in request.messages):
        yield 0, {"role": "system", "content": request.system}
    yield from enumerate(request.messages, 1)
