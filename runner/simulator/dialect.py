"""What the two dialects have in common: the values they trade in, and the socket each of them fills.

A dialect is pure: bytes in, bytes out. It knows neither the network nor chance.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec

Finish = Literal["stop", "length"]
Kind = Literal["requests", "tokens"]
Cause = Literal["key", "money", "form", "limit", "outage"]
_T = TypeVar("_T")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid request asks for."""

    model: str
    stream: bool
    max_tokens: int | None
    # OpenAI only: one more chunk that carries the usage.
    with_usage: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it would be served undisturbed."""

    id: str
    model: str
    created: int
    # Escaped as inside a JSON string, without the quotes.
    chunks: list[bytes]
    finish: Finish
    input_tokens: int
    with_usage: bool


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """State of one rate limit, for the headers of an answer."""

    kind: Kind
    limit: int
    remaining: int
    # Until the whole limit is free again.
    reset_s: float


class Refusal(Exception):  # noqa: N818 - an answer to a request, not an error of the simulator
    """A request that gets an error status instead of an answer; each dialect has its own words where none are given."""

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
    """One wire dialect, seen from the serving side."""

    path: str
    request_id_header: str

    def broke(self) -> Refusal:
        """What somebody without money is told."""
        ...

    def read(self, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Read a request, or raise the Refusal (400) that the provider would answer."""
        ...

    def opening(self, answer: Answer) -> bytes:
        """Everything of a stream before the first chunk of text."""
        ...

    def pieces(self, answer: Answer) -> list[bytes]:
        """One complete event per chunk of text."""
        ...

    def closing(self, answer: Answer) -> bytes:
        """Everything of a stream after the last chunk of text."""
        ...

    def broken(self, answer: Answer) -> bytes:
        """An event whose data is not JSON."""
        ...

    def plain(self, answer: Answer) -> bytes:
        """The whole answer as one JSON document."""
        ...

    def error(self, refusal: Refusal, request_id: str) -> bytes:
        """The JSON document of a refusal."""
        ...

    def error_event(self, request_id: str) -> bytes:
        """An event inside a stream that says the server is overloaded."""
        ...

    def limit_headers(self, windows: Sequence[Window], now_s: float) -> dict[str, str]:
        """How the state of the limits is told; ``now_s`` is seconds since 1970."""
        ...

    def models(self, model: str) -> bytes:
        """The JSON document that lists the one model."""
        ...


def decode(body: bytes, shape: type[_T]) -> _T:
    """Decode a request body, or raise the Refusal (400) for it."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        # It names the place and the types, never a value.
        raise Refusal(400, f"Invalid request: {error}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Refusal(400, "The body of the request could not be parsed as JSON.") from None


def output_tokens(answer: Answer) -> int:
    """A token of the simulator is a chunk of text."""
    return len(answer.chunks)
