"""Measures a session while it goes on: how far it is, how fast, and how long it will still take."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import structs

from runner.engine.attempt import Attempts
from runner.engine.limits import Lanes
from runner.event_types import Progress, Started
from runner.interfaces import Client
from runner.money import Money, Projection, costs, projected
from runner.pace import BatchesPace, Pace, WorkerCounts
from runner.session import reached
from runner.session.books import Books
from runner.session.forecast import Forecast
from runner.session.speed import Speed
from runner.session.stats import SessionStats


class Meter:
    """The figures of one session. attempts: None until the session sends."""

    def __init__(self, stats: SessionStats, lanes: Lanes) -> None:
        self._stats, self._lanes = stats, lanes
        self._forecast, self._speed = Forecast(), Speed()
        self.start = time.monotonic()
        # paid: rows for which earlier sessions have sent something
        self._rows = self._restored = self._restored_failed = self._paid = 0
        self._answers: int | None = None
        # of what was left when the session began: what rows get from others with the same request, at no cost
        self.copies = 0
        # requests that all rows of the run take, where equal ones are sent once; None: not known, or one for each answer
        self.requests: int | None = None
        self.attempts: Attempts[Any] | None = None
        self.books = Books()
        # it may have workers
        self.client: Client[Any] | None = None
        # the rows that fail in the session are sent again by the next one like it
        self.retries = False
        # why requests wait, if it is for the budget
        self.waiting: Callable[[], str | None] = lambda: None
        self.batches: Callable[[], BatchesPace | None] = lambda: None
        # what answers cost of rows that had one before the session already
        self.again = 0
        # what a sample says of the rows that were left when the session began
        self.expected: Projection | None = None

    def begin(
        self,
        run: int,
        path: str,
        rows: int,
        restored: int,
        failed: int,
        notes: tuple[str, ...],
        *,
        paid: int = 0,
        answers: int | None = None,
    ) -> Started:
        """Take the rows from which a session starts, and return the event that tells them.

        rows: those that have an outcome at the end, if the session is not stopped. restored: those of them that have one from
        earlier sessions and are not sent again; failed: of these, the failed ones. paid: rows for which those sent something.
        answers: that will have an outcome at the end, if each row is to have several; the other numbers are of answers then.
        """
        self._answers = answers
        self._rows, self._restored, self._restored_failed, self._paid = rows, restored, failed, paid
        return Started(run=run, input=path, rows=rows, restored=restored, restored_failed=failed, notes=notes, answers=answers)

    def reopen(self, rows: int) -> None:
        """Count rows that have failed in earlier sessions as open: they are sent again."""
        self._restored -= rows
        self._restored_failed -= rows

    @property
    def _wanted(self) -> int:
        return self._rows if self._answers is None else self._answers

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session began."""
        return time.monotonic() - self.start

    def progress(self) -> Progress:
        """Return how far the session is. Called about twice a second: the rates are measured from call to call."""
        stats, forecast, elapsed_s = self._stats, self._forecast, self.elapsed_s
        sent = stats.sent()
        forecast.see(elapsed_s, sent, self._lanes.states())
        rates = self._speed.see(elapsed_s, sent, held=forecast.held)
        return Progress(
            rows=self._rows,
            answers=self._answers,
            restored=self._restored,
            restored_failed=self._restored_failed,
            done=stats.done,
            failed=stats.failed,
            kept=stats.kept,
            in_flight=self._lanes.in_flight,
            output_tokens=stats.output_tokens or 0,
            elapsed_s=elapsed_s,
            pace=self.pace(),
            rows_per_s=rates.rows,
            requests_per_s=rates.requests,
            tokens_per_s=rates.tokens,
            left_s=self._left_s(),
            **self._costs(),
        )

    def used(self) -> reached.Progress:
        """Return how far the run is, for its budget."""
        again = self._stats.failed - self._stats.broken if self.retries else 0
        money = self.books.money
        return reached.Progress(money.spent, self._paid_now, self.bought(self._left) + again, money.unsure)

    @property
    def _paid_now(self) -> int:
        stats = self._stats
        return self._paid + stats.done + stats.failed - stats.broken - stats.shared

    @property
    def _left(self) -> int:
        return max(0, self._wanted - self._restored - self._stats.done - self._stats.failed)

    def bought(self, left: int) -> int:
        """Return how many requests go out for what is left: nothing is sent for rows that get the answers of others."""
        return max(0, left - max(0, self.copies - self._stats.shared))

    def projected(self, money: Money, rows: int, left: int, again: int = 0) -> int | None:
        """Return what the run will have cost, as ``money.projected`` does."""
        answered = self._stats.done + self._restored > self._restored_failed
        return projected(money, rows, left, self.expected, answered=answered, again=again)

    def _costs(self) -> dict[str, float | None]:
        money, left = self.books.money, self.bought(self._left)
        if self.retries:
            # its rows may be asked in another way than all before: they alone tell of each other
            whole = projected(money, self._paid_now - self._paid, left, again=money.spent - self.books.now.spent)
        else:
            whole = self.projected(money, self._paid_now, left, self.again)
        of = costs(money, whole)
        return {"cost": of["cost"] if money.priced else None, "cost_projected": of["cost_projected"] if money.priced else None}

    def pace(self) -> Pace:
        """Return what the session is doing now."""
        retrying = self.attempts.retrying() if self.attempts is not None else None
        lanes, words = self._lanes.states(), self.waiting()
        if words is not None and not self._lanes.halt.on:
            lanes = tuple(structs.replace(lane, waiting=lane.waiting or words) for lane in lanes)
        workers: WorkerCounts | None = getattr(self.client, "workers", None)
        if (missing := getattr(self.client, "missing", None)) is not None and not self._lanes.halt.on:
            lanes = tuple(structs.replace(lane, waiting=missing) for lane in lanes)
        halt = self._lanes.halt
        return Pace(
            at=time.time(),
            lanes=lanes,
            retrying=retrying,
            left_s=self._left_s(),
            requests=self.requests,
            workers=workers,
            halted_at=halt.at if halt.on else None,
            batches=self.batches(),
        )

    def last_pace(self) -> Pace | None:
        """Return what is kept when the session has ended; None if it tells nothing that the store does not know."""
        return self.pace() if self.requests is not None else None

    def _left_s(self) -> float | None:
        if self.batches() is not None:
            # nobody knows when a provider has answered a batch
            return None
        return self._forecast.left_s(self.bought(self._left))
