"""An item while it is being processed: what its attempts share, and how one of them failed."""

from typing import Any, NamedTuple

from msgspec import Struct, structs

from runner.admission import Failure, Reservation, Standing
from runner.engine.lost import Lost
from runner.engine.stop import Interruptible
from runner.engine.way import Way
from runner.errors import AttemptError, StreamError
from runner.interfaces import Decoder, Lane
from runner.model import Attempt, Completion, HttpCall, Item, Message, Request


class Files(NamedTuple):
    """The files of an item. request: the one that names them. tokens: what they are expected to have. size: bytes as base64."""

    request: Request
    tokens: int
    size: int


class Share(Struct, eq=False):
    """The most that requests can use together: how many they are, tokens of input, of output, and in caches kept for an hour."""

    requests: int = 0
    input: int = 0
    output: int = 0
    hour: int = 0
    # the sum to which it was added
    of: "Share | None" = None

    def add(self, other: "Share") -> None:
        """Add what other requests can use."""
        self.requests += other.requests
        self.input += other.input
        self.output += other.output
        self.hour += other.hour

    def end(self) -> None:
        """Take it away from the sum to which it was added."""
        if (of := self.of) is not None:
            of.requests -= self.requests
            of.input -= self.input
            of.output -= self.output
            of.hour -= self.hour
            self.of = None


class Task(Struct):
    """An item while it is being processed."""

    item: Item
    call: HttpCall
    lane: Lane
    standing: Standing
    # the state of the provider in which ``call`` was encoded
    revision: int
    # where its next attempt goes, or its present one
    way: Way
    # the complete answer of the last attempt, whatever it counts as
    answer: Completion | None = None
    # what the row names; ``item`` and ``call`` then hold an outline of the request
    files: Files | None = None
    # bytes of files for which the current attempt has room in memory
    holds: int = 0
    # the next attempt must use a new connection, because the last one was stale
    fresh: bool = False
    # the request with its made-up seed, once it was refused and is tried without
    seeded: Request | None = None
    # the decoder of the current attempt, if someone listens
    heard: Decoder | None = None
    # how often it was asked again because its answer did not fit; and its own messages then, as an outline and whole
    repairs: int = 0
    asked: tuple[Message, ...] | None = None
    asked_whole: tuple[Message, ...] | None = None
    # failures in batches that count against it
    failed_before: int = 0
    # what the current attempt holds of the budget; None without one
    reserved: Reservation | None = None
    # without a budget, its part of what the session holds for all requests
    share: Share | None = None
    # its requests that were lost with their workers; None: there are none
    lost: Lost | None = None
    # a person has given it up; and what ends its present wait, or its open request
    given_up: bool = False
    wait: Interruptible | None = None

    def give_up(self) -> None:
        """End its open request, or its wait, at once."""
        self.given_up = True
        if self.wait is not None:
            self.wait.end()

    def can_be_cut(self) -> Interruptible:
        """Return a context manager for its open request, which only ``give_up`` ends."""
        self.wait = Interruptible()
        return self.wait

    @property
    def answered(self) -> bool:
        """True once an answer has come late, so that nothing more is to be sent."""
        return self.lost is not None and self.lost.requested

    @property
    def size(self) -> int:
        """Bytes of the whole request."""
        return len(self.call.body) + (self.files.size if self.files is not None else 0)


def asks(task: Task, **changes: Any) -> None:
    """Change the request of an item, from its next attempt on."""
    task.item = structs.replace(task.item, request=structs.replace(task.item.request, **changes))
    if task.files is not None:
        of, tokens, size = task.files
        task.files = Files(structs.replace(of, **changes), tokens, size)
    # the request is encoded anew
    task.revision = -1


def attempt_of(task: Task, started_at: float) -> Attempt:
    """Return the record of an attempt that begins. started_at: seconds since the epoch."""
    way, request = task.way, task.item.request
    return Attempt(
        key=task.item.key,
        number=task.standing.number,
        started_at=started_at,
        duration_s=0.0,
        model=way.asks_for(request.model),
        endpoint=way.endpoint,
        made_seed=task.call.made_seed,
    )


def failure_of(attempt: Attempt, error: AttemptError, now: float, endpoint: int = 0) -> Failure:
    """Return the record of a failure that counts. now: when it came, by the engine's clock. endpoint: where, by its number."""
    # such a fault is made by the server, so it looks the same each time if the request causes it
    fixed = (isinstance(error, StreamError) and not error.kept) or error.code == "bad_http"
    looks = (error.code, attempt.bytes_received) if fixed else None
    return Failure(began=now - attempt.duration_s, ended=now, looks=looks, endpoint=endpoint)


def repeats(task: Task, alike: int) -> bool:
    """Return True if an item has failed in the same way so often (``alike``), while others succeeded, that it always will."""
    last = task.standing.failures[-alike:]
    if len(last) < alike or last[0].looks is None or any(failure.looks != last[0].looks for failure in last):
        return False
    return task.lane.singled_out(task.standing, last[0].ended) and not any(map(task.lane.excused, last))
