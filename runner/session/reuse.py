"""Takes over the answers that earlier runs of the store have to the very requests that a new run would send.

The requests of an earlier run are made again, from the rows as they are stored and the settings of that run. A row counts only if
its fingerprint shows that it is stored whole. Which runs these are: ``earlier``. Which requests are the same: ``digests``.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from anyio import to_thread
from msgspec import Struct

from runner.config.job import Job
from runner.engine.stop import Stop
from runner.event_types import Event, Noted
from runner.inputs.keys import fingerprint, is_plain, keyed, loose
from runner.inputs.prompts import Template, make_item, stored_fields
from runner.inputs.scan import PromptFile, Scan
from runner.interfaces import Provider
from runner.model import Item, Row
from runner.session import earlier, wiring
from runner.session.digests import digest
from runner.session.earlier import FIRST, Source
from runner.session.opening import template_of
from runner.session.prepare import Plan
from runner.session.shaped import check_of
from runner.several import key_of
from runner.store import reuse
from runner.store.checkpoint import RunStore
from runner.store.places import place_of
from runner.store.reuse import Comparison, Narrow, TakenOver, Wanted

_BATCH = 1_000
_FEW, _TIMES = 20_000, 20
"""Rows of an earlier run whose requests are made, at most: so many, or so many for each row that is wanted. Of a run with more of
them only rows with the same key count, unless both templates name the same fields."""
_PATIENCE_S = 2.0
"""Seconds after which a person is told why nothing is sent yet."""
_Tell = Callable[[Event], None]


class Asking(Struct, frozen=True, kw_only=True):
    """The rows that may take over answers. run: theirs; 0: it has not begun. rows: those of the input that count."""

    job: Job
    prompts: PromptFile
    scanned: Scan
    store: Path
    run: int
    rows: int

    @property
    def template(self) -> Template:
        """Return what the job adds to every row."""
        return template_of(self.job)


async def take_over(plan: Plan, store: RunStore, stop: Stop, tell: _Tell) -> Mapping[int, int]:
    """Take over what earlier runs have answered, before anything is sent. Return how many rows from each run.

    Once all rows of the input have been compared, no later session does it again. After a stop or a kill, and where this session
    had a part of the rows alone, the next one goes on.
    """
    taken: Counter[int] = Counter()
    if plan.run.compared or not plan.job.reuse or plan.options.retry_failed:
        return taken
    asking = Asking(
        job=plan.job, prompts=plan.prompts, scanned=plan.scanned, store=plan.given.store, run=plan.run.id, rows=plan.rows
    )
    sources = await to_thread.run_sync(_sources, asking)
    start, told = monotonic(), False
    with closing(_batches(asking, sources)) as batches:
        while (batch := await to_thread.run_sync(next, batches, None)) is not None:
            if stop.requested:
                return taken
            if batch:
                kept = await store.take_over([row for row, _ in batch])
                taken.update(run for (_, run), is_taken in zip(batch, kept, strict=True) if is_taken)
            if not told and monotonic() - start > _PATIENCE_S:
                tell(Noted(note="comparing the rows with those of earlier runs; what they have answered is taken over"))
                told = True
    if plan.rows == plan.scanned.rows and plan.job.where is None and plan.job.sample is None:
        await store.note_compared()
    return taken


def foreseen(asking: Asking) -> dict[str, int]:
    """Return what ``take_over`` would take over: the keys of the answers, each with the run that it is from. Blocks."""
    batches = _batches(asking, _sources(asking))
    return {row.key: run for batch in batches for row, run in batch}


def _sources(asking: Asking) -> list[Source]:
    return earlier.candidates(asking.job, asking.store, asking.run)


def _batches(asking: Asking, found: Sequence[Source]) -> Generator[list[tuple[TakenOver, int]], None, None]:
    """Yield the rows that take over an answer, each with the run that it is from. Empty lists let a stop be seen meanwhile."""
    if not found:
        return
    provider = wiring.offline(asking.job)
    with reuse.comparison(asking.store, asking.run) as compared:
        first = list(islice(asking.prompts.read(), FIRST))
        sources = list(earlier.chosen(found, first, asking.job, provider, compared))
        if not sources:
            return
        for batch in _wanted(asking, provider, exact=all(source.exact for source in sources)):
            compared.want(batch)
            yield []
        wanted = compared.all_wanted()
        for source in sources:
            if not wanted:
                break
            yield from _compare(asking, source, provider, compared, wanted)
            wanted = compared.unmatched()
        yield from _taken(asking, compared)


def _rows(asking: Asking) -> Iterator[tuple[int, str, Row]]:
    """Yield the rows that the session reads, each with a number and its key, and once for each answer that is wanted."""
    before, answers = asking.scanned.before, range(1, (asking.job.answers or 1) + 1)
    rows = islice(keyed(asking.prompts.read(), asking.scanned.repeated, before.identical), asking.rows - before.rows)
    wanted = ((key_of(key, answer), row) for key, row in rows for answer in answers)
    return ((number, key, row) for number, (key, row) in enumerate(wanted))


def _wanted(asking: Asking, provider: Provider, *, exact: bool) -> Iterator[list[Wanted]]:
    """Yield the rows that may take over answers. exact: they are compared by their fingerprints alone."""
    template, rows = asking.template, _rows(asking)
    while batch := list(islice(rows, _BATCH)):
        made = ((number, row, make_item(row, key, template)) for number, key, row in batch)
        asked = [
            (number, row, item, hash_)
            for number, row, item in made
            if isinstance(item, Item) and (hash_ := digest(provider, item.request)) is not None
        ]
        yield [
            Wanted(number, item.key, hash_, item.fingerprint, item.fingerprint if exact or is_plain(row) else loose(row))
            for number, row, item, hash_ in asked
        ]


def _compare(asking: Asking, source: Source, provider: Provider, compared: Comparison, wanted: int) -> Iterator[list[Any]]:
    """Find the rows that a run has answered."""
    finish, base_url, check = asking.job.finish, place_of(asking.job.settings()), check_of(asking.job)
    for batch in compared.earlier(source.run.id, _narrow(asking, source, compared, wanted)):
        offers = []
        for row in batch:
            if source.is_from(row, base_url) and earlier.counts(row, finish):
                request = source.request(row)
                hash_ = digest(provider, request) if request is not None else None
                if hash_ is not None and (check is None or check.fits(compared.text(row.item))):
                    offers.append((row, hash_))
        compared.offer(offers)
        yield []
    compared.match()


def _narrow(asking: Asking, source: Source, compared: Comparison, wanted: int) -> Narrow:
    """Return which rows of a run are compared."""
    if source.fields == earlier.names_of(asking.template):
        return "fingerprint" if source.exact else source.loose
    return "all" if compared.answered(source.run.id) <= max(_FEW, _TIMES * wanted) else "key"


def _taken(asking: Asking, compared: Comparison) -> Iterator[list[tuple[TakenOver, int]]]:
    """Yield the rows that have been matched, as they are now in the file."""
    template, matched = asking.template, compared.matched()
    rows, found = _rows(asking), next(matched, None)
    while found is not None and (batch := list(islice(rows, _BATCH))):
        taken = []
        for number, key, row in batch:
            if found is None or number != found.number:
                continue
            # the file may have been changed since it was compared
            if (key, fingerprint(row)) == (found.key, found.fingerprint):
                fields = stored_fields(row.fields or {}, template)
                metadata = msgspec.json.encode(fields).decode() if fields else None
                over = TakenOver(key, row.line, found.fingerprint, metadata, found.item, found.item_fingerprint, found.run)
                taken.append((over, found.run))
            found = next(matched, None)
        yield taken
