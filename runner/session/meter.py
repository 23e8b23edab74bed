"""Measures a session while it goes on: how far it is, how fast, and how long it will still take."""

import time

from runner.engine.attempt import Attempts
from runner.engine.limits import Lanes
from runner.event_types import Progress, Started
from runner.money import costs, projected
from runner.pace import Pace
from runner.providers.http import HttpExchange
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
        self.attempts: Attempts[HttpExchange] | None = None
        self.books = Books()

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

    def _costs(self) -> dict[str, float | None]:
        money, stats = self.books.money, self._stats
        settled = self._restored + stats.done + stats.failed
        paid = self._paid + stats.done + stats.failed - stats.broken
        of = costs(money, projected(money, paid, max(0, self._wanted - settled)))
        return {"cost": of["cost"] if money.priced else None, "cost_projected": of["cost_projected"] if money.priced else None}

    def pace(self) -> Pace:
        """Return what the session is doing now."""
        retrying = self.attempts.retrying() if self.attempts is not None else None
        return Pace(at=time.time(), lanes=self._lanes.states(), retrying=retrying, left_s=self._left_s())

    def _left_s(self) -> float | None:
        settled = self._restored + self._stats.done + self._stats.failed
        return self._forecast.left_s(max(0, self._wanted - settled))
