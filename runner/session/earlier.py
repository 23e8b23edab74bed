"""The earlier runs whose answers a new run may take over, and the requests that they made. Blocks.

A first look at some rows of each run tells whether it can have asked the same at all, and by what its rows are compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from runner.config.job import Job
from runner.config.stored import stored_value
from runner.errors import FinishError, StoreError, UsageError
from runner.inputs.keys import form, is_generated, loose
from runner.inputs.prompts import Template, make_item
from runner.interfaces import Provider
from runner.model import Completion, Item, Json, Params, Request, Row
from runner.providers.finish import Finish
from runner.session.digests import shape, tiered
from runner.session.opening import media_fields, template_of, texts_in
from runner.session.overlap import MOST_RUNS, can_be_asked_again
from runner.session.shaped import shape_in
from runner.several import row_of
from runner.store import database, reuse, runs
from runner.store.places import place_of
from runner.store.reader import StoreReader
from runner.store.reuse import Comparison, Earlier
from runner.store.runs import KnownRun

FIRST = 50
"""Rows of each run at which the first look is."""
_TEMPLATE = frozenset(("prompt", "messages", "system"))
"""Settings of which it is not asked whether rows have others themselves: what they make of each row is compared."""
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode
_OWN = 0
"""Stands for the settings of the run itself among its variants, whose numbers begin with 1."""


class Source(Struct, frozen=True, kw_only=True):
    """An earlier run with the same provider.

    templates: what made the requests of each variant, ``_OWN`` for the settings of the run itself; None where that is not known.
    moved: until when its requests went to another address, and to which. alike: its parameters are those of the job. exact: rows
    that ask the same have the same fingerprint, if the templates name the same fields.
    """

    run: KnownRun
    templates: Mapping[int, Template | None]
    moved: Sequence[tuple[float, str | None]]
    alike: bool
    exact: bool = True

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields that its template names, the same in all variants; None if it has none."""
        return names_of(next(template for template in self.templates.values() if template is not None))

    def is_from(self, row: Earlier, base_url: str | None) -> bool:
        """Return True if the address from which an answer came is the one that is asked for."""
        started_at = row.started_at
        return started_at is not None and base_url == next(
            (old for until, old in self.moved if started_at < until), self.run.base_url
        )

    def request(self, earlier: Earlier) -> Request | None:
        """Return the request that a row of the run made; None if it cannot be made again as it was."""
        template = self.templates.get(_OWN if earlier.variant is None else earlier.variant)
        row = self._row(earlier.key, earlier.metadata)
        if template is None or row is None:
            return None
        item = make_item(row, earlier.key, template)
        # the fingerprint tells that nothing is missing of what made the request: keep_rows or columns may have left it out
        return item.request if isinstance(item, Item) and item.fingerprint == earlier.fingerprint else None

    def form(self, earlier: Earlier) -> frozenset[str]:
        """Return what a stored row sets itself, by name."""
        row = self._row(earlier.key, earlier.metadata)
        return form(row) if row is not None else frozenset()

    def loose(self, key: str, metadata: str | None) -> int | None:
        """Return what a stored row shares with all that ask the same (``keys.loose``); None if it cannot be read."""
        row = self._row(key, metadata)
        return loose(row) if row is not None else None

    def _row(self, key: str, metadata: str | None) -> Row | None:
        try:
            fields = _DECODE(metadata) if metadata is not None else {}
        except (msgspec.MsgspecError, RecursionError, TypeError):
            return None
        own = row_of(key)
        if "id" not in fields and not is_generated(own):
            fields = {"id": own, **fields}
        settings = self.run.settings
        plain = not settings.get("row_settings", True)
        return Row(line=1, fields=fields, plain=plain, asked=self.fields, media=media_fields(settings))


def names_of(template: Template) -> frozenset[str] | None:
    """Return the fields that a template names; None if each row has its own prompt."""
    return template.texts.names if template.texts is not None else None


def candidates(job: Job, store: Path, own: int) -> list[Source]:
    """Return the runs that may have asked the same, newest first. own: the run that takes over answers."""
    found, others = list[Source](), 0
    known = [run for run in runs.known_runs(store) if run.id != own and can_be_asked_again(run)]
    known = [run for run in known if run.settings.get("provider") == job.provider]
    if job.schema is None:
        # some of their answers are to requests that ask again for what fits
        known = [run for run in known if run.settings.get("schema") is None]
    if not known:
        return []
    with StoreReader(store) as reader, reader.snapshot():
        moved, variants = reuse.addresses(reader.fetch), reuse.variants(reader.fetch)
    template, answer = template_of(job), job.answer_settings()
    for run in known:
        at = moved.get(run.id, [])
        if place_of(job.settings()) not in (run.base_url, *(old for _, old in at)):
            continue
        settings = {_OWN: run.settings} | {
            number: {**run.settings, **changed}
            for number, text in variants.get(run.id, {}).items()
            if (changed := database.settings_of(text)) is not None
        }
        alike = any(runs.differences(one, answer).keys() <= _TEMPLATE for one in settings.values())
        others += not alike
        if not alike and others > MOST_RUNS:
            continue
        templates = {number: _template(job, template, one) for number, one in settings.items()}
        if any(templates.values()):
            found.append(Source(run=run, templates=templates, moved=at, alike=alike))
        if len(found) == 2 * MOST_RUNS:
            break
    return found


def _template(job: Job, template: Template, settings: Mapping[str, Json]) -> Template | None:
    """Return what makes requests by the settings of a run, at the service tier of the job: tiers give the same answers."""
    try:
        params = {
            name: stored_value(name, value) for name in Params.__struct_fields__ if (value := settings.get(name)) is not None
        }
        return structs.replace(
            template,
            model=settings.get("model") or "",
            params=Params(**params),
            system=settings.get("system"),
            texts=texts_in(settings),
            shape=shape_in(job, settings),
        )
    except (UsageError, StoreError):
        # what another version could read
        return None


def chosen(found: Iterable[Source], rows: Sequence[Row], job: Job, provider: Provider, compared: Comparison) -> Iterator[Source]:
    """Yield the sources that can have asked the same, by the first rows of each. rows: the first of the input."""
    template, number = template_of(job), 0
    requests = [(row, item.request) for row in rows if isinstance(item := make_item(row, "", template), Item)]
    written = {(shape(provider, request), form(row)) for row, request in requests}
    tiers = {tiered(request).tier for _, request in requests}
    for source in found:
        first = compared.first(source.run.id, FIRST)
        there = {(shape(provider, request), source.form(row)) for row in first if (request := source.request(row)) is not None}
        other = not source.alike and {asked for asked, _ in written}.isdisjoint(asked for asked, _ in there)
        if other or not first:
            continue
        number += 1
        if number > MOST_RUNS:
            return
        # what asks for the same beside its texts is written in the same way
        all_ = written | there
        exact = len(all_) == len({asked for asked, _ in all_})
        yield structs.replace(source, exact=exact)
        tier = source.run.settings.get("tier")
        if tier != job.tier and tier in tiers:
            # a row names the tier that the earlier job named
            templates = {at: one and structs.replace(one, tier=tier) for at, one in source.templates.items()}
            yield structs.replace(source, exact=exact, templates=templates)


def counts(row: Earlier, finish: Finish) -> bool:
    """Return True if an answer is one by what finish reasons mean in this run."""
    notes = tuple((row.notes or "").split(","))
    return not isinstance(finish.judged(Completion(text="", finish_reason=row.finish_reason or "", notes=notes)), FinishError)
