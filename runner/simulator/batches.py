"""The batches of one simulator: each has a task, which answers its requests over the time that it takes.

    validating -> working -> finalizing -> ended
        |            |
        +------------+-> cancelling -> ended

Anthropic's batches skip validating and finalizing.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Literal

from runner.simulator.answering import Shared
from runner.simulator.batch_check import Fault
from runner.simulator.batch_files import Files, StoredFile
from runner.simulator.batch_lots import Lots
from runner.simulator.batch_work import Counts
from runner.simulator.dialect import Refusal

Phase = Literal["validating", "working", "finalizing", "cancelling", "ended"]
End = Literal["completed", "failed", "expired", "cancelled"]


class Batch:
    """A batch. All instants are seconds since the epoch; None: it has not come."""

    def __init__(self, number: int, batch_id: str, stored: StoredFile, *, window_s: float) -> None:
        self.number = number
        self.id = batch_id
        self.account = stored.account
        # its requests
        self.stored = stored
        self.metadata: dict[str, str] | None = None
        self.endpoint = ""
        self.total = 0
        self.counts = Counts()
        self.phase: Phase = "working"
        self.end: End | None = None
        self.faults: list[Fault] = []
        # a file of results: of answers and of errors, or of both
        self.output: StoredFile | None = None
        self.errors: StoredFile | None = None
        self.created_at = time.time()
        self.expires_at = self.created_at + window_s
        self.working_at: float | None = None
        self.finalizing_at: float | None = None
        self.cancelling_at: float | None = None
        self.ended_at: float | None = None
        # requests for its state
        self.looks = 0
        # set when something happens that its task waits for
        self.changed = asyncio.Event()

    @property
    def tokens(self) -> int:
        """Tokens that it holds in the queue."""
        return 0 if self.phase == "ended" else self.stored.bytes // 4


class Batches:
    """The batches of one dialect. noun: what its ids begin with."""

    def __init__(self, shared: Shared, files: Files, lots: Lots, noun: str) -> None:
        self._behaviour = shared.behaviour
        self._counters = shared.counters
        self._lots = lots
        self._noun = noun
        self._batches: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.files = files
        self.made = 0

    def add(self, stored: StoredFile, run: "Callable[[Batch, float], asyncio.Task[None]]", **fields: object) -> Batch:
        """Make a batch of a file of requests, and start it. run: makes its task of it and the seconds that it takes."""
        self.made += 1
        batch_id = f"{self._noun}_{uuid.uuid4().hex[:24]}"
        batch = Batch(self.made, batch_id, stored, window_s=self._behaviour.batch_window_s)
        for name, value in fields.items():
            setattr(batch, name, value)
        self._counters.batches += 1
        self._batches[batch.id] = batch
        task = self._tasks[batch.id] = run(batch, self._lots.delay_s(batch.number))
        task.add_done_callback(lambda ended: self._forget(batch.id, ended))
        return batch

    def look(self, batch_id: str, account: str) -> Batch:
        """Return a batch for somebody who asks for its state. Raises Refusal (404)."""
        batch = self.find(batch_id, account)
        batch.looks += 1
        every = self._behaviour.batch_404_every
        if batch.looks <= self._behaviour.batch_404 or (every and batch.looks % every == 0):
            raise _unknown(batch_id)
        return batch

    def find(self, batch_id: str, account: str) -> Batch:
        """Return a batch of an account. Raises Refusal (404)."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.account != account:
            raise _unknown(batch_id)
        return batch

    def of(self, account: str) -> Iterator[Batch]:
        """Yield the batches of an account that are in lists, newest first."""
        before = time.time() - self._behaviour.batch_unlisted_s
        return (one for one in reversed(self._batches.values()) if one.account == account and one.created_at <= before)

    def queued_tokens(self, account: str, *, besides: Batch | None = None) -> int:
        """Return the tokens that the batches of an account that have not ended hold together."""
        return sum(one.tokens for one in self._batches.values() if one.account == account and one is not besides)

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel a batch, unless that was done before."""
        if batch.cancelling_at is None:
            batch.cancelling_at = time.time()
            batch.phase = "cancelling"
            batch.changed.set()

    def delete(self, batch: Batch) -> None:
        """Delete a batch that has ended, with its results."""
        del self._batches[batch.id]
        for stored in (batch.output, batch.errors):
            if stored is not None:
                self.files.delete(stored)

    def _forget(self, batch_id: str, task: asyncio.Task[None]) -> None:
        """Let go of a task that has ended, unless it has raised: then closing says so."""
        if not task.cancelled() and task.exception() is None:
            self._tasks.pop(batch_id, None)

    async def close(self) -> None:
        """End all tasks. Raises what one of them has raised."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._batches.clear()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def _unknown(batch_id: str) -> Refusal:
    return Refusal(404, f"No batch found with id '{batch_id}'.")
