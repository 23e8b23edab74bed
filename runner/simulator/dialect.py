"""What the two dialects share: the values that they take and return, and the protocol that both implement.

A dialect is pure: bytes in, bytes out. It uses neither the network nor random numbers.
"""

from collections.abc import Mapping, Sequence
from mmap import mmap
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

Finish = Literal["stop", "length"]
Kind = Literal["requests", "tokens"]
Cause = Literal["key", "money", "form", "limit", "outage", "capacity"]
_T = TypeVar("_T")


class Shape(NamedTuple):
    """The schema that an answer is to fit. tool: the name of the tool that is called with it; None: the text fits it."""

    schema: Mapping[str, Any]
    tool: str | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid request asks for."""

    model: str
    stream: bool
    max_tokens: int | None
    # A stream carries the usage: OpenAI's in one more chunk, if it was asked for, Anthropic's always.
    with_usage: bool = False
    # The tier that is to serve it, as the dialect names it; None if the request names none.
    tier: str | None = None
    # What the answer is to be; None: words.
    shape: Shape | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it would be sent without a fault."""

    id: str
    model: str
    created: int
    # Escaped as the inside of a JSON string, without the quotes.
    chunks: list[bytes]
    finish: Finish
    input_tokens: int
    with_usage: bool
    # The part of the input that a cache held, and the part that was written to one; None if nothing is cached.
    cached_tokens: int | None = None
    written_tokens: int | None = None
    # Of these: those that are kept for an hour.
    written_1h_tokens: int = 0
    # Output that is not shown; None if the model does not reason.
    reasoning_tokens: int | None = None
    # The tier that served the request; None if the answer does not say.
    tier: str | None = None
    # The tool that is called, whose arguments the chunks are; None: they are text.
    tool: str | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one rate limit, for the headers of an answer."""

    kind: Kind
    limit: int
    remaining: int
    # Seconds until the whole limit is available again.
    reset_s: float


class Refusal(Exception):  # noqa: N818 - an answer to a request, not an error of the simulator
    """An error status instead of an answer. Each dialect has its own message for a refusal without one."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        cause: Cause = "form",
        param: str | None = None,
        kind: str | None = None,
        code: str | None = None,
        limit: Kind | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.cause = cause
        self.param = param
        self.kind = kind
        self.code = code
        self.limit = limit
        self.retry_after_s = retry_after_s


class Dialect(Protocol):
    """The server side of one wire dialect."""

    name: str
    path: str
    request_id_header: str
    # The tier that serves a request that names none.
    standard_tier: str

    def out_of_credit(self) -> Refusal:
        """Return the refusal of an account without credit."""
        ...

    def read(self, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Parse a request; raise the Refusal (400) that the provider would send for an invalid one."""
        ...

    def opening(self, answer: Answer) -> bytes:
        """Return everything that a stream sends before the first chunk of text."""
        ...

    def pieces(self, answer: Answer) -> list[bytes]:
        """Return one complete event per chunk of text."""
        ...

    def closing(self, answer: Answer) -> bytes:
        """Return everything that a stream sends after the last chunk of text."""
        ...

    def broken(self, answer: Answer) -> bytes:
        """Return an event whose data is not valid JSON."""
        ...

    def plain(self, answer: Answer) -> bytes:
        """Return the whole answer as one JSON document."""
        ...

    def error(self, refusal: Refusal, request_id: str) -> bytes:
        """Return the JSON document of a refusal."""
        ...

    def error_event(self, request_id: str) -> bytes:
        """Return an event inside a stream that reports an overloaded server."""
        ...

    def limit_headers(self, windows: Sequence[Window], now_s: float) -> dict[str, str]:
        """Return the headers with the state of the limits. now_s: seconds since the epoch."""
        ...

    def models(self, model: str) -> bytes:
        """Return the JSON document that lists the one model."""
        ...


def decode(body: bytes | mmap, shape: type[_T]) -> _T:
    """Decode a request body; raise a Refusal (400) if it is invalid."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        # The error names the position and the types, never a value of the request.
        raise Refusal(400, f"Invalid request: {error}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Refusal(400, "The body of the request could not be parsed as JSON.") from None


def output_tokens(answer: Answer) -> int:
    """Return the number of output tokens, reasoning included. A token of the simulator is a chunk of text."""
    return len(answer.chunks) + (answer.reasoning_tokens or 0)
