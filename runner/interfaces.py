"""The sockets: what each part owes the others. Read this file first.

Parts of the middle layer never import each other; ``session`` and ``wiring`` join them through these.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeAlias, TypeVar

from runner.admission import Failure, Permit, Standing
from runner.errors import AttemptError, ProviderError
from runner.events import Event
from runner.model import Attempt, Completion, Entry, HttpCall, Item, Outcome, Pace, Request, Row, ServerSentEvent, Settled, Usage

Heard: TypeAlias = Callable[[int, Iterable[tuple[bytes, bytes]]], None]
"""Is told that an answer has begun: its status and its headers."""


class Decoder(Protocol):
    """Turns the events of one answer into a completion. Pure: no I/O, one instance per attempt."""

    @property
    def complete(self) -> bool:
        """True once a finish reason was seen for the first choice."""
        ...

    @property
    def ended(self) -> bool:
        """True once the dialect's own end mark was seen; nothing after it counts."""
        ...

    @property
    def started(self) -> bool:
        """True once the first piece of text, reasoning or tool call was seen."""
        ...

    @property
    def text_chars(self) -> int:
        """Characters gathered so far, of every kind; the client holds them under its cap."""
        ...

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event.

        Raises ProviderError for an error event inside the stream, StreamError for data that breaks the dialect.
        """
        ...

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read, in order: the same as ``feed`` for each of them, also where one of them raises."""
        ...

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer in place of a stream. Raises as ``feed``."""
        ...

    def completion(self) -> Completion:
        """Give what was gathered. Valid once ``complete``; before that only ``usage`` and names are of use."""
        ...


class Provider(Protocol):
    """A wire dialect: encode a request, decode an answer. No I/O."""

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request."""
        ...

    def decoder(self) -> Decoder:
        """Make a decoder for one attempt."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer that is not a 200. Header names are lower case; the body may be cut at a cap."""
        ...


class Exchange(Protocol):
    """What is known of one HTTP exchange while it runs and after it ended, well or badly."""

    @property
    def status(self) -> int | None:
        """The HTTP status, None before an answer."""
        ...

    @property
    def connected(self) -> bool:
        """There was a connection, so the request may have reached the server."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of the body, after decompression."""
        ...

    @property
    def time_to_first_token_s(self) -> float | None:
        """From sending to the first token, None before it."""
        ...

    @property
    def answered_s(self) -> float | None:
        """From sending to the finish reason of a stream; None before it, and for an answer in one piece."""
        ...

    @property
    def tail_lost(self) -> bool:
        """The connection broke behind a complete answer; its usage may be missing."""
        ...


E = TypeVar("E", bound=Exchange)


class Client(Protocol[E]):
    """One streamed HTTP exchange."""

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None) -> E:
        """Make the record for one exchange. fresh: on a connection that has not served before.

        heard: called once, with status and headers, when an answer begins: at the first bytes of a 200, at the head of another.
        """
        ...

    async def stream(
        self,
        call: HttpCall,
        decoder: Decoder,
        exchange: E,
        refuse: Callable[[int, Mapping[str, str], bytes], ProviderError],
    ) -> None:
        """Send the call and feed the decoder until its answer is complete.

        refuse: says what an answer other than 200 means; header names are given in lower case. Raises AttemptError;
        returns only when ``decoder.complete`` and all caps held.
        """
        ...


class Lane(Protocol):
    """Decides when a request may go out: one endpoint, model and key."""

    @property
    def out_of_service_s(self) -> float:
        """How long the present outage lasts already, in seconds; 0 when there is none."""
        ...

    @property
    def succeeded_at(self) -> float:
        """When the last completion came, on the clock of the run; minus infinity before the first."""
        ...

    def enter(self, number: int) -> Standing:
        """Begin an item's standing. number: its attempts in earlier sessions."""
        ...

    def leave(self, standing: Standing) -> None:
        """End it."""
        ...

    def excused(self, failure: Failure) -> bool:
        """Tell whether a failure fell into an outage."""
        ...

    def counted(self, standing: Standing) -> int:
        """Count an item's failures that are its own."""
        ...

    def singled_out(self, standing: Standing, since: float) -> bool:
        """Tell whether an item's failures since then are its own: others were answered meanwhile, or no other one fails."""
        ...

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, first come first served. size: bytes of the request; most: output tokens at most."""
        ...

    def release(self, permit: Permit, *, unused: bool = False) -> None:
        """Give the place back: when the attempt that held it is on the disk, or was never made (unused)."""
        ...

    def heard(self, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """Note that an answer has begun; ``raw`` are its headers."""
        ...

    def succeeded(self, permit: Permit, usage: Usage | None) -> None:
        """Book a completion."""
        ...

    def failed(self, permit: Permit, error: AttemptError, usage: Usage | None, *, throttled: bool, retried: bool) -> None:
        """Book a failed attempt. usage: what is known of it. throttled: refused by a rate limit. retried: another may follow."""
        ...

    def told_nothing(self, permit: Permit) -> None:
        """Book an attempt that says nothing of the server: given up in flight, or on a stale connection."""
        ...

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """Take a rate limit in: fewer requests at a time, and a pause for everybody. hint_s: the wait the server asked for."""
        ...

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Let nothing out for that long, for everyone. asked: by the server."""
        ...


class Lanes(Protocol):
    """The lanes of a session."""

    @property
    def succeeded_at(self) -> float:
        """When the last completion came in any lane, on the clock of the run; minus infinity before the first."""
        ...

    def of(self, model: str) -> Lane:
        """Give the lane of a model."""
        ...


class RowReader(Protocol):
    """A prompt file: its rows, in order, lazily."""

    def __call__(self, path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
        """Read the rows of a file, no further than ``limit_bytes``. A broken line is a Row with a fault.

        Raises UsageError, at the call, for a file that cannot be read.
        """
        ...


class Exporter(Protocol):
    """Writes results in one format."""

    def __call__(self, columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str]) -> int:
        """Write all records; return how many."""
        ...


class Store(Protocol):
    """The run's memory, as the run sees it."""

    async def settled(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Look keys up; those the store knows nothing of are left out.

        Of a row that is done ``attempts`` leaves out what has failed behind its answer: ``tried`` tells.
        """
        ...

    async def settled_between(self, first: int, last: int, *, failed_too: bool) -> Sequence[tuple[int, str, int]]:
        """Give the rows that are done and stand on these lines, in their order: (position, key, fingerprint).

        failed_too: those that have failed as well, broken ones never.
        """
        ...

    async def tried(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Give the number of the last failed attempt of keys that have one."""
        ...

    async def reposition(self, moved: Sequence[tuple[str, int]]) -> None:
        """Note the new places of rows that have moved in the input: (key, position)."""
        ...

    async def forget_broken(self, first: int, last: int | None, keep: Sequence[str]) -> None:
        """Drop the broken rows that stood on these lines and are no longer there. last: None for to the end."""
        ...

    async def note_pace(self, pace: Pace) -> None:
        """Note what the session is doing, for a process that looks on. Raises StoreError."""
        ...

    async def save(self, entries: Sequence[Entry]) -> None:
        """Write all entries in one transaction; on return they survive a kill.

        A success is never overwritten, but by the answer to another question.
        """
        ...


Emit: TypeAlias = Callable[[Attempt], Awaitable[None]]
"""Hands a failed attempt to the writer."""

Handle: TypeAlias = Callable[[Item, Emit], Awaitable[Outcome | None]]
"""Turns an item into its outcome. None: the run is stopping and the item stays open."""

Save: TypeAlias = Callable[[list[Entry]], Awaitable[None]]
"""Makes entries durable."""

Items: TypeAlias = AsyncGenerator[Item | Outcome, None]
"""What the source gives: work, or an outcome that needs none (a broken row)."""

Observer: TypeAlias = Callable[[Event], None]
"""Is told what happens; called in the event loop, so it must not block."""
