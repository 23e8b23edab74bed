"""The sockets: what each part must provide for the others. Read this file first.

The rooms on the path of a prompt never import each other; ``runner.session`` joins them through these protocols.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from runner.admission import Failure, Permit, Reservation, Standing
from runner.errors import AttemptError, ProviderError
from runner.event_types import Event
from runner.model import Attempt, Completion, Entry, HttpCall, Item, Outcome, Request, Row, ServerSentEvent, Stage, Usage
from runner.pace import Pace
from runner.placing import Engine as Engine
from runner.placing import Invitation as Invitation
from runner.settled import Settled

Heard: TypeAlias = Callable[[int, Iterable[tuple[bytes, bytes]]], None]
"""Called once when an answer begins, with its status and headers: at the first bytes of the body of a 2xx, else at its head."""


class Decoder(Protocol):
    """Turns the events of one answer into a completion. Pure: no I/O. There is one instance per attempt."""

    @property
    def stage(self) -> Stage:
        """How far the answer has come. It may go back to ``Stage.OPEN``: some servers send text behind a finish reason."""
        ...

    @property
    def complete(self) -> bool:
        """True while ``stage`` is beyond ``Stage.OPEN``: there is a finish reason, and no text behind it."""
        ...

    @property
    def ended(self) -> bool:
        """True once the dialect's own end mark has come; later events are ignored."""
        ...

    @property
    def started(self) -> bool:
        """True once the first piece of text, reasoning or tool call has come."""
        ...

    @property
    def text_chars(self) -> int:
        """Characters collected so far: text, reasoning, tool calls and names. The client enforces a cap on them."""
        ...

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Raises ProviderError for an error in the stream, StreamError for data that breaks the dialect."""
        ...

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read, in order. Equivalent to calling ``feed`` for each of them, errors included."""
        ...

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer instead of a stream. Raises the errors that ``feed`` raises."""
        ...

    def completion(self) -> Completion:
        """Return what was collected. Before ``complete`` is True, only usage, model name and response id are meaningful."""
        ...


class Provider(Protocol):
    """A wire dialect: encodes requests and decodes answers. No I/O."""

    def encode(self, request: Request) -> HttpCall:
        """Return the POST for a request."""
        ...

    def decoder(self) -> Decoder:
        """Return a new decoder for one attempt."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer whose status is not 2xx. Header names are lower case; the body may be cut off at a cap."""
        ...


class Exchange(Protocol):
    """What is known about one HTTP exchange, while it runs and after it has ended or failed."""

    @property
    def status(self) -> int | None:
        """HTTP status; None before the answer begins."""
        ...

    @property
    def connected(self) -> bool:
        """True once there is a connection, so that the request may have reached the server."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of the body received so far, after decompression."""
        ...

    @property
    def time_to_first_token_s(self) -> float | None:
        """Seconds from sending to the first token; None before it."""
        ...

    @property
    def answered_s(self) -> float | None:
        """Seconds from sending to the last finish reason of a stream; None before it, and for an answer without a stream."""
        ...

    # True if the connection broke after a complete answer, or was ended, so that its usage may be missing
    tail_lost: bool


E = TypeVar("E", bound=Exchange)


class Client(Protocol[E]):
    """Sends calls and streams the answers into decoders."""

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> E:
        """Return the record of a new exchange. fresh: use a new connection. fallback: its row fell back from flex."""
        ...

    async def stream(
        self, call: HttpCall, decoder: Decoder, exchange: E, refuse: Callable[[int, Mapping[str, str], bytes], ProviderError]
    ) -> None:
        """Send the call and feed the decoder until its answer is complete.

        refuse: classifies an answer whose status is not 2xx; header names are lower case. Raises AttemptError. Returns only if
        ``decoder.complete`` is True and no cap was exceeded.
        """
        ...


class Lane(Protocol):
    """Decides when a request may be sent. There is one lane for each endpoint, model and key."""

    @property
    def out_of_service_s(self) -> float:
        """Seconds since the current outage began; 0 if there is none."""
        ...

    @property
    def succeeded_at(self) -> float:
        """When the last completion came, by the clock of the run; minus infinity before the first."""
        ...

    def enter(self, number: int, key: str = "") -> Standing:
        """Return the standing of an item that enters the lane. number: its attempts in earlier sessions."""
        ...

    def leave(self, standing: Standing) -> None:
        """Remove the standing of an item that leaves the lane."""
        ...

    def come(self, standing: Standing) -> None:
        """Count an item again that has left the lane."""
        ...

    def excused(self, failure: Failure) -> bool:
        """Return True if a failure fell into an outage."""
        ...

    def counted(self, standing: Standing) -> int:
        """Return how many failures of an item count against it, given the outages of the lane."""
        ...

    def singled_out(self, standing: Standing, since: float) -> bool:
        """Return True if the failures since ``since`` are this item's own: others succeeded then, or no other is failing."""
        ...

    def resting(self, standing: Standing, cause: str | None = None) -> AbstractContextManager[None]:
        """Count an item that is not to be sent yet, while the context lasts. cause: None if it waits for its next attempt."""
        ...

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, first come, first served. size: bytes of the request. most: limit of its output tokens."""
        ...

    def expect_fallback(self, until: float) -> None:
        """Record that flex has no capacity for a row, which goes to the standard tier at ``until``, by the lane's clock."""
        ...

    def release(self, permit: Permit, attempt: Attempt | None = None, *, unused: bool = False) -> None:
        """Release a permit: after its attempt has been saved, or because no attempt was made (``unused``)."""
        ...

    def heard(self, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """Record that an answer has begun. raw: its headers."""
        ...

    def succeeded(self, permit: Permit, usage: Usage | None) -> None:
        """Record a completion."""
        ...

    def failed(self, permit: Permit, error: AttemptError, usage: Usage | None, *, throttled: bool, retried: bool) -> None:
        """Record a failed attempt. throttled: refused by a rate limit. retried: another attempt may follow."""
        ...

    def refused(self, standing: Standing, permit: Permit, attempt: Attempt) -> float:
        """Hold a row whose refusal may be the endpoint's. Return for how many seconds all rows are refused, or 0."""
        ...

    async def fate(self, standing: Standing) -> Literal["fail", "again"]:
        """Wait until it is known what becomes of a row that was refused."""
        ...

    def told_nothing(self, permit: Permit) -> None:
        """Record an attempt that shows nothing about the server: it was cancelled, or it used a stale connection."""
        ...

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """React to a rate limit: allow fewer requests at a time, and pause the lane. hint_s: the wait the server asked for."""
        ...

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Send nothing in this lane for so many seconds. asked: the server asked for the wait."""
        ...


class Lanes(Protocol):
    """The lanes of a session."""

    @property
    def succeeded_at(self) -> float:
        """When the last completion came in any lane, by the clock of the run; minus infinity before the first."""
        ...

    def of(self, model: str) -> Lane:
        """Return the lane of a model."""
        ...


class RowReader(Protocol):
    """Reads a prompt file row by row, in order."""

    def __call__(self, path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
        """Yield the rows in the first ``limit_bytes`` bytes of a file. A broken line is a Row with a fault.

        The call itself, not the first row, raises UsageError for a file that cannot be read.
        """
        ...


class Exporter(Protocol):
    """Writes results in one export format."""

    def __call__(self, columns: Sequence[str], records: Iterable[Sequence[object]], out: Any) -> int:
        """Write all records and return their number. out: a text file, or what its module says (``OUTPUT``)."""
        ...


class Store(Protocol):
    """The store of one run, as the engine and the inputs use it."""

    async def settled(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Look up keys; those without an attempt or outcome are left out. ``tried`` returns what failed after an answer."""
        ...

    async def settled_between(self, first: int, last: int) -> Sequence[tuple[int, str, int]]:
        """Return the settled rows on these lines that no retry asks again, in order: (position, key, fingerprint)."""
        ...

    async def tried(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Return the number of the last failed attempt for each key that has one."""
        ...

    async def reposition(self, moved: Sequence[tuple[str, int]]) -> None:
        """Store the new lines of rows that have moved in the input, as (key, position)."""
        ...

    async def forget_broken(self, lines: tuple[int, int | None] | Sequence[int], keep: Sequence[str]) -> None:
        """Delete the broken rows on these lines, except those in ``keep``. lines: first and last, None for the end; or a list."""
        ...

    async def note_pace(self, pace: Pace) -> None:
        """Store what the session is doing, for ``runner status`` in another process. Raises StoreError."""
        ...

    async def save(self, entries: Sequence[Entry]) -> None:
        """Write all entries in one transaction; then they survive a kill. Answers are replaced for changed prompts only."""
        ...


Emit: TypeAlias = Callable[[Attempt | Reservation], Awaitable[None]]
"""Passes a failed attempt to the writer, or what an attempt may use of a budget."""
Handle: TypeAlias = Callable[[Item, Emit], Awaitable[Outcome | None]]
"""Turns an item into its outcome. None: the run is stopping, and the item has no outcome."""
Save: TypeAlias = Callable[[list[Entry | Reservation]], Awaitable[None]]
"""Makes entries durable."""
Items: TypeAlias = AsyncGenerator[Item | Outcome, None]
"""What the source yields: items, and outcomes of rows that cannot be sent (broken rows)."""

Observer: TypeAlias = Callable[[Event], None]
"""Called with each event, in the event loop, so it must not block."""
