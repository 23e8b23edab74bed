"""One request outside of any run: ``runner try``. Retries, limits and errors are those of a session; nothing is stored."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from msgspec import structs

from runner.admission import Reservation
from runner.config import trust
from runner.config.endpoint import Endpoint, find_endpoint, with_base_url
from runner.config.fleet import seen_by
from runner.config.job import Job
from runner.engine.judge import Judge
from runner.engine.limits import Lanes
from runner.engine.listening import Hear, HeardAttempts
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, UsageError, advice
from runner.inputs import scan, spool
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.keys import base_key
from runner.inputs.prompts import make_item
from runner.inputs.scan import PromptFile
from runner.interfaces import Client, Provider
from runner.model import Attempt, Item, Outcome, Row
from runner.money import shown
from runner.session import unfit, wiring
from runner.session.background import keep_watch
from runner.session.books import Books
from runner.session.naming import without_a_run
from runner.session.opening import open_input, options_of, rooted, template_of
from runner.session.pricing import price_book
from runner.text import plural

LOOK_S = 0.5
"""How often it is looked why the request waits, in seconds."""
_MOST_BROKEN = 1_000
"""Broken rows at the beginning of an input that are passed over."""


class Question(NamedTuple):
    """What is asked. where: its row, in words; None if it is none. passed: why rows before it cannot be sent."""

    job: Job
    endpoint: Endpoint
    item: Item
    where: str | None = None
    passed: tuple[str, ...] = ()


class Tried(NamedTuple):
    """What became of it. outcome: None if it was stopped; error: by this. attempts: all of them, the last one too."""

    outcome: Outcome | None
    attempts: tuple[Attempt, ...]
    error: RunStoppedError | None = None


def question(job: Job, *, prompt: str | None, row: int | None, reads: bool, store: Path) -> Question:
    """Return what is to be asked: a prompt as it stands, or the row on a line, by default the first row that can be sent.

    reads: the job has an input; else its template is filled in with nothing. store: the one of a run whose answers are the input.
    Raises UsageError.
    """
    job = rooted(with_base_url(job, os.environ), store)
    # of several endpoints, the first is asked
    job = seen_by(job, job.members[0]) if job.members else job
    if prompt is not None or not reads:
        item = _item_of(Row(line=1, fields={} if prompt is None else {"prompt": prompt}), job, plain=prompt is not None)
        return Question(job, find_endpoint(job, os.environ), item)
    with spool.readable(job.input) as path:
        prompts = open_input(path, options_of(job), store)
        unfit.refuse_unscanned(job, prompts)
        item, passed = _item_in(prompts, job, row)
    where = f"{spool.display_name(job.input)}, {prompts.places.where(item.position)}"
    return Question(job, find_endpoint(job, os.environ), item, where, tuple(passed))


def _item_of(row: Row, job: Job, *, plain: bool) -> Item:
    """Return the item of a row that is in no file. plain: it has its prompt, and no template counts."""
    template = template_of(job)
    if plain and template.texts is not None:
        try:
            template = structs.replace(template, texts=None, system=template.texts.system({}))
        except RowFaultError as fault:
            raise UsageError(f"the system text is a template for rows: {fault}; --system gives another one") from None
    made = make_item(row, "prompt", template)
    if isinstance(made, Outcome):
        raise UsageError((made.error or "").partition(": ")[2] + ", so nothing was sent")
    return made


def _item_in(prompts: PromptFile, job: Job, wanted: int | None) -> tuple[Item, list[str]]:
    """Return the item on a line of an input, by default the first one, and why rows before it cannot be sent."""
    if wanted is not None and prompts.files is not None:
        raise UsageError(f"--row {wanted} is a line of one file, and the input is several; name this file alone")
    template, passed = template_of(job), list[str]()
    name, before = spool.display_name(job.input), 0
    for row in prompts.read():
        if wanted is not None and row.line < wanted:
            before = row.line
            continue
        if wanted is not None and row.line > wanted:
            raise UsageError(_absent(prompts, name, wanted, [before, row.line]))
        made = make_item(row, base_key(row)[0], template)
        if isinstance(made, Item):
            return made, passed
        if wanted is not None:
            raise UsageError(f"{name}, {made.error}, so nothing was sent")
        passed.append(made.error or "")
        if len(passed) == _MOST_BROKEN:
            break
    if wanted is not None:
        raise UsageError(_absent(prompts, name, wanted, [before]))
    scan.refuse_empty(len(passed), name, job.where, prompts.about)
    raise UsageError(f"none of the first {plural(len(passed), 'row')} of {name} can be sent; {passed[0]}")


def _absent(prompts: PromptFile, name: str, wanted: int, near: list[int]) -> str:
    """Return the sentence about a line on which no row is. near: lines with rows before and behind it; 0 if there is none."""
    begins = "that begins on line" if prompts.places.kinds[0] == "line" else "with the number"
    others = f"; the nearest: {' and '.join(str(line) for line in near if line)}" if any(near) else ""
    return f"{name} has no row {begins} {wanted}{others}"


async def execute(
    asked: Question, stop: Stop, hear: Hear, tell: Callable[[str], None], wait: Callable[[str | None], None]
) -> Tried:
    """Send a request until it has an outcome or a stop is requested. An open request is dropped when the stop's grace is over.

    hear: receives the pieces of the answer. tell: receives what is learned, one sentence each, and failed attempts that are
    followed by another one. wait: called every ``LOOK_S`` with the reason why nothing is sent, or None.
    """
    job, endpoint = asked.job, asked.endpoint
    for note in trust.remember(job, endpoint.grants, os.environ):
        tell(note)
    lanes, attempts, failures = Lanes(wiring.limits(job)[0]), list[Attempt](), _Failures(tell)
    # nobody else sends in this lane
    lanes.last()
    outcome: Outcome | None = None
    async with wiring.open_provider(job, endpoint) as (provider, client):
        doubt = anyio.Event()
        engine = _engine(asked, provider, client, lanes, stop, tell, doubt)
        engine.tell(hear)

        async def emit(attempt: Attempt | Reservation) -> None:
            # there is no budget, so nothing is reserved
            assert isinstance(attempt, Attempt)
            attempts.append(attempt)
            engine.saved(attempt)
            if not stop.requested:
                failures.add(attempt)

        async with anyio.create_task_group() as background:
            background.start_soon(_tell_waits, wait, lanes)
            background.start_soon(_end, stop, background.cancel_scope)
            keep_watch(background, job, endpoint, doubt, stop, lanes, start=time.monotonic())
            outcome = await engine.handle(asked.item, emit)
            background.cancel_scope.cancel()
    failures.close()
    if outcome is not None and outcome.attempt is not None and not outcome.booked:
        attempts.append(outcome.attempt)
    error = stop.error if outcome is None else None
    words = RunStoppedError(_of_one(error), code=error.code) if error is not None else None
    return Tried(outcome, tuple(attempts), words)


def _of_one(error: RunStoppedError) -> str:
    """Return the words of an error that has stopped a request, without what they say of the rows of a run."""
    kept = f". {advice('deadline')}"
    words = str(error)
    return f"{words.removesuffix(kept)}; the same command asks again" if words.endswith(kept) else without_a_run(words)


class _Failures:
    """Tells of failed attempts that are followed by another one. Those that are alike are told in one sentence."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._words: str | None = None
        # attempts that have failed like the one before them, and that nobody has been told of
        self._alike: list[int] = []

    def add(self, attempt: Attempt) -> None:
        """Take an attempt. What it says is told at once, if it is new."""
        if attempt.error == self._words:
            self._alike.append(attempt.number)
            return
        self.close()
        self._words = attempt.error
        self._tell(f"attempt {attempt.number} failed: {attempt.error}; trying again")

    def close(self) -> None:
        """Tell of those that nobody has been told of."""
        if self._alike:
            first, last = self._alike[0], self._alike[-1]
            between = "and" if last == first + 1 else "to"
            which = f"attempt {first}" if first == last else f"attempts {first} {between} {last}"
            self._tell(f"{which} failed in the same way")
            self._alike.clear()


def _engine(
    asked: Question,
    provider: Provider,
    client: Client[Any],
    lanes: Lanes,
    stop: Stop,
    tell: Callable[[str], None],
    doubt: anyio.Event,
) -> HeardAttempts[Any]:
    job, endpoint = asked.job, asked.endpoint
    return HeardAttempts(
        wiring.informed(job, endpoint, provider, tell, doubt.set, answered=False),
        client,
        lanes,
        wiring.policy(job),
        Judge(succeeded=False, model=job.model),
        stop,
        redactor=endpoint.redactor,
    )


async def _tell_waits(wait: Callable[[str | None], None], lanes: Lanes) -> None:
    while True:
        await anyio.sleep(LOOK_S)
        wait(next((state.waiting for state in lanes.states()), None))


async def _end(stop: Stop, scope: anyio.CancelScope) -> None:
    """Drop the open request when a stop is requested and its grace is over."""
    await stop.wait()
    await anyio.sleep(stop.grace_s)
    scope.cancel()


def cost(question: Question, tried: Tried) -> str | None:
    """Return what all attempts have cost, as a person reads it; None if that is not known as a whole.

    Raises UsageError for prices that cannot be read.
    """
    book = price_book(question.job)
    if book is None:
        return None
    books = Books(book)
    books.add([attempt for attempt in books.priced(tried.attempts) if isinstance(attempt, Attempt)])
    money = books.money
    return shown(money.spent) if money.known and not money.unpriced and money.perhaps == 0 else None
