"""What a session gives to the engine of batches, what it is asked by it, and what it gets back."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from runner.batches import Reask, StoredBatch
from runner.engine.admitting import Purse
from runner.engine.bounds import Bounds
from runner.engine.clock import Clock
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.model import Entry
from runner.money import Price
from runner.text import Redactor

Why: TypeAlias = Literal["done", "waiting", "live", "stopped"]
"""Why the engine of batches has ended: see ``Left``."""
Submitting: TypeAlias = Literal["open", "full", "never"]
"""Whether the provider takes batches. full: its queue is full. never: it takes none of ours."""


class Save(Protocol):
    """Makes entries durable, as the session saves: it prices, writes, counts and tells them.

    batch_id: the batch whose rows they settle (``BatchStore.settle``). None: outcomes of rows that were never in a batch, for
    ``Store.save``; ``settled`` and ``reasks`` are empty then. Returns the entries as they were saved, with their prices. Raises
    StoreError.
    """

    async def __call__(
        self, batch_id: int | None, entries: Sequence[Entry], settled: Sequence[str] = (), reasks: Sequence[Reask] = ()
    ) -> Sequence[Entry]:
        """Save the entries; when this returns, they survive a kill."""
        ...


class Told(Struct, kw_only=True):
    """What the engine of batches calls. All are called in the event loop."""

    save: Save
    # a sentence for the user (``Noted``), without secrets
    note: Callable[[str], None]
    # a batch has changed, or an amount of it has come: progress may be shown anew
    changed: Callable[[], None] = lambda: None


def _unknown_price(_model: str, _bound: Bounds, _at: float) -> None:
    return None


class Standing(Struct, frozen=True, kw_only=True):
    """How the batches of a run stand, for the decision what is to become of them. Instants: seconds since the epoch."""

    now: float
    # those in open states
    batches: Sequence[StoredBatch]
    # when the cancel of a batch was asked for in this session, by its number; and how many seconds cancels took that have ended
    cancel_asked_at: Mapping[int, float]
    cancels_s: Sequence[float]
    # rows that came back open from batches in this session, and were not sent again
    returned: int
    submitting: Submitting
    # seconds since the first of these rows came back
    returned_s: float = 0.0


class Decision(Protocol):
    """What is to become of the batches now: what ``engine.batch.policy`` decides, as far as this engine carries it out."""

    @property
    def live(self) -> int:
        """How many open rows go live now."""
        ...

    @property
    def submit(self) -> int:
        """How many open rows may go into batches now."""
        ...

    @property
    def piece_rows(self) -> int:
        """The most rows of one batch."""
        ...

    @property
    def cancel(self) -> Sequence[int]:
        """Batches that the provider is to be asked to cancel."""
        ...

    @property
    def overtake(self) -> Sequence[int]:
        """Batches whose rows go live although they have not ended: what they still answer is paid for twice."""
        ...

    @property
    def wake_at(self) -> float:
        """When to decide again at the latest, seconds since the epoch."""
        ...

    @property
    def open(self) -> int:
        """How many rows wait nowhere."""
        ...

    @property
    def told(self) -> str | None:
        """A sentence for people; None: there is nothing to say."""
        ...

    @property
    def about(self) -> str | None:
        """What the sentence is about: of each, one is told in a session."""
        ...


Until: TypeAlias = Callable[[Standing], Decision]
"""Decides what is to become of the batches, so that the run is done in time (``mixed``). Asked before each wait. Pure."""


class Plan(Struct, kw_only=True):
    """How a session makes batches."""

    run_id: int
    # where files of requests and results lie; made when it is needed
    folder: Path
    # the most rows of one batch, below what the provider takes; None: as many as it takes
    rows: int | None = None
    # rows that come back open go into further batches; False: they are left, for the session to send them live
    again: bool = True
    # the budget; None: there is none
    purse: Purse | None = None
    # the highest price at which requests to a model may be billed in a batch; None: it is not known. Called with the model, the
    # bounds of the largest request, and the instant, in seconds since the epoch
    price: Callable[[str, Bounds, float], Price | None] = _unknown_price
    # seeds that are not to be made up, in rising order
    used_seeds: Sequence[int] = ()


class Rules(Struct, kw_only=True):
    """What the engine of batches goes by, as the live one does."""

    policy: RetryPolicy
    stop: Stop
    redactor: Redactor
    clock: Clock


class Left(Struct, frozen=True, kw_only=True):
    """What is left when the engine of batches has ended.

    why: done: no row waits, and none came back open that a batch would take. waiting: rows wait at the provider, since the
    session was to detach. live: rows are to go live now. stopped: a stop was requested.
    """

    why: Why
    # open batches, and the rows that wait in them
    batches: int = 0
    waiting: int = 0
    # rows that came back open in this session, and were not sent again
    returned: int = 0
    # with ``live``: what was decided
    decision: Decision | None = None
    # until when results of open batches are kept, of the first to go; seconds since the epoch, None: no open batch has any
    kept_until: float | None = None
