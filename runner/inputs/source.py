"""From a prompt file to the items that are still to be done. Reads lazily, twice: once to look, once to work."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
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
"""A batch has fewer rows than that where their lines are together longer than this many bytes."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which rows of an input a session looks at, and which settled ones it sends again."""

    # only the first so many rows; None: all
    limit: int | None = None
    # failed rows are sent again
    retry_failed: bool = False
    # settled rows that ask something else since are sent again
    accept_changes: bool = False
    # the store knows nothing of this run, so it is not asked
    fresh: bool = False
    # the store may hold broken rows; those that have left the input are forgotten
    may_hold_broken: bool = True


class Counts(Struct):
    """What the source has passed so far. It may be read while the source runs."""

    # rows that were settled before and stay so
    settled: int = 0
    # rows that had an outcome before, failed ones that are tried again included
    seen: int = 0
    # of these: rows that ask something else now
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
    prompts: Input, scanned: Scan, template: Template, store: Store, counts: Counts, selection: Selection, look: Look
) -> AsyncGenerator[Item | Outcome, None]:
    """Yield what is still to be done, in input order: items, and the failed outcomes of broken rows.

    counts: is kept up to date. look: its untouched batches are not looked up once more.
    """
    forget = selection.may_hold_broken and not selection.fresh
    rows = islice(keyed(prompts.read(), scanned.repeated), selection.limit)
    line = 0
    while batch := await to_thread.run_sync(_batch, rows):
        known: Mapping[str, Settled] = {}
        tried: Mapping[str, int] = {}
        if not selection.fresh:
            line = await _forget(store, batch, line) if forget else line
            if _mark(batch) in look.untouched or await _is_untouched(store, batch, failed_too=not selection.retry_failed):
                counts.settled += len(batch)
                counts.seen += len(batch)
                continue
            known = await store.settled([key for key, _ in batch])
            tried = await _tried_anew(store, batch, known) if selection.accept_changes else tried
            await _reposition(store, batch, known)
        for key, row in batch:
            before = known.get(key)
            if before is None or before.broken:
                yield item(row, key, template)
            elif _is_due(row, before, counts, selection):
                candidate = _again(item(row, key, template), before, tried.get(key, 0), counts, selection)
                if candidate is not None:
                    yield candidate
    if selection.limit is None or scanned.rows <= selection.limit:
        if forget:
            await store.forget_broken(line + 1, None, [])
        counts.complete = True


def _is_due(row: Row, before: Settled, counts: Counts, selection: Selection) -> bool:
    """Tell whether a row that the store knows is to be sent, and count it.

    No item is made for this: of a million settled rows only the fingerprint is computed.
    """
    if before.status is None:
        return True
    counts.seen += 1
    changed = before.fingerprint != fingerprint(row)
    if (before.status == "failed" and selection.retry_failed) or (changed and selection.accept_changes):
        return True
    counts.settled += 1
    counts.changed += changed
    return False


def _again(candidate: Item | Outcome, before: Settled, tried: int, counts: Counts, selection: Selection) -> Item | Outcome | None:
    """Prepare a known row to be sent again; None when it is broken now and its earlier outcome stays.

    tried: the number of its last failed attempt behind an answer.
    """
    if isinstance(candidate, Item):
        number = max(before.attempts, tried)
        return structs.replace(candidate, attempts_before=number, answered=before.status == "done")
    if before.status is None or (before.status == "failed" and selection.retry_failed):
        return candidate
    # an answer is worth more than a row that is broken now
    counts.settled += 1
    counts.changed += 1
    return None


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


async def look(prompts: Input, scanned: Scan, store: Store, selection: Selection) -> Look:
    """Look through the settled rows of the input before a session begins."""
    rows = islice(keyed(prompts.read(), scanned.repeated), selection.limit)
    statuses = ("done",) if selection.retry_failed else ("done", "failed")
    seen = Look()
    while batch := await to_thread.run_sync(_batch, rows):
        if await _is_untouched(store, batch, failed_too=not selection.retry_failed):
            seen.settled += len(batch)
            seen.untouched.add(_mark(batch))
            continue
        known = await store.settled([key for key, _ in batch])
        for key, row in batch:
            before = known.get(key)
            if before is not None and before.status in statuses and not before.broken:
                changed = before.fingerprint != fingerprint(row)
                seen.changed += changed
                seen.settled += not (selection.accept_changes and changed)
    return seen


async def _is_untouched(store: Store, batch: Sequence[tuple[str, Row]], *, failed_too: bool) -> bool:
    """Tell whether all rows of a batch are settled, as they are and where they are: at a third of the price of a look-up."""
    found = await store.settled_between(batch[0][1].line, batch[-1][1].line, failed_too=failed_too)
    return len(found) == len(batch) and found == [(row.line, key, fingerprint(row)) for key, row in batch]


async def all_settled(prompts: Input, scanned: Scan, template: Template, store: Store) -> bool:
    """Tell whether every row of the input has an outcome; broken rows have one as long as they are broken."""
    rows = keyed(prompts.read(), scanned.repeated)
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
