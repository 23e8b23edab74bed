"""The batches of a store as people see them, and what they may do with one: cancel it, or give it up."""

import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio
from msgspec import Struct

from runner.batches import OPEN_STATES, State, StoredBatch
from runner.config.endpoint import find_endpoint
from runner.config.job import restore_job
from runner.errors import AttemptError, RunStoppedError, UsageError
from runner.model import Run
from runner.money import PICO
from runner.session import batch_fit, wiring
from runner.session.batch_words import state_word, word_of
from runner.session.naming import command, store_option
from runner.store.batch_reading import read_batches
from runner.store.batches import BILLED, NOT_MADE
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.text import plural

_NAMED = re.compile(r"b?([0-9]{1,9})", re.ASCII | re.IGNORECASE)
GIVEN_UP = "given up by `runner batches forget`"


class ShownBatch(Struct, frozen=True, kw_only=True):
    """A batch of a run. Instants are seconds since the epoch; null: not known, or not yet."""

    # its number in the store, the run, and how far it has come
    id: int
    run: int
    state: State
    # whether rows still wait for it
    open: bool
    # who has it, the provider's own id and word for its state, and how it ended: completed, expired, cancelled or failed
    vendor: str
    remote_id: str | None
    word: str | None
    end: str | None
    model: str
    # its requests; those that still wait; those that the provider has answered, and those that failed there, by its own count
    rows: int
    waiting: int
    done: int
    failed: int
    created_at: float
    submitted_at: float | None
    ended_at: float | None
    expires_at: float | None
    # until when the provider keeps the results
    kept_until: float | None
    # dollars that all its requests may cost together at the most; null: no price or no limit is known
    cost_most: float | None
    # what is wrong with it, in words
    error: str | None


def shown(batch: StoredBatch) -> ShownBatch:
    """Return a batch as it is shown."""
    rates = batch.price.rates if batch.price is not None else None
    most = rates.most(batch.input_bound, batch.output_bound) if rates is not None and batch.output_bound is not None else None
    return ShownBatch(
        id=batch.id,
        run=batch.run_id,
        state=batch.state,
        open=batch.state in OPEN_STATES,
        vendor=batch.vendor,
        remote_id=batch.remote_id,
        word=batch.word,
        end=batch.end,
        model=batch.model,
        rows=batch.rows,
        waiting=batch.waiting,
        done=batch.done,
        failed=batch.failed,
        created_at=batch.created_at,
        submitted_at=batch.submitted_at,
        ended_at=batch.ended_at,
        expires_at=batch.expires_at,
        kept_until=batch.kept_until,
        cost_most=most / PICO if most is not None else None,
        error=batch.error,
    )


def listed(db: str | Path, run_id: int | None = None) -> list[ShownBatch]:
    """Return the batches of a run, or of all runs of a store, oldest first. Raises UsageError, StoreError."""
    with StoreReader(Path(db).resolve()) as reader:
        if run_id is not None:
            reader.run(run_id, counted=False)
        return [shown(one) for one in read_batches(reader.fetch, run_id, all_states=True)]


def waiting_in(db: Path, run_id: int) -> list[ShownBatch]:
    """Return the open batches of a run."""
    with StoreReader(db) as reader:
        return [shown(one) for one in read_batches(reader.fetch, run_id)]


def number_of(word: str) -> int:
    """Return the number of a batch as people name it: ``b12`` or ``12``. Raises UsageError."""
    found = _NAMED.fullmatch(word.strip())
    if found is None:
        raise UsageError(f"a batch is named by its number, such as b3, and {word!r} is none; `runner batches` shows them")
    return int(found[1])


def found(db: str | Path, words: Iterable[str]) -> list[tuple[StoredBatch, Run]]:
    """Return the batches that were named, each with its run. Raises UsageError for one that is not there, or not open."""
    numbers = list(dict.fromkeys(map(number_of, words)))
    with StoreReader(Path(db).resolve()) as reader:
        stored = {one.id: one for one in read_batches(reader.fetch, None, all_states=True)}
        missing = [number for number in numbers if number not in stored]
        if missing:
            raise UsageError(f"there is no batch b{missing[0]} in {db}; `runner batches{store_option(db)}` shows all of them")
        chosen = [stored[number] for number in numbers]
        over = next((one for one in chosen if one.state not in OPEN_STATES), None)
        if over is not None:
            raise UsageError(f"batch b{over.id} is {word_of(over)} already, and no row waits for it")
        return [(one, reader.run(one.run_id, counted=False)) for one in chosen]


def cancel(db: str | Path, words: Sequence[str]) -> list[str]:
    """Ask the provider to cancel batches, and say what came of it, a sentence each.

    What they have answered by then is paid for: the session of the run, or the next one, takes it. Raises UsageError, StoreError,
    and RunStoppedError if the provider does not do it.
    """
    said = []
    for batch, run in found(db, words):
        resume = f"`{command('resume', run.id, db)}`"
        if batch.remote_id is None or batch.state in NOT_MADE:
            raise UsageError(
                f"batch b{batch.id} has no id at the provider yet, so it cannot be cancelled there; a session of run {run.id} "
                f"finds out what has become of it: {resume}"
            )
        who = f"the session of run {run.id} that is at work" if run.active else resume
        if batch.state == "ended":
            said.append(f"batch b{batch.id} has ended already; {who} takes its answers")
            continue
        word = anyio.run(_cancel, batch, run)
        before = f" (`{command('stop', run.id, db)}` ends it before that)" if run.active else ""
        said.append(
            f"batch b{batch.id}: the provider says {word}; {who} takes what it has answered, and sends the other rows{before}"
        )
    return said


async def _cancel(batch: StoredBatch, run: Run) -> str:
    job = batch_fit.as_sent(restore_job({**run.settings, "input": run.input}, {}))
    if job.local_server is not None:
        raise UsageError(f"the server of batch b{batch.id} ends with the session that has started it: stop that session")
    endpoint = find_endpoint(job, os.environ)
    assert endpoint.base_url is not None
    assert batch.remote_id is not None
    if endpoint.base_url != batch.base_url:
        raise UsageError(f"batch b{batch.id} is at {batch.base_url}, and run {run.id} is at {endpoint.base_url} now")
    made = wiring.made_at(job, endpoint, endpoint.base_url)
    provider = wiring.informed(job, endpoint, made, lambda _: None, lambda: None, answered=True)
    async with batch_fit.open_service(job, endpoint, endpoint.base_url, provider) as service:
        if not service.rules.cancels:
            raise UsageError(f"{batch.vendor} can cancel batch b{batch.id} only by deleting what it has answered: it goes on")
        try:
            return (await service.cancel(batch.remote_id)).word
        except AttemptError as error:
            raise RunStoppedError(
                f"batch b{batch.id} is not cancelled: {endpoint.redactor(str(error))}", code=error.code
            ) from error


def forget(db: str | Path, words: Sequence[str]) -> list[str]:
    """Give up batches that are lost: their rows are open again, and are booked as perhaps billed. Say so, a sentence each.

    Raises UsageError, StoreError, and RunLockedError while a session works on the run.
    """
    said = []
    for batch, run in found(db, words):
        rows = anyio.run(_forget, Path(db).resolve(), batch)
        booked = ", booked as perhaps billed" if batch.state in BILLED else ""
        stays = f"; its file {batch.upload_id} stays at {batch.vendor}" if batch.upload_id is not None else ""
        said.append(f"batch b{batch.id} is given up: {plural(rows, 'row')} of run {run.id} open again{booked}{stays}")
    return said


async def _forget(db: Path, batch: StoredBatch) -> int:
    async with RunStore.own(db, batch.run_id) as store:
        if batch.state in NOT_MADE:
            await store.batches.drop_batch(batch.id)
            return batch.waiting
        rows: int = await store.batches.give_up(batch.id, GIVEN_UP)
        return rows


def state_of(batch: ShownBatch) -> str:
    """Return the state of a batch as people read it."""
    return state_word(batch.state, batch.word)


def age_s(batch: ShownBatch, now: float | None = None) -> float:
    """Return how old a batch is, or how long it took, in seconds."""
    end = batch.ended_at if batch.ended_at is not None else time.time() if now is None else now
    return max(0.0, end - (batch.submitted_at or batch.created_at))
