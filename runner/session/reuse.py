"""Takes over the answers that earlier runs of the store have to the very requests that a new run would send.

The requests of an earlier run are made again, from the rows as they are stored and the template of that run. A row counts only if
its fingerprint shows that it is stored whole. Two requests are the same if their bytes are, by a hash of 128 bits.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from anyio import to_thread
from msgspec import Struct, structs

from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import FinishError, UsageError
from runner.event_types import Event, Noted
from runner.inputs.attachments import names_local_files
from runner.inputs.keys import fingerprint, is_generated, keyed
from runner.inputs.prompts import Template, make_item, stored_fields
from runner.inputs.scan import PromptFile, Scan
from runner.interfaces import Provider
from runner.model import Completion, Item, Json, Request, Row
from runner.providers.finish import Finish
from runner.session import wiring
from runner.session.opening import media_fields, template_of, texts_in
from runner.session.overlap import MOST_RUNS, can_be_asked_again
from runner.session.prepare import Plan
from runner.several import key_of, row_of
from runner.store import database, reuse, runs
from runner.store.checkpoint import RunStore
from runner.store.reuse import Comparison, Earlier, TakenOver, Wanted
from runner.store.runs import KnownRun

_TEMPLATE = frozenset(("prompt", "messages", "system"))
"""Settings in which runs may differ: what they make of each row is compared."""
_BATCH = 1_000
_FEW, _TIMES = 20_000, 20
"""Rows of an earlier run whose requests are made, at most: so many, or so many for each row that is wanted. Of a run with more of
them only rows with the same key count, unless both templates name the same fields."""
_PATIENCE_S = 2.0
"""Seconds after which a person is told why nothing is sent yet."""
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode
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


class _Source(Struct, frozen=True, kw_only=True):
    """An earlier run with the same provider, model and parameters.

    templates: what made the requests of each variant, ``_OWN`` for the settings of the run itself; None where these were others.
    moved: until when its requests went to another address, and to which.
    """

    run: KnownRun
    templates: Mapping[int, Template | None]
    moved: Sequence[tuple[float, str | None]]

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields that its template names, the same in all variants; None if it has none."""
        return _names(next(template for template in self.templates.values() if template is not None))

    def is_from(self, row: Earlier, base_url: str | None) -> bool:
        """Return True if the address from which an answer came is the one that is asked for."""
        started_at = row.started_at
        return started_at is not None and base_url == next(
            (old for until, old in self.moved if started_at < until), self.run.base_url
        )


def _sources(asking: Asking) -> list[_Source]:
    """Return the runs whose answers may be taken over, newest first."""
    path, found = asking.store, list[_Source]()
    known = [run for run in runs.known_runs(path) if run.id != asking.run and can_be_asked_again(run)]
    moved, variants = (reuse.addresses(path), reuse.variants(path)) if known else ({}, {})
    for run in known:
        at = moved.get(run.id, [])
        if asking.job.base_url in (run.base_url, *(old for _, old in at)):
            templates = {_OWN: _template(asking, run.settings)}
            for number, text in variants.get(run.id, {}).items():
                settings = database.settings_of(text)
                templates[number] = _template(asking, {**run.settings, **settings}) if settings is not None else None
            if any(templates.values()):
                found.append(_Source(run=run, templates=templates, moved=at))
        if len(found) == MOST_RUNS:
            break
    return found


_OWN = 0
"""Stands for the settings of the run itself among its variants, whose numbers begin with 1."""


def _template(asking: Asking, settings: Mapping[str, Json]) -> Template | None:
    """Return what makes requests by settings of a run; None if they differ from those of the job in more than the template."""
    if not runs.differences(settings, asking.job.answer_settings()).keys() <= _TEMPLATE:
        return None
    try:
        return structs.replace(asking.template, system=settings.get("system"), texts=texts_in(settings))
    except UsageError:
        # a template that another version could read
        return None


def _batches(asking: Asking, sources: list[_Source]) -> Generator[list[tuple[TakenOver, int]], None, None]:
    """Yield the rows that take over an answer, each with the run that it is from. Empty lists let a stop be seen meanwhile."""
    if not sources:
        return
    provider = wiring.offline(asking.job)
    with reuse.comparison(asking.store, asking.run) as compared:
        for batch in _wanted(asking, provider):
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


def _wanted(asking: Asking, provider: Provider) -> Iterator[list[Wanted]]:
    template, rows = asking.template, _rows(asking)
    while batch := list(islice(rows, _BATCH)):
        made = ((number, make_item(row, key, template)) for number, key, row in batch)
        asked = ((number, item, _digest(provider, item.request)) for number, item in made if isinstance(item, Item))
        yield [Wanted(number, item.key, digest, item.fingerprint) for number, item, digest in asked if digest is not None]


def _compare(asking: Asking, source: _Source, provider: Provider, compared: Comparison, wanted: int) -> Iterator[list[Any]]:
    """Find the rows that a run has answered."""
    same_fields = source.fields == _names(asking.template)
    few = same_fields or compared.answered(source.run.id) <= max(_FEW, _TIMES * wanted)
    finish, base_url = asking.job.finish, asking.job.base_url
    for batch in compared.earlier(source.run.id, same_fields=same_fields, same_key=not few):
        offers = []
        for row in batch:
            if source.is_from(row, base_url) and _counts(row, finish):
                request = _request(row, source)
                digest = _digest(provider, request) if request is not None else None
                if digest is not None:
                    offers.append((row, digest))
        compared.offer(offers)
        yield []
    compared.match()


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


def _request(row: Earlier, source: _Source) -> Request | None:
    """Return the request that a row of an earlier run made; None if it cannot be made again as it was."""
    template = source.templates.get(_OWN if row.variant is None else row.variant)
    if template is None:
        return None
    try:
        fields = _DECODE(row.metadata) if row.metadata is not None else {}
    except (msgspec.MsgspecError, RecursionError, TypeError):
        return None
    own = row_of(row.key)
    if "id" not in fields and not is_generated(own):
        fields = {"id": own, **fields}
    plain = not source.run.settings.get("row_settings", True)
    media = media_fields(source.run.settings)
    item = make_item(Row(line=1, fields=fields, plain=plain, asked=_names(template), media=media), row.key, template)
    # the fingerprint tells that nothing is missing of what made the request: keep_rows or columns may have left it out
    return item.request if isinstance(item, Item) and item.fingerprint == row.fingerprint else None


def _names(template: Template) -> frozenset[str] | None:
    return template.texts.names if template.texts is not None else None


def _counts(row: Earlier, finish: Finish) -> bool:
    """Return True if an answer is one by what finish reasons mean in this run."""
    notes = tuple((row.notes or "").split(","))
    return not isinstance(finish.judged(Completion(text="", finish_reason=row.finish_reason or "", notes=notes)), FinishError)


def _digest(provider: Provider, request: Request) -> bytes | None:
    """Return the hash of a request as it would be sent; None if it cannot be compared.

    Of the files that an earlier request named, only the names are known.
    """
    if names_local_files(request):
        return None
    try:
        call = provider.encode(request)
    except Exception:  # noqa: BLE001 - the engine makes a failed row of it, and says why
        return None
    return blake2b(call.url.encode() + b"\n" + call.body, digest_size=16).digest()
