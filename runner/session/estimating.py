"""What a whole run will take, before it is sent or while it is under way: ``runner estimate``."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct, structs

from runner.config.endpoint import find_endpoint, with_base_url
from runner.config.job import Job
from runner.durations import format_span
from runner.engine.limits import Kind
from runner.engine.limits.slots import START
from runner.errors import NotReadyError, RunStoppedError
from runner.event_types import Summary
from runner.exports import html
from runner.inputs import scan, spool
from runner.money import CURRENCY, PICO, Money, shown
from runner.prices.book import PriceBook
from runner.prices.guess import plus, times
from runner.prices.interval import Interval
from runner.prices.sample import Drawn, Lane
from runner.session import continuing, identity, prepare, raising, reading, rest, unfit
from runner.session.drawing import open_rows
from runner.session.expecting import basis
from runner.session.identity import Given
from runner.session.opening import open_input, options_of, rooted
from runner.session.options import SessionOptions
from runner.session.pricing import price_book
from runner.session.rest import Basis, Guesses, Rest, Use
from runner.session.sources import Source, job_of, job_without_rows, names_files
from runner.session.to_send import ToSend
from runner.session.wiring import per_minute
from runner.several import amount, unit
from runner.store import samples
from runner.store.reader import StoreReader
from runner.store.runs import KnownRun


class Bounds(Struct, frozen=True, kw_only=True):
    """An estimate and its bounds: with a probability of 95 % if rows were sent for it. high: None if it is not known."""

    low: float
    mid: float
    high: float | None


class Estimate(Struct, frozen=True, kw_only=True):
    """What a run will take. Tokens and costs are those of the whole run, with what it has taken so far; costs are in dollars."""

    # rows that count, and those of them that have no outcome yet. Where several answers of each row are wanted, the rows that are
    # left and those that were sent are answers; where requests that several rows make are sent once, those left are requests
    rows: int
    rows_left: int
    input_tokens: Bounds
    output_tokens: Bounds
    # None: no price is known
    cost: Bounds | None
    # of that: what the rows that are left will cost, and what the run has cost so far
    cost_left: Bounds | None
    cost_spent: float | None
    # what its attempts and open requests may have cost in addition; None: no price is known, or that has no limit
    cost_perhaps: float | None
    currency: str = CURRENCY
    # of the rows that are left: those whose price is not known, about
    unpriced_rows: int = 0
    # until the last row has its outcome; None: not known
    seconds: Bounds | None
    # what sets the pace: ``rpm``, ``tpm``, ``input_tpm``, ``output_tpm`` or ``concurrency``; None: not known
    limited_by: str | None = None
    # from what it was made, and from how many rows that were sent
    basis: Basis
    rows_sent: int = 0
    # the run that would be continued; None: a new one
    run: int | None = None
    # answers that are wanted of each row
    answers: int = 1
    # the model, for words about its price
    model: str | None = None

    def __str__(self) -> str:
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
    job = rooted(with_base_url(job, os.environ), store)
    try:
        find_endpoint(job, os.environ)
    except NotReadyError:
        if job.model is None:
            raise
    with spool.readable(job.input) as path:
        prompts = open_input(path, options_of(job), store)
        scan.refuse_empty(prompts.size, spool.display_name(job.input))
        known = continuing.known_runs(store)
        given = Given(store, prompts, scan.measure(prompts, identity.lengths(known)), job.base_url)
        run = continuing.choose(job, given, known, options).run
        job = raising.settled(job, run)
        to_read, scanned = reading.scan_input(given, run, options, whole=job.dedupe)
        scan.refuse_empty(scanned.rows, spool.display_name(job.input), job.where, prompts.about)
        scan.refuse_duplicates(scanned, job.input, prompts.places)
        unfit.refuse(job, prompts, scanned)
        same = prepare.same_in(job, to_read, options)
        of = ToSend(job=job, prompts=to_read, scanned=scanned, store=store, run=None, options=options, same=same)
        return _Input(given, of, run).estimate()


@contextmanager
def unsent(source: Source, settings: Mapping[str, Any], *, trust: bool) -> Iterator[Job]:
    """Yield the job of a source that is read and not sent: rows in memory are in a file as long as they are looked at."""
    if names_files(source):
        yield job_without_rows(source, settings, trust=trust)
        return
    with TemporaryDirectory(prefix="runner-") as folder, job_of(source, settings, Path(folder, "runner.db"), trust=trust) as job:
        yield job


def refuse_stopped(summary: Summary) -> None:
    """Raise RunStoppedError if a session ended before the rows of a sample had outcomes."""
    if summary.stop_reason is not None:
        raise RunStoppedError(f"the sample was stopped: {summary.stop_reason}; the same call goes on with it", code="cancelled")


class _Input:
    """An input, and the run that would be continued with it."""

    def __init__(self, given: Given, of: ToSend, run: KnownRun | None) -> None:
        self._job, self._given, self._run = of.job, given, run
        limit, answers = of.options.limit, of.job.answers or 1
        self._rows = of.scanned.rows if limit is None else min(limit, of.scanned.rows)
        copies = of.same.rows * answers if of.same is not None else 0
        self._requests, self._each_alone = self._rows * answers - copies, answers == 1 and not of.job.dedupe
        self._money, self._settled = Money(), 0
        if run is not None:
            with StoreReader(given.store) as reader:
                self._money, stored = reader.money(run.id), reader.run(run.id)
            self._settled = stored.done + stored.failed
            if self._money.unknown and not samples.is_attempted(given.store, run.id):
                # nothing was sent, or all that it has was taken over
                self._money = Money()
        self._of = structs.replace(of, run=run.id) if run is not None and self._settled else of

    def estimate(self) -> Estimate:
        """Return what the run will take."""
        book, run = price_book(self._job), self._run
        drawn, found = None, None
        if run is not None and self._settled:
            drawn = rest.drawn_rows(self._given.store, run.id, (self._given.digest, self._requests), self._settled)
            left = max(0, self._rows - self._settled) if self._each_alone else self._of.number()
            found = rest.sampled(self._given.store, run.id, drawn, self._money, left) if drawn is not None else None
            found = found or rest.answered(self._given.store, run.id, self._job.model or "", self._of.number())
        if found is None or (found.cost is None and book is not None):
            # what was sent may have been sent before its price was stated
            found = self._by_sizes(book)
        return self._whole(found, drawn)

    def _by_sizes(self, book: PriceBook | None) -> Rest:
        guesses = Guesses(book, time.time())
        found = open_rows(self._of, guesses)
        return guesses.rest(found.number)

    def _whole(self, found: Rest, drawn: Drawn | None) -> Estimate:
        """Return what the run takes in all, if this is what its rest takes."""
        run, money = self._run, self._money
        so_far = samples.tokens_so_far(self._given.store, run.id) if run is not None else None
        spent = money.spent if money.known else None
        seconds, limited_by = pace(found, self._job, drawn.lanes if drawn is not None else {})
        # a run of which nothing is left has cost what it has cost
        left = Interval(low=0, mid=0, high=0) if found.cost is None and not found.left and spent is not None else found.cost
        return Estimate(
            rows=self._rows,
            rows_left=found.left,
            input_tokens=_bounds(found.input, so_far.input_tokens if so_far is not None else 0),
            output_tokens=_bounds(found.output, so_far.output_tokens if so_far is not None else 0),
            cost=_bounds(left, spent or 0, PICO) if left is not None else None,
            cost_left=_bounds(left, 0, PICO) if left is not None else None,
            cost_spent=spent / PICO if spent is not None else None,
            cost_perhaps=money.perhaps / PICO if spent is not None and money.perhaps is not None else None,
            unpriced_rows=found.unpriced,
            seconds=_bounds(seconds, 0) if seconds is not None else None,
            limited_by=limited_by,
            basis=found.basis,
            rows_sent=found.learned,
            run=run.id if run is not None else None,
            answers=self._job.answers or 1,
            model=self._job.model,
        )


def pace(found: Rest, job: Job, lanes: Mapping[str, Lane]) -> tuple[Interval | None, str | None]:
    """Return how many seconds the rest will take, and what sets the pace; None for what is not known.

    lanes: what the requests of a sample met with. The pace is that of the tightest limit per minute, or of the requests that may
    be open at once: the fixed number, or one between what the sample came to and the highest that is tried.
    """
    paces = [
        (kind, times(_amount(kind, use), 60 / limit))
        for use in found.uses
        for kind, limit in _limits(use, per_minute(job), lanes).items()
    ]
    if found.busy_s is not None and found.left:
        most = min(job.max_concurrency if job.concurrency is None else job.concurrency, found.left)
        reached = sum(lane.slots for lane in lanes.values()) or START
        least = min(most, reached if job.concurrency is None else most)
        busy = found.busy_s
        open_s = Interval(low=busy.low / most, mid=busy.mid / math.sqrt(most * least), high=busy.high / least)
        paces.append(("concurrency", open_s))
    if not paces:
        return (Interval(low=0, mid=0, high=0) if not found.left else None), None
    slowest = max(paces, key=lambda one: one[1].mid)[0]
    low, mid, high = (max(getattr(one, name) for _, one in paces) for name in ("low", "mid", "high"))
    return Interval(low=low, mid=mid, high=high), slowest


def _limits(use: Use, asked: Mapping[Kind, float], lanes: Mapping[str, Lane]) -> dict[str, float]:
    """Return the limits per minute for the rows of some models: the lowest that the job sets or the server reported."""
    found: dict[str, float] = dict(asked.items())
    for model in use.models:
        for kind, limit in (lanes[model].limits if model in lanes else {}).items():
            found[kind] = min(limit, found.get(kind, limit))
    return {kind: limit for kind, limit in found.items() if limit > 0}


def _amount(kind: str, use: Use) -> Interval:
    match kind:
        case "rpm":
            return use.requests
        case "tpm":
            return plus(use.input, use.output)
        case "input_tpm":
            return use.input
        case _:
            return use.output


def _bounds(of: Interval, known: float, unit: int = 1) -> Bounds:
    high = (of.high + known) / unit if math.isfinite(of.high) else None
    return Bounds(low=(of.low + known) / unit, mid=(of.mid + known) / unit, high=high)


def _money(dollars: float) -> str:
    return shown(round(dollars * PICO))
