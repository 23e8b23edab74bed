"""What a session gives to the engine of batches, what it is asked by it, and what it gets back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from runner.batches import Reask, StoredBatch
from runner.engine.admitting import Purse
from runner.engine.clock import Clock
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.entries import LateUsage
from runner.model import Entry
from runner.text import Redactor

Why: TypeAlias = Literal["done", "waiting", "live", "stopped"]
"""Why the engine of batches has ended: see ``Left``."""


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


async def _nothing_late(late: Sequence[LateUsage]) -> None:
    """Drop what has come late."""


class Told(Struct, kw_only=True):
    """What the engine of batches calls. All are called in the event loop."""

    save: Save
    # a sentence for the user (``Noted``), without secrets
    note: Callable[[str], None]
    # a batch has changed, or an amount of it has come: progress may be shown anew
    changed: Callable[[], None] = lambda: None
    # usage of attempts that were booked as ``batch_late``, which is known now (``LateUsages.book``)
    late: Callable[[Sequence[LateUsage]], object] = _nothing_late


class Decision(Struct, frozen=True, kw_only=True):
    """What is to become of the batches now. cancel: ids of the batches that the provider is to be asked to cancel.

    release: ids of batches whose rows go live although the batch has not ended: that may be paid for twice. live: rows that are
    open go live from now on, and no further batch is made of them. look_s: seconds until this is to be asked again, at the latest.
    """

    cancel: Sequence[int] = ()
    release: Sequence[int] = ()
    live: bool = False
    look_s: float = 60.0


class Until(Protocol):
    """Decides when batches are given up, so that the run is done in time (``mixed``). Asked before each wait. Pure."""

    def __call__(self, batches: Sequence[StoredBatch], open_rows: int, now: float) -> Decision:
        """Return what is to be done. batches: in open states. open_rows: rows that came back open. now: seconds since the epoch."""
        ...


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
    open: int = 0
    # until when the results of the first of the open batches that have ended are kept; seconds since the epoch
    kept_until: float | None = None
