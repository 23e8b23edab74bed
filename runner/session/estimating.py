"""What a whole run will take, before it is sent or while it is under way: ``runner estimate``."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct, structs

from runner.batches import BATCH_TIER
from runner.config.job import Job
from runner.durations import format_span
from runner.errors import RunStoppedError
from runner.event_types import Summary
from runner.exports import html
from runner.inputs import scan, spool
from runner.money import CURRENCY, PICO, shown, tier_asked
from runner.prices.book import PriceBook
from runner.prices.interval import Interval
from runner.prices.sample import Drawn
from runner.session import continuing, identity, learned, like_sample, opening, prepare, raising, reading, rest, reuse, unfit
from runner.session.drawing import open_rows
from runner.session.duration import duration
from runner.session.expecting import basis
from runner.session.identity import Given
from runner.session.opening import open_input, options_of
from runner.session.options import SessionOptions
from runner.session.pricing import price_book
from runner.session.rest import Basis, Guesses, Rest
from runner.session.sources import Source, job_of, job_of_async, job_without_rows, names_files
from runner.session.to_send import ToSend
from runner.several import amount, unit
from runner.store.places import place_of
from runner.store.reader import StoreReader
from runner.store.runs import KnownRun
from runner.store.samples import RunSpent


class Bounds(Struct, frozen=True, kw_only=True):
    """An estimate and its bounds: with a probability of 95 % if rows were sent for it. high: None if it is not known."""

    low: float
    mid: float
    high: float | None


class Estimate(Struct, frozen=True, kw_only=True):
    """What a run will take. Tokens and costs are those of all rows that count, with what they have taken so far; in dollars."""

    # rows that count, and those of them that have no outcome yet. Where several answers of each row are wanted, the rows that are
    # left and those that were sent are answers; where requests that several rows make are sent once, those left are requests
    rows: int
    rows_left: int
    input_tokens: Bounds
    output_tokens: Bounds
    # None: no price is known
    cost: Bounds | None
    # of that: what the rows that are left will cost, and what those that count have cost so far
    cost_left: Bounds | None
    cost_spent: float | None
    # what their attempts and open requests may have cost in addition; None: no price is known, or that has no limit
    cost_perhaps: float | None
    currency: str = CURRENCY
    # attempts so far whose usage is not known, and that are perhaps billed: they, and others like them, raise the high bound of
    # ``cost``. So do requests that were open when a session ended, at a kill or a stop, at the most so many; no others like them
    # are expected. Without all of these it is this; None: not known
    perhaps_billed: int = 0
    open_at_ends: int = 0
    cost_high_without: float | None = None
    # of the rows that are left: those whose price is not known, about
    unpriced_rows: int = 0
    # until the last row has its outcome; None: not known
    seconds: Bounds | None
    # what sets the pace: ``rpm``, ``tpm``, ``input_tpm``, ``output_tpm`` or ``concurrency``; None: not known
    limited_by: str | None = None
    # from what it was made, and from how many rows that were sent
    basis: Basis
    rows_sent: int = 0
    # answers of earlier runs to the same requests, which the run takes over: how many from each
    reused: dict[int, int] = {}
    # rows that ask the same as an earlier one, whose answer they get
    shared: int = 0
    run: int | None = None  # that would be continued; None: a new one
    answers: int = 1  # that are wanted of each row
    # the model, for words about its price, the service tier that is asked for, and which way requests go: live, batch or mixed
    model: str | None = None
    tier: str | None = None
    mode: str = "live"

    def __str__(self) -> str:
        if not self.rows_left:
            spent = f", {_money(self.cost_spent)} was spent" if self.cost_spent is not None and self.run is not None else ""
            return f"{amount(self.rows, self.answers)}, nothing is left to send{spent}"
        cost = "of unknown cost" if self.cost is None else f"about {_money(self.cost.mid)} ({between(self.cost, _money)})"
        return f"{amount(self.rows, self.answers)}, {cost}, {self.words}"

    @property
    def words(self) -> str:
        """From what it was made, in words."""
        return basis(self.basis, self.rows_sent, unit(self.answers))

    def __repr__(self) -> str:
        return f"<Estimate: {self}>"

    def _repr_html_(self) -> str:
        pairs: list[tuple[str, object]] = [("rows", self.rows), (f"{unit(self.answers)}s left", self.rows_left)]
        figures: list[tuple[str, Bounds | None, Callable[[float], str]]] = [
            ("input tokens", self.input_tokens, count),
            ("output tokens", self.output_tokens, count),
            ("cost", self.cost, _money),
            (f"cost of the {unit(self.answers)}s left", self.cost_left, _money),
            ("time", self.seconds, format_span),
        ]
        pairs += [(name, f"about {show(of.mid)} ({between(of, show)})") for name, of, show in figures if of is not None]
        return html.table((), pairs, str(self))


def _money(dollars: float) -> str:
    return shown(round(dollars * PICO))


def count(number: float) -> str:
    """Return a number of tokens, with three digits of a large one: it is no more exact."""
    digits = max(0, len(str(round(number))) - 3)
    return f"{round(number, -digits):,.0f}"


def between(of: Bounds, show: Callable[[float], str]) -> str:
    """Return what an estimate lies between. show: how a figure is written."""
    return f"{show(of.low)} or more" if of.high is None else f"{show(of.low)} to {show(of.high)}"


def estimate_job(job: Job, db: str | Path, options: SessionOptions) -> Estimate:
    """Return what a run of a job will take, by the sizes of its rows, or by what it has sent so far. Sends nothing.

    No key is needed. options: those of the run. Raises UsageError as ``run`` does, also if no model is set, and StoreError.
    """
    store = Path(db).resolve()
    job = opening.unsent(job, store)
    with spool.readable(job.input) as path:
        prompts = open_input(path, options_of(job), store)
        scan.refuse_empty(prompts.size, spool.display_name(job.input))
        known = continuing.known_runs(store)
        given = Given(store, prompts, scan.measure(prompts, identity.lengths(known)), place_of(job.settings()))
        run = continuing.choose(job, given, known, options).run
        job = raising.settled(job, run)
        to_read, scanned = reading.scan_input(given, run, options, whole=job.dedupe)
        scan.refuse_empty(scanned.rows, spool.display_name(job.input), job.where, prompts.about)
        scan.refuse_duplicates(scanned, job.input, prompts.places)
        unfit.refuse(job, prompts, scanned)
        same = prepare.same_in(job, to_read, options)
        of = ToSend(job=job, prompts=to_read, scanned=scanned, store=store, run=None, options=options, same=same)
        return _Input(given, structs.replace(of, taken=_taken_over(of, run)), run).estimate()


def _taken_over(of: ToSend, run: KnownRun | None) -> dict[str, int]:
    """Return the answers that the next session of a run takes over from earlier ones. run: None for a new one."""
    job, limit, rows = of.job, of.options.limit, of.scanned.rows
    # whoever asks for a new run in any case wants new answers
    wanted = job.reuse and not (of.options.new and not continuing.is_option(job, "reuse"))
    if not wanted or (run is not None and run.compared) or not of.store.exists():
        return {}
    rows = rows if limit is None else min(limit, rows)
    return reuse.foreseen(
        reuse.Asking(
            job=job, prompts=of.prompts, scanned=of.scanned, store=of.store, run=run.id if run is not None else 0, rows=rows
        )
    )


@contextmanager
def unsent(source: Source, settings: Mapping[str, Any], *, trust: bool) -> Iterator[Job]:
    """Yield the job of a source that is read and not sent: rows in memory are in a file as long as they are looked at."""
    if names_files(source):
        yield job_without_rows(source, settings, trust=trust)
        return
    with TemporaryDirectory(prefix="runner-") as folder, job_of(source, settings, Path(folder, "runner.db"), trust=trust) as job:
        yield job


@asynccontextmanager
async def unsent_async(source: Source, settings: Mapping[str, Any], *, trust: bool) -> AsyncIterator[Job]:
    """Do what ``unsent`` does, inside an event loop."""
    if names_files(source):
        yield await prepare.in_thread(lambda: job_without_rows(source, settings, trust=trust))
        return
    with TemporaryDirectory(prefix="runner-") as folder:
        async with job_of_async(source, settings, Path(folder, "runner.db"), trust=trust) as job:
            yield job


def refuse_stopped(summary: Summary) -> None:
    """Raise RunStoppedError if a session ended before the rows of a sample had outcomes."""
    if summary.stop_reason is not None:
        raise RunStoppedError(f"the sample was stopped: {summary.stop_reason}; the same call goes on with it", code="cancelled")


class _Input:
    """An input, and the run that would be continued with it."""

    def __init__(self, given: Given, of: ToSend, run: KnownRun | None) -> None:
        self._job, self._given, self._run = of.job, given, run
        self._rates = learned.as_asked(of.job, price_book(of.job))
        limit, answers = of.options.limit, of.job.answers or 1
        self._rows = of.scanned.rows if limit is None else min(limit, of.scanned.rows)
        copies = of.same.rows * answers if of.same is not None else 0
        self._requests = self._rows * answers - copies
        self._so_far, self._settled = RunSpent(), 0
        if run is not None:
            with StoreReader(given.store) as reader:
                stored = reader.run(run.id)
            self._so_far, self._settled = of.so_far(run.id), stored.done + stored.failed
        self._of = structs.replace(of, run=run.id) if run is not None and self._settled else of

    def estimate(self) -> Estimate:
        """Return what the run will take."""
        book, run = self._rates.book, self._run
        drawn, found = None, None
        if run is not None and self._settled:
            drawn = rest.drawn_rows(self._given.store, run.id, (self._given.digest, self._requests), self._settled)
            found = self._sampled(run, drawn) if drawn is not None else None
            if found is None:
                drawn, found = like_sample.of_run(self._of, run.id, self._settled, self._rates)
            found = found or self._like_those_answered(run)
        if found is None or (found.cost is None and book is not None):
            # what was sent may have been sent before its price was stated
            found = self._by_sizes(book)
        return self._whole(found, drawn)

    def _sampled(self, run: KnownRun, drawn: Drawn) -> Rest | None:
        left = self._of.number()
        return rest.sampled(self._given.store, run.id, drawn, self._so_far, left, self._rates) if left else None

    def _like_those_answered(self, run: KnownRun) -> Rest | None:
        left = open_rows(self._of, Guesses(self._rates.book, self._rates.at))
        model, most = self._job.model or "", left.guesses.most()
        return rest.answered(self._given.store, run.id, model, left.number, self._rates, most=most)

    def _by_sizes(self, book: PriceBook | None) -> Rest:
        guesses = Guesses(book, self._rates.at)
        found = open_rows(self._of, guesses)
        return guesses.rest(found.number)

    def _whole(self, found: Rest, drawn: Drawn | None) -> Estimate:
        """Return what the run takes in all, if this is what its rest takes."""
        run, so_far = self._run, self._so_far
        money = so_far.money
        spent = money.spent if money.known else None
        seconds, limited_by = duration(found, self._job, drawn.lanes if drawn is not None else {})
        # a run of which nothing is left has cost what it has cost
        left = Interval(low=0, mid=0, high=0) if found.cost is None and not found.left and spent is not None else found.cost
        certain = found.high_certain if found.high_certain is not None else left.high if left is not None else math.inf
        return Estimate(
            rows=self._rows,
            rows_left=found.left,
            input_tokens=_bounds(found.input, so_far.input_tokens),
            output_tokens=_bounds(found.output, so_far.output_tokens),
            cost=_bounds(_plus(left, self._perhaps(found)), spent or 0, PICO) if left is not None else None,
            cost_left=_bounds(left, 0, PICO) if left is not None else None,
            cost_spent=spent / PICO if spent is not None else None,
            cost_perhaps=money.perhaps / PICO if spent is not None and money.perhaps is not None else None,
            perhaps_billed=so_far.unknown,
            open_at_ends=so_far.at_ends.number,
            cost_high_without=(certain + (spent or 0)) / PICO if left is not None and math.isfinite(certain) else None,
            unpriced_rows=found.unpriced,
            seconds=_bounds(seconds, 0) if seconds is not None else None,
            limited_by=limited_by,
            basis=found.basis,
            rows_sent=found.learned,
            reused=dict(Counter(self._of.taken.values())),
            shared=self._of.same.rows if self._of.same is not None else 0,
            run=run.id if run is not None else None,
            answers=self._job.answers or 1,
            model=self._job.model,
            tier=BATCH_TIER if self._job.mode != "live" else tier_asked(self._job.tier, self._job.params.extra_body),
            mode=self._job.mode,
        )

    def _perhaps(self, found: Rest) -> float:
        """Return what attempts of the run may have cost beyond what is known."""
        money, at_ends = self._so_far.money, self._so_far.at_ends
        bound = math.inf if money.perhaps is None else money.perhaps - at_ends.cost
        # while rows are left, all is an estimate: what is not known of an attempt is taken for as long as an answer
        like = found.answer_cost if found.left else None
        if like is None:
            return bound + at_ends.cost
        # what was open when a session ended counts once, as the books have it
        return min(bound, money.unsure + self._so_far.unknown * like) + at_ends.cost + at_ends.unlimited * like


def _plus(one: Interval, perhaps: float) -> Interval:
    return Interval(low=one.low, mid=one.mid, high=one.high + perhaps)


def _bounds(of: Interval, known: float, unit: int = 1) -> Bounds:
    high = (of.high + known) / unit if math.isfinite(of.high) else None
    return Bounds(low=(of.low + known) / unit, mid=(of.mid + known) / unit, high=high)
