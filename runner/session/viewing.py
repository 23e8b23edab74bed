"""Prompts that are asked one by one while somebody watches, with the settings of a run or of a job file.

    view ──> session ──> request ──> pieces ──> the view, which holds ROOM_CHARS of them ──taken by its reader──>
                            ^                          │
                            └── the reading waits <────┘ while there is no room

They are rows of a run of their own in the same store, so each attempt is on the books. No command takes that run for the newest.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from runner import origin
from runner.config.endpoint import Endpoint, with_base_url
from runner.config.job import Job, restore_job
from runner.engine.attempt import Attempts
from runner.engine.collective import Collective
from runner.engine.limits.budget import Pot
from runner.engine.stop import Stop
from runner.engine.viewed import ViewedAttempts, Viewer
from runner.errors import UsageError
from runner.inputs.attachments import names_files
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.keys import ROW_SETTINGS
from runner.interfaces import Client, Provider
from runner.media import MEDIA_FIELDS
from runner.model import Result
from runner.row_events import RowEvent, Token
from runner.session import budgeting
from runner.session.asks import Asks
from runner.session.audience import Audience
from runner.session.one_by_one import Session
from runner.session.opening import template_of
from runner.session.pricing import is_public, price_book
from runner.session.stopping import StopHandle
from runner.session.unpriced import of_job
from runner.store import runs
from runner.store.checkpoint import RunStore
from runner.store.places import is_same_place, place_of
from runner.store.reader import StoreReader

ROOM_CHARS = 64 << 10
"""Characters of an answer that wait for the reader of a view, from which on no more is read from the server."""


class View(Viewer):
    """What of one answer was told and its reader has not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._events: deque[RowEvent] = deque()
        self._chars, self._ended = 0, False
        self._some, self._free = asyncio.Event(), asyncio.Event()
        self._free.set()
        # characters of the newest attempt that were told
        self.chars = 0

    def hear(self, event: RowEvent) -> None:
        """Keep what was told of the answer."""
        if isinstance(event, Token):
            self.chars = len(event.text) + (self.chars if event.attempt == self.told else 0)
            self.told = event.attempt
            self._chars += len(event.text)
            if self._chars >= ROOM_CHARS:
                self._free.clear()
        self._events.append(event)
        self._some.set()

    def end(self) -> None:
        """Record that nothing more will be told, and nothing can be given up any more."""
        self._ended = True
        self._end = None
        self._some.set()

    async def room(self) -> None:
        """Wait until the reader has taken what was told."""
        await self._free.wait()

    async def take(self, limit_s: float) -> list[RowEvent] | None:
        """Return what was told; nothing if that is none for so many seconds, and None at the end."""
        try:
            async with asyncio.timeout(limit_s):
                await self._some.wait()
        except TimeoutError:
            return []
        taken = list(self._events)
        self._events.clear()
        if not taken and self._ended:
            return None
        if not self._ended:
            self._some.clear()
        self._chars = 0
        self._free.set()
        return taken


class Views(Asks):
    """The rows of one session, each with its view. pot: what these and others may cost together; None: no price is known."""

    _heard_by = ViewedAttempts

    def __init__(self, job: Job, endpoint: Endpoint, store: RunStore, stop: Stop, audience: Audience, *, pot: Pot | None) -> None:
        super().__init__(job, endpoint, store, stop, audience, accept_changes=False)
        self._views: dict[str, View] = {}
        self._pot = pot
        self._listens, self._media = None, {}

    async def view(self, fields: Mapping[str, Any], view: View) -> Result:
        """Ask, and return the result once it is saved. fields: of the row, with an id of its own. Errors: those of ``ask``."""
        own = str(fields["id"])
        self._views[own] = view
        try:
            return await self.ask(fields)
        finally:
            del self._views[own]
            view.end()

    def hear(self, event: RowEvent) -> None:
        """Pass on what is told of an answer to its view."""
        if (view := self._views.get(str(event.id))) is not None:
            view.hear(event)

    def waiting(self) -> str | None:
        """Return why requests wait, in one phrase; None if they wait for nothing but a slot."""
        return next((state.waiting for state in self._lanes.states() if state.waiting is not None), None)

    async def _reserving(self, attempts: Attempts[Any]) -> Collective | None:
        collective = await super()._reserving(attempts)
        if self._purse is not None and self._pot is not None:
            self._purse.budget.pots = (self._pot,)
        return collective

    def _begun(self, provider: Provider, client: Client[Any], doubt: Callable[[], None]) -> Attempts[Any]:
        attempts = super()._begun(provider, client, doubt)
        assert isinstance(attempts, ViewedAttempts)
        attempts.show(self._views)
        return attempts


class Prompts(Session):
    """A session of prompts that are watched. job: their settings, as ``settings_of`` returns them. pot: as for ``Views``."""

    def __init__(self, job: Job, pot: Pot | None, *, db: Path, name: str, stop: StopHandle) -> None:
        super().__init__(db=db, name=name, stop=stop)
        self._given, self._pot = job, pot

    @property
    def has_ended(self) -> bool:
        """True once it takes no further prompt: it was stopped, or its store has failed."""
        return self._task is not None and self._task.done()

    @property
    def views(self) -> Views:
        """The session's rows. Raises UsageError before its block."""
        assert isinstance(self.asks, Views)
        return self.asks

    def _job(self) -> Job:
        return self._given

    def _asks_in(self, job: Job, endpoint: Endpoint, store: RunStore, stop: Stop, audience: Audience) -> Asks:
        return Views(job, endpoint, store, stop, audience, pot=self._pot if budgeting.is_set(job) else None)

    def _continues(self, run: runs.KnownRun, job: Job) -> bool:
        # a server that has moved is another run
        return super()._continues(run, job) and is_same_place(run.base_url, place_of(job.settings()))

    def _with_budget(self, job: Job, found: runs.KnownRun | None) -> Job:  # noqa: ARG002 - that of the page, and no other
        # whether it can hold is found for each request, whose words go to the one who has asked
        return job


def job_of_run(store: Path, run_id: int) -> Job:
    """Return the job of a stored run. Raises UsageError, StoreError."""
    with StoreReader(store) as reader:
        run = reader.run(run_id, counted=False)
    return restore_job({**run.settings, "input": run.input}, {})


def settings_of(job: Job, *, plain: bool, most: float | None) -> Job:
    """Return the job of prompts that are asked with the settings of another one.

    plain: they are prompts as they stand, and no rows for its template. most: dollars that they may cost; None: no matter what.
    Raises UsageError if the cost cannot be bounded, or the system text needs the fields of a row.
    """
    job = with_base_url(job, os.environ)
    if plain:
        texts, system = template_of(job).texts, job.system
        if texts is not None:
            try:
                system = texts.system({})
            except RowFaultError as fault:
                raise UsageError(f"the system text is a template for rows: {fault}; ask with a row") from None
        job = structs.replace(job, prompt=None, prompt_file=None, messages=None, system=system)
    job = structs.replace(
        job,
        # what is for the rows of an input, for a run as a whole, or for several processes
        **dict.fromkeys(("where", "sample", "input_format", "deadline", "answers", "engine", "listen"), None),
        **dict.fromkeys(("max_cost", "max_cost_session", "max_tokens_total", "images", "files", "serve_limits"), None),
        dedupe=False,
        reuse=False,
        workers=0,
        # nobody waits two minutes to learn that the server refuses a prompt
        patience_s=0,
    )
    if most is None:
        return job
    if (unknown := of_job(job, price_book(job))) is not None:
        if is_public(job.base_url) or job.members:
            raise UsageError(f"{unknown}; else nothing bounds what prompts cost (`runner web --max-cost-ask none` allows that)")
        return job
    return structs.replace(job, max_cost_session=most)


def spent(store: Path) -> int:
    """Return what all prompts have cost that were asked in a store, or may have, in picodollars, as far as that has a limit."""
    if not store.exists():
        return 0
    with StoreReader(store) as reader:
        found = [reader.money(run.id) for run in reader.runs(counted=False) if origin.is_of_page(run.input)]
    return sum(money.spent + (money.perhaps or 0) for money in found)


def row_of(job: Job, own: str, fields: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a prompt. own: its id. settings: of this row alone. Raises UsageError for what the job does not allow."""
    if settings and not job.row_settings:
        raise UsageError("the job says row_settings = false, so a prompt has no settings of its own: leave out model and params")
    unknown = [name for name in settings if name not in ROW_SETTINGS]
    if unknown:
        raise UsageError(f"{unknown[0]} is no setting of a prompt; there are {', '.join(ROW_SETTINGS)}")
    texts = template_of(job).texts
    if texts is not None and "id" in texts.names:
        raise UsageError("the template names the id of the row, and a prompt gets an id of its own: ask with `messages`")
    messages = fields.get("messages")
    asked = tuple(one for one in messages if isinstance(one, Mapping)) if isinstance(messages, list) else ()
    try:
        files = names_files(asked, fields, MEDIA_FIELDS if job.row_settings else {})
    except RowFaultError as fault:
        raise UsageError(str(fault)) from None
    if files:
        raise UsageError("a prompt that is asked here cannot name files; put a picture in as a data: URL")
    return {**fields, **settings, "id": own}


def name_of(run_id: int | None, *, plain: bool, number: int = 1) -> str:
    """Return the name of the session whose rows these are. run_id: None: those of the job file.

    number: 1, and another one where that session is at work in another process.
    """
    settings = "job" if run_id is None else f"run-{run_id}"
    return f"{origin.OF_PAGE}-{settings}{'' if plain else '-rows'}{f'-{number}' if number > 1 else ''}"
