"""A prompt file -> the items that are still to be done. Reads lazily, twice: once to look, once to work."""

from collections.abc import AsyncGenerator, Container, Iterator, Mapping, Sequence
from itertools import islice

from anyio import to_thread
from msgspec import Struct, field, structs

from runner.inputs.keys import fingerprint, keyed
from runner.inputs.prompts import Template, item
from runner.inputs.scan import Input, Scan
from runner.interfaces import Store
from runner.model import Item, Outcome, Row, Settled

BATCH = 1_000
"""Rows read, and keys looked up, at once."""
BATCH_BYTES = 4 << 20
"""... or fewer, where their lines are longer than that together."""


class Counts(Struct):
    """What the source came by; read it while the source runs."""

    # rows that were settled before and stay so
    settled: int = 0
    # rows that had an outcome before, failed ones that are tried again included
    seen: int = 0
    # of these: rows asked something else now
    changed: int = 0
    # the input was read to its end
    complete: bool = False


class Look(Struct):
    """What a look through the settled rows of an input showed."""

    # rows that are settled already and stay so
    settled: int = 0
    # settled rows that ask something else since
    changed: int = 0
    # batches, by ``_mark``, of rows that are all settled, as they were and where they were: nothing is to be done for them
    untouched: set[int] = field(default_factory=set)


async def items(
    given: Input,
    found: Scan,
    template: Template,
    store: Store,
    counts: Counts,
    *,
    fresh: bool,
    retry_failed: bool,
    limit: int | None,
    broken: bool = True,
    accept_changes: bool = False,
    untouched: Container[int] = frozenset(),
) -> AsyncGenerator[Item | Outcome, None]:
    """Give what is still to be done, in input order.

    fresh: the store knows nothing of this run, so it need not be asked. limit: look at the first so many rows only. broken: the
    store may hold broken rows, which are forgotten when they have gone. accept_changes: settled rows that ask something else
    now come again. untouched: what a ``Look`` has found to be so, which need not be looked up once more.
    """
    rows = islice(keyed(given.read(), found.repeated), limit)
    line = 0
    while batch := await to_thread.run_sync(_batch, rows):
        known: Mapping[str, Settled] = {}
        tried: Mapping[str, int] = {}
        if not fresh:
            line = await _forget(store, batch, line) if broken else line
            if _mark(batch) in untouched or await _is_untouched(store, batch, failed_too=not retry_failed):
                counts.settled += len(batch)
                counts.seen += len(batch)
                continue
            known = await store.settled([key for key, _ in batch])
            tried = await _tried_anew(store, batch, known) if accept_changes else tried
            await _reposition(store, batch, known)
        for key, row in batch:
            before = known.get(key)
            if before is None or before.broken:
                yield item(row, key, template)
                continue
            counts.seen += before.status is not None
            changed = before.status is not None and before.fingerprint != fingerprint(row)
            retried = before.status == "failed" and retry_failed
            if before.status is not None and not retried and not (changed and accept_changes):
                # its item is not made: of a million settled rows nothing but the fingerprint is asked
                counts.settled += 1
                counts.changed += changed
                continue
            candidate = item(row, key, template)
            if isinstance(candidate, Item):
                number = max(before.attempts, tried.get(key, 0))
                yield structs.replace(candidate, attempts_before=number, answered=before.status == "done")
            elif before.status is None or retried:
                yield candidate
            else:
                # an answer is worth more than a row that is broken now
                counts.settled += 1
                counts.changed += 1
    if limit is None or found.rows <= limit:
        if broken and not fresh:
            await store.forget_broken(line + 1, None, [])
        counts.complete = True


async def _tried_anew(store: Store, batch: Sequence[tuple[str, Row]], known: Mapping[str, Settled]) -> Mapping[str, int]:
    """Look up how often changed rows that are done were sent behind their answers."""
    done = [(key, row, before) for key, row in batch if (before := known.get(key)) and before.status == "done"]
    changed = [key for key, row, before in done if before.fingerprint != fingerprint(row)]
    return await store.tried(changed) if changed else {}


def _mark(batch: Sequence[tuple[str, Row]]) -> int:
    """Recognise a batch by its first line and its keys, should the file change between two readings; for one session only."""
    return hash((batch[0][1].line, *(key for key, _ in batch)))


def _batch(rows: Iterator[tuple[str, Row]]) -> list[tuple[str, Row]]:
    """Read as many rows as are looked up at once."""
    batch: list[tuple[str, Row]] = []
    left = BATCH_BYTES
    for keyed_row in islice(rows, BATCH):
        batch.append(keyed_row)
        left -= keyed_row[1].size
        if left <= 0:
            break
    return batch


async def look(
    given: Input, found: Scan, store: Store, *, limit: int | None, failed_too: bool, accept_changes: bool = False
) -> Look:
    """Look through the settled rows of the input before a session begins.

    failed_too: failed ones stay settled. accept_changes: changed ones do not.
    """
    rows = islice(keyed(given.read(), found.repeated), limit)
    statuses = ("done", "failed") if failed_too else ("done",)
    seen = Look()
    while batch := await to_thread.run_sync(_batch, rows):
        if await _is_untouched(store, batch, failed_too=failed_too):
            seen.settled += len(batch)
            seen.untouched.add(_mark(batch))
            continue
        known = await store.settled([key for key, _ in batch])
        for key, row in batch:
            before = known.get(key)
            if before is not None and before.status in statuses and not before.broken:
                changed = before.fingerprint != fingerprint(row)
                seen.changed += changed
                seen.settled += not (accept_changes and changed)
    return seen


async def _is_untouched(store: Store, batch: Sequence[tuple[str, Row]], *, failed_too: bool) -> bool:
    """Tell whether all rows of a batch are settled, as they are and where they are: at a third of the price of a look-up."""
    found = await store.settled_between(batch[0][1].line, batch[-1][1].line, failed_too=failed_too)
    return len(found) == len(batch) and found == [(row.line, key, fingerprint(row)) for key, row in batch]


async def all_settled(given: Input, found: Scan, template: Template, store: Store) -> bool:
    """Tell whether every row of the input has an outcome; broken rows have one as long as they are broken."""
    rows = keyed(given.read(), found.repeated)
    while batch := await to_thread.run_sync(_batch, rows):
        known = await store.settled([key for key, _ in batch])
        for key, row in batch:
            before = known.get(key)
            if before is None or before.status is None or (before.broken and isinstance(item(row, key, template), Item)):
                return False
    return True


async def _forget(store: Store, batch: Sequence[tuple[str, Row]], line: int) -> int:
    """Drop the broken rows that stood behind a line, up to the last one of a batch, and have gone; return that line."""
    last = batch[-1][1].line
    await store.forget_broken(line + 1, last, [key for key, _ in batch])
    return last


async def _reposition(store: Store, batch: Sequence[tuple[str, Row]], known: Mapping[str, Settled]) -> None:
    """Keep the export in the order of the input when lines have moved."""
    moved = [(key, row.line) for key, row in batch if (before := known.get(key)) and before.position not in (None, row.line)]
    if moved:
        await store.reposition(moved)
