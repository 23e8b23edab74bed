"""The parts of a session, what it counts and costs, and its summary. The base class of ``Working``."""

from typing import Any

from anyio import to_thread

from runner.config.endpoint import Endpoint
from runner.config.job import Job
from runner.engine.attempt import Attempts
from runner.engine.limits import Lanes
from runner.engine.more import More
from runner.engine.stop import Stop
from runner.event_types import Noted, Summary
from runner.money import Money, asks_for_flex, costs
from runner.prices.book import PriceBook
from runner.session import in_store, pricing, wiring
from runner.session.audience import Audience
from runner.session.background import fleet_of
from runner.session.backlog import Backlog
from runner.session.books import Books
from runner.session.budgeting import Purse
from runner.session.course import Noting
from runner.session.faster import with_advice
from runner.session.late import LateUsages
from runner.session.meter import Meter
from runner.session.stats import SessionStats
from runner.session.steering import Steering
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts


class Counting:
    """The parts of a session and its counts. backlog: of who reads the results."""

    def __init__(
        self, job: Job, endpoint: Endpoint, store: RunStore, stop: Stop, audience: Audience, backlog: Backlog | None = None
    ) -> None:
        self._job, self._endpoint, self._store, self._stop = job, endpoint, store, stop
        self._tell, self._hear, self._backlog, self.feed = audience.tell, audience.listener, backlog, audience.feed
        self.feed.run, self._stats, self._books = store.run_id, SessionStats(), Books()
        # what is looked up once: the prices, and what earlier sessions have cost
        self._prices: tuple[PriceBook | None] | None = None
        self._money: Money | None = None
        self._before = RunCounts(done=0, failed=0, broken=0, attempted=False)  # what the run held when the session began
        self._limits, self._limits_note = wiring.limits(job)
        self._fleet = fleet_of(job, endpoint, self._limits)
        self._lanes = Lanes(self._limits) if self._fleet is None else self._fleet.lanes
        self._meter = Meter(self._stats, self._lanes)
        self._noting = Noting(self._lanes)
        self._attempts: Attempts[Any] | None = None
        self._purse: Purse | None = None  # the budget; None if the job has none
        self.late = LateUsages(store, self._stats)  # what is known late of requests that workers had
        self._beside = More(self._lanes.last)
        self.steering = Steering(job, self._lanes, stop, store, self.note)
        self.steering.told = lambda one: self.feed.steered(one.by, one.what)
        self.steering.pace = self._meter.pace
        self.feed.paused = lambda: self._lanes.halt.on

    async def prices(self) -> PriceBook | None:
        """Return the prices of the job, looked up once. Raises UsageError for prices that cannot be used."""
        if self._prices is None:
            self._prices = (await to_thread.run_sync(pricing.price_book, self._job),)
        return self._prices[0]

    async def money(self) -> Money:
        """Return what the run had cost when the session began, added up once. Raises StoreError."""
        if self._money is None:
            if (book := await self.prices()) is not None:
                await self._store.price_again(book.price, book.highest)
            self._money = await self._store.money()
        return self._money

    def _summed(self, now: RunCounts, **more: Any) -> Summary:
        """Return the summary of the session. now: what the run holds. more: what it says of the input and of the end."""
        stats = self._stats
        first_token, duration = stats.quantiles()
        money = self._books.money
        return Summary(
            run=self._store.run_id,
            done=now.done,
            failed=now.failed + now.broken,
            broken=now.broken,
            done_now=stats.done,
            failed_now=stats.failed,
            kept=stats.kept,
            attempts_now=stats.attempts,
            answers=self._store.answers,
            input_tokens=stats.input_tokens,
            output_tokens=stats.output_tokens,
            unknown_finish=stats.unknown_finish,
            doubtful=stats.doubtful,
            time_to_first_token=first_token,
            duration=duration,
            elapsed_s=self._meter.elapsed_s,
            causes=now.causes,
            beyond=now.beyond,
            reused=stats.reused,
            shared=stats.shared,
            standard_tier=stats.standard_tier if asks_for_flex(self._job.tier, self._job.params.extra_body) else 0,
            cost_now=costs(self._books.now, None)["cost"],
            time=with_advice(self._noting.time()),
            **costs(money, self._projected(money, now, more.get("left", 0))),
            **in_store.told(
                self._store, ended_early=stats.ended_early or self._before.attempted, several=self._fleet is not None
            ),
            **more,
        )

    def _projected(self, money: Money, now: RunCounts, left: int) -> int | None:
        """Return what the run will have cost, in picodollars; None if unknown. left: its rows without an outcome."""
        return self._meter.projected(money, now.paid, left)

    def note(self, sentence: str) -> None:
        """Tell the user what was learned."""
        self._tell(Noted(note=sentence))
