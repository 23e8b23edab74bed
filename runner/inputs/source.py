"""Yields the items of a prompt file that are still to be done.

Reads lazily and in batches. A session may read the file twice: first ``find_settled`` counts the settled rows, then ``items``
yields the others.
"""

from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from itertools import islice

from anyio import to_thread
from msgspec import structs

from runner.inputs.keys import asks_the_same, fingerprint, keyed
from runner.inputs.prompts import Template, make_item
from runner.inputs.row_counts import Counts as Counts
from runner.inputs.row_counts import Selection as Selection
from runner.inputs.row_counts import SettledRows as SettledRows
from runner.inputs.scan import PromptFile, Scan
from runner.interfaces import Store
from runner.model import Item, Outcome, Row
from runner.settled import Settled
from runner.several import key_of, number_of, row_of

BATCH = 1_000
"""Number of rows that are read, and whose keys are looked up, at once."""
BATCH_BYTES = 4 << 20
"""A batch ends early when its lines reach this many bytes."""


async def items(
    prompts: PromptFile,
    scanned: Scan,
    template: Template,
    store: Store,
    counts: Counts,
    selection: Selection,
    before: SettledRows,
) -> AsyncGenerator[Item | Outcome, None]:
    """Yield what is still to be done, in input order: items, and the failed outcomes of broken rows.

    counts: updated along the way. before: its untouched batches are not looked up again.
    """
    forget = selection.may_hold_broken and not selection.fresh
    rows = _as_far_as(islice(_keyed(prompts, scanned), selection.limit), selection.only)
    answers = selection.answers
    line = scanned.before.lines
    while batch := await to_thread.run_sync(_batch, rows, answers):
        counts.last_line = batch[-1][1].line
        settled: Mapping[str, Settled] = {}
        tried: Mapping[str, int] = {}
        if not selection.fresh:
            line = await _forget(store, batch, line, in_part=selection.in_part) if forget else line
            if _mark(batch) in before.untouched or await _is_untouched(store, batch, selection):
                counts.settled += len(batch)
                counts.seen += len(batch)
                continue
            settled = await store.settled([key for key, _ in batch])
            tried = await _attempts_since_done(store, batch, settled, selection)
            await _reposition(store, batch, settled)
        for key, row in batch:
            candidate = _candidate(row, key, settled.get(key), tried, template, counts, selection)
            if candidate is not None:
                yield candidate
    if selection.only is None and (selection.limit is None or scanned.rows <= selection.limit):
        if forget and not selection.in_part:
            await store.forget_broken((line + 1, None), [])
        counts.complete = True


def _as_far_as(rows: Iterator[tuple[str, Row]], keys: Collection[str] | None) -> Iterator[tuple[str, Row]]:
    """Yield rows up to the last that has one of these keys; None: all."""
    # the rows to which they belong: a key may be that of one of several answers
    sought = None if keys is None else set(map(row_of, keys))
    if sought is None:
        yield from rows
        return
    while sought and (row := next(rows, None)) is not None:
        sought.discard(row[0])
        yield row


def _keyed(prompts: PromptFile, scanned: Scan) -> Iterator[tuple[str, Row]]:
    return keyed(prompts.read(), scanned.repeated, scanned.before.identical)


def _candidate(
    row: Row,
    key: str,
    stored: Settled | None,
    tried: Mapping[str, int],
    template: Template,
    counts: Counts,
    selection: Selection,
) -> Item | Outcome | None:
    """Return what is to be done for a row, and count it; None if that is nothing."""
    if stored is not None and stored.waiting:
        counts.waiting += 1
        counts.seen += not (stored.status is None or stored.broken)
        return None
    left = selection.retries or (selection.only is not None and key not in selection.only)
    if left and _is_open(stored):
        counts.left += 1
        return None
    if stored is None or (stored.broken and not selection.retries):
        return make_item(row, key, template)
    if not _is_due(row, stored, counts, selection):
        return None
    return _again(make_item(row, key, template), stored, tried.get(key, 0), counts, selection)


def _is_open(stored: Settled | None) -> bool:
    return stored is None or stored.status is None


def _is_due(row: Row, stored: Settled, counts: Counts, selection: Selection) -> bool:
    """Return True if a row that the store already knows is to be sent, and count it.

    No item is made here, so that of a million settled rows only the fingerprints are computed.
    """
    if stored.status is None:
        return True
    counts.seen += not stored.broken
    changed = not (stored.broken or asks_the_same(row, stored.fingerprint))
    if stored.again if selection.retries else (changed and selection.accept_changes):
        return True
    counts.settled += 1
    counts.changed += changed
    return False


def _again(candidate: Item | Outcome, stored: Settled, tried: int, counts: Counts, selection: Selection) -> Item | Outcome | None:
    """Prepare a row that the store already knows to be sent again; None if it is broken now and keeps its earlier outcome.

    tried: number of the last failed attempt since the row was done; 0 if there is none.
    """
    if isinstance(candidate, Item):
        number = max(stored.attempts, tried)
        return structs.replace(candidate, attempts_before=number, answered=stored.status == "done")
    if stored.status != "done" and (stored.status is None or selection.retries):
        return candidate
    if selection.retries:
        return structs.replace(candidate, kept=True, attempts=max(stored.attempts, tried))
    # The earlier outcome, perhaps an answer, is worth more than the fault of a row that is broken now.
    counts.settled += 1
    counts.changed += 1
    return None


async def _attempts_since_done(
    store: Store, batch: Sequence[tuple[str, Row]], settled: Mapping[str, Settled], selection: Selection
) -> Mapping[str, int]:
    """Return the number of the last failed attempt since the answer, for rows that are done and sent again."""
    if not (selection.retries or selection.accept_changes):
        return {}
    done = [(key, row, stored) for key, row in batch if (stored := settled.get(key)) and stored.status == "done"]
    again = [
        key for key, row, stored in done if stored.again or not (selection.retries or asks_the_same(row, stored.fingerprint))
    ]
    return await store.tried(again) if again else {}


def _mark(batch: Sequence[tuple[str, Row]]) -> int:
    """Return a hash of a batch: its first line and keys, by which this process knows it again if the file has not changed."""
    return hash((batch[0][1].line, *(key for key, _ in batch)))


def _batch(rows: Iterator[tuple[str, Row]], answers: int) -> list[tuple[str, Row]]:
    """Read the next rows, each as often as answers are wanted of it, with the key of each answer.

    That are ``BATCH`` answers, or fewer once the rows reach ``BATCH_BYTES``.
    """
    batch: list[tuple[str, Row]] = []
    left = BATCH_BYTES
    for keyed_row in islice(rows, max(1, BATCH // answers)):
        batch.append(keyed_row)
        batch += [(key_of(keyed_row[0], number), keyed_row[1]) for number in range(2, answers + 1)]
        left -= keyed_row[1].size
        if left <= 0:
            break
    return batch


async def find_settled(prompts: PromptFile, scanned: Scan, store: Store, selection: Selection) -> SettledRows:
    """Count the settled rows of the input before a session begins."""
    rows, answers = islice(_keyed(prompts, scanned), selection.limit), selection.answers
    before = (scanned.before.rows - scanned.before.broken) * answers
    found = SettledRows(settled=before, seen=before)
    while batch := await to_thread.run_sync(_batch, rows, answers):
        if not selection.counts_failed and await _is_untouched(store, batch, selection):
            found.settled += len(batch)
            found.seen += len(batch)
            found.untouched.add(_mark(batch))
            continue
        settled = await store.settled([key for key, _ in batch])
        for key, row in batch:
            stored = settled.get(key)
            if stored is not None and stored.waiting:
                found.waiting += 1
                found.seen += not (stored.status is None or stored.broken)
                continue
            if stored is None or stored.status is None:
                found.left += selection.retries
                continue
            found.seen += not stored.broken
            found.seen_failed += stored.status == "failed" and not stored.broken
            changed = not (stored.broken or asks_the_same(row, stored.fingerprint))
            found.again += stored.again
            found.again_changed += stored.again and changed
            if not (stored.again or (stored.broken and not selection.retries)):
                found.changed += changed
                found.settled += (stays := not (selection.accept_changes and changed))
                found.failed += stays and stored.status == "failed"
    return found


async def _is_untouched(store: Store, batch: Sequence[tuple[str, Row]], selection: Selection) -> bool:
    """Return True if all rows of a batch are settled, unchanged and on their old lines. Costs a third of a look-up by keys."""
    first, last = batch[0][1].line, batch[-1][1].line
    on_lines = await store.settled_between(first, last)
    if selection.answers > 1 or len(on_lines) > len(batch):
        # the answers of a row come in any order, and there may be more than are wanted now
        wanted = (stored for stored in on_lines if number_of(stored[1]) <= selection.answers)
        return sorted(wanted) == sorted((row.line, key, fingerprint(row)) for key, row in batch)
    return len(on_lines) == len(batch) and on_lines == [(row.line, key, fingerprint(row)) for key, row in batch]


async def all_settled(prompts: PromptFile, scanned: Scan, template: Template, store: Store, answers: int = 1) -> bool:
    """Return True if every row of the input has an outcome. The outcome of a broken row counts while the row is still broken."""
    rows = _keyed(prompts, scanned)
    while batch := await to_thread.run_sync(_batch, rows, answers):
        settled = await store.settled([key for key, _ in batch])
        for key, row in batch:
            stored = settled.get(key)
            if (
                stored is None
                or stored.status is None
                or stored.waiting
                or (stored.broken and isinstance(make_item(row, key, template), Item))
            ):
                return False
    return True


async def _forget(store: Store, batch: Sequence[tuple[str, Row]], line: int, *, in_part: bool) -> int:
    """Delete the stored broken rows after ``line`` that have left the file, up to the batch's last line; return that line.

    in_part: a row that is not read may still be there, so only the lines of the batch are looked at.
    """
    last, keys = batch[-1][1].line, [key for key, _ in batch]
    await store.forget_broken([row.line for _, row in batch] if in_part else (line + 1, last), keys)
    return last


async def _reposition(store: Store, batch: Sequence[tuple[str, Row]], settled: Mapping[str, Settled]) -> None:
    """Store the new lines of rows that have moved, so that the export keeps the order of the input."""
    moved = [(key, row.line) for key, row in batch if (stored := settled.get(key)) and stored.position not in (None, row.line)]
    if moved:
        await store.reposition(moved)
