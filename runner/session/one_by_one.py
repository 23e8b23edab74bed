"""``runner.Session``: asks prompts one by one, or a thousand at a time, as rows of one run. ``asks`` has what happens inside."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, Unpack

import anyio
from msgspec import structs

from runner.config import trust as trusting
from runner.config.endpoint import Endpoint, find_endpoint, with_base_url
from runner.config.job import Job
from runner.config.keywords import AskSettings
from runner.engine.stop import Stop
from runner.errors import RunnerError, RunStoppedError, UsageError
from runner.event_types import Finished, Summary
from runner.inputs import spool
from runner.interfaces import Observer
from runner.model import Result
from runner.session import arguments, budgeting, naming, raising, wiring
from runner.session.asks import Asks
from runner.session.asynchronous import refuse_other_loops
from runner.session.audience import Audience, with_reason
from runner.session.blocking import LoopThread
from runner.session.controlled import Controlled
from runner.session.naming import DEFAULT_STORE, store_path
from runner.session.options import Told
from runner.session.pieces import Answer, BlockingAnswer, Prompt, fields_of
from runner.session.prepare import in_thread
from runner.session.results import RunSummary, with_results
from runner.session.sources import job_without_rows
from runner.session.stopping import StopHandle, begun, ended, interruption
from runner.store import database, runs
from runner.store.checkpoint import RunStore
from runner.store.places import is_same_place, place_of


class Session:
    """Asks prompts one by one, under the limits, retries and store of a run.

    ``async with runner.Session(model="...") as s: result = await s.ask("...")``

    Each ask is a row of a run in the store ``db``. Another session with the same settings and the same ``name`` continues that
    run: what was answered is not asked again. settings, new, stop and observe: as for ``run``. accept_changes: an id may be asked
    again with another prompt; its new answer replaces the old one. In synchronous code: ``with runner.Session(...) as s:
    s.ask(...)``, from one thread or many.

    Leaving the block waits for all that was asked. Leaving it with an error or a cancelled task stops the session, as Ctrl-C
    stops a run. Raises UsageError, and StoreError (RunLockedError while another session works on the run).
    """

    def __init__(
        self,
        *,
        db: str | Path = DEFAULT_STORE,
        name: str = "default",
        new: bool = False,
        accept_changes: bool = False,
        stop: StopHandle | str | Sequence[str] | None = None,
        observe: Observer | None = None,
        **settings: Unpack[AskSettings],
    ) -> None:
        given: dict[str, Any] = {**settings}
        self._handle = arguments.handle(stop, given) or StopHandle()
        self._trust = given.pop("trust", False)
        arguments.warn_of_variables()
        arguments.check(db=db, name=name, new=new, accept_changes=accept_changes, trust=self._trust, observe=observe)
        self._store, self._name, self._new, self._accepts = store_path(db), name, new, accept_changes
        self._observe, self._settings = arguments.observer(observe), given
        self._asks: Asks | None = None
        self._task: asyncio.Task[Summary] | None = None
        self._loop: LoopThread | None = None
        self.summary: RunSummary | None = None

    async def ask(self, prompt: Prompt, *, id: str | int | None = None) -> Result:  # noqa: A002 - the field's name
        """Ask, and return the result once it is saved; that of a row that failed has ``error`` and no ``text``.

        prompt: a text, the messages of a chat, or a whole row as a dict. id: of the row; without one, the same prompt is the same
        row. A row that was answered before is not sent again, one that failed is. To cancel an ask does not take back its
        request, whose answer is saved. Raises UsageError, and RunStoppedError if the session stops before.
        """
        return await self.asks.ask(fields_of(prompt, id))

    @property
    def asks(self) -> Asks:
        """What happens inside. Raises UsageError before the block."""
        if self._asks is None:
            raise UsageError("a Session is used in its block: async with runner.Session(...) as s: await s.ask(...)")
        return self._asks

    def stream(self, prompt: Prompt, *, id: str | int | None = None) -> Answer:  # noqa: A002 - as above
        """Ask, and yield the pieces of the answer as they come, in an ``async for``. Arguments and errors: as for ``ask``."""
        return Answer(lambda: self.asks, fields_of(prompt, id))

    def __repr__(self) -> str:
        if self.summary is not None:
            state = str(self.summary)
        elif self._task is None:
            state = "not begun; async with, or with, begins it"
        else:
            state = "ended" if self._task.done() else "begun"
        return f"<Session {self._name!r}: {state}>"

    async def __aenter__(self) -> Self:
        refuse_other_loops()
        if self._task is not None:
            raise UsageError("a Session is used once; make another one, which continues its run")
        ready = asyncio.Event()
        task = self._task = begun(lambda stop: self._execute(stop, ready), self._handle)
        task.add_done_callback(lambda _: ready.set())
        try:
            await ready.wait()
        except asyncio.CancelledError:
            self._handle.cancelled()
            with suppress(Exception):
                await ended(task, self._handle)
            raise
        if self._asks is None:
            await ended(task, self._handle)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._task is not None
        if kind is not None:
            self._handle.request()
        elif self._asks is not None:
            self._asks.close()
        with suppress(RunnerError) if kind is not None else nullcontext():
            self.summary = with_results(await ended(self._task, self._handle), self._store)

    def __enter__(self) -> "BlockingSession":
        loop = self._loop = LoopThread()
        try:
            loop.call(self.__aenter__(), self._handle.cancelled)
        except BaseException:
            loop.end()
            raise
        return BlockingSession(self, loop)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._loop is not None
        try:
            self._loop.call(self.__aexit__(kind, error, trace), self._handle.cancelled)
        finally:
            self._loop.end()

    async def _execute(self, stop: Stop, ready: asyncio.Event) -> Summary:
        path = self._store
        job, endpoint, run, notes = await in_thread(lambda: self._opened(path))
        run_id, changes = run.id, run.changes
        audience = Audience(self._observe, interruption(stop), lambda event: self.asks.hear(event))
        complete = audience.complete = lambda sentence: naming.in_full(sentence, run_id, path, asked=True)
        async with Controlled() as controlled:
            async with await in_thread(lambda: RunStore.own(path, run_id, durability=job.durability, changes=changes)) as store:
                asks = self._asks_in(job, endpoint, store, stop, audience)
                failure: RunnerError | None = None
                try:
                    await controlled.begin(asks, store)
                    await asks.begin(notes)
                    told = Told(stop, asks.note, asks.late.book, path)
                    async with wiring.open_provider(job, endpoint, told) as (provider, client):
                        self._asks = asks
                        ready.set()
                        await asks.run(provider, client)
                    summary = await asks.end()
                    if stop.error is not None:
                        failure = RunStoppedError(complete(str(stop.error)), code=stop.error.code)
                except RunnerError as error:
                    failure = error
                    raise
                except anyio.get_cancelled_exc_class():
                    await asks.cancelled()
                    raise
                finally:
                    asks.end_with(failure)
            summary = with_reason(summary, complete)
            audience.tell(Finished(summary=summary))
        return summary

    def _asks_in(self, job: Job, endpoint: Endpoint, store: RunStore, stop: Stop, audience: Audience) -> Asks:
        return Asks(job, endpoint, store, stop, audience, accept_changes=self._accepts)

    def _job(self) -> Job:
        """Return what the session is to do, from what it was given. Raises UsageError."""
        return job_without_rows([], self._settings, trust=self._trust)

    def _continues(self, run: runs.KnownRun, job: Job) -> bool:
        """Return True if the session goes on with a run."""
        same = run.input == str(job.input) or run.relative == job.input.name
        return same and run.fingerprint == runs.answer_fingerprint(job.answer_settings())

    def _with_budget(self, job: Job, found: runs.KnownRun | None) -> Job:
        """Return a job with its budget, and that of the run that it continues. Raises UsageError for one that cannot hold."""
        job = budgeting.inherited(job, found.settings) if found is not None else job
        budgeting.refuse(job)
        return job

    def _opened(self, store: Path) -> "_Opened":
        """Return what the session works with; its run is created if there is none. Raises UsageError."""
        job = with_base_url(self._job(), os.environ)
        raising.refuse_asking(job)
        if job.mode != "live":
            raise UsageError(
                f"a program that asks one by one waits for each answer: mode {job.mode} is for runner.run and its like"
            )
        # the files that asks name are relative to the current folder
        job = structs.replace(job, input=spool.asked_in(store, self._name), files_root=job.files_root or str(Path.cwd()))
        endpoint = find_endpoint(job, os.environ)
        database.prepare(store, create=True)
        answer = job.answer_settings()
        found = next((run for run in runs.known_runs(store) if self._continues(run, job)), None) if not self._new else None
        job = self._with_budget(job, found)
        place = place_of(job.settings())
        if found is not None and not is_same_place(found.base_url, place) and runs.has_answers(store, found.id):
            raise UsageError(
                f"the session {self._name!r} (run {found.id}) has answers from {found.base_url}, and base_url is {place} "
                "now; choose another name, or new=True"
            )
        notes = trusting.remember(job, endpoint.grants, os.environ)
        run = runs.open_run(store, job.input, job.stored(), answer, new=self._new, continues=found)
        return _Opened(job, endpoint, run, notes)


class _Opened(NamedTuple):
    """A job, where it sends to, its run, and what a person should know first."""

    job: Job
    endpoint: Endpoint
    run: runs.FoundRun
    notes: Sequence[str]


class BlockingSession:
    """A session in synchronous code, whose event loop runs in a thread of its own."""

    def __init__(self, session: Session, loop: LoopThread) -> None:
        self._session, self._loop = session, loop

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._session)[1:]}"

    @property
    def summary(self) -> RunSummary | None:
        """How the session ended; None before that."""
        return self._session.summary

    def ask(self, prompt: Prompt, *, id: str | int | None = None) -> Result:  # noqa: A002 - the field's name
        """Ask, and return the result; from any thread. See ``Session.ask``."""
        return self._loop.call(self._session.ask(prompt, id=id))

    def stream(self, prompt: Prompt, *, id: str | int | None = None) -> BlockingAnswer:  # noqa: A002 - as above
        """Ask, and yield the pieces of the answer as they come, in a ``for``; from any thread. See ``Session.stream``."""
        return BlockingAnswer(self._session.stream(prompt, id=id), self._loop)
