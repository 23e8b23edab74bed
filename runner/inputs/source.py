"""A prompt file -> the items that are still to be done. Reads lazily, twice: once to look, once to work."""

import re
from array import array
from collections.abc import AsyncGenerator, Callable, Container, Generator, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread
from msgspec import Struct, field, structs

from runner.errors import UsageError
from runner.inputs.duplicates import Gathered, Repeats
from runner.inputs.prompts import KEY_PREFIX, Template, base_key, fingerprint, item
from runner.interfaces import Store
from runner.model import Item, Outcome, Row, Settled

BATCH = 1_000
"""Rows read, and keys looked up, at once."""
BATCH_BYTES = 4 << 20
"""... or fewer, where their lines are longer than that together."""
_SHOWN = 5
# duplicate ids, and lines of each, that are kept to be shown
_KEPT = 100
# what an identical row without an id may get as its key
_ORDINAL = re.compile(rf"({KEY_PREFIX}[0-9a-f]{{20}})-([2-9]|[1-9][0-9]{{1,9}})")


class Input(NamedTuple):
    """A prompt file as it was when it was opened.

    size: its bytes then; what is appended later is not looked at. read: begins to read the rows from the start; raises
    UsageError for what cannot be read.
    """

    path: Path
    size: int
    read: Callable[[], Generator[Row, None, None]]


class Scan(Struct, frozen=True, kw_only=True):
    """What a look through the whole input showed."""

    rows: int
    # the keys without ordinals that several rows share, by their ``_short``
    repeated: Repeats
    # identical rows without an id beyond the first
    identical: int = 0
    # ids that stand more than once
    doubled: int = 0
    # the first 100 of them -> the first 100 of their lines
    duplicates: dict[str, list[int]] = {}


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


def scan(given: Input) -> Scan:
    """Look through the input: 8 bytes a row of memory, and up to 16 where many rows are alike.

    The key's hash is Python's own, 64 bits and salted per process: a false match only costs a second look.
    """
    gathered = Gathered()
    rows = 0
    for row in given.read():
        rows += 1
        gathered.add(hash(base_key(row)[0]))
    suspects = gathered.repeats()
    return _second_look(given, rows, suspects) if suspects else Scan(rows=rows, repeated=suspects)


def _second_look(given: Input, rows: int, suspects: Repeats) -> Scan:
    """Tell ids that stand more than once from identical rows without one."""
    ours = Gathered()
    ids = bytearray(len(suspects))
    first: dict[str, str | None] = {}
    # ids that look like the keys we give to identical rows, as ids out of an export do
    alike = False
    for row in given.read():
        key, is_own = base_key(row)
        alike = alike or (is_own and _ORDINAL.fullmatch(key) is not None)
        at = suspects.find(hash(key))
        if at is not None and not is_own:
            ours.add(_short(key))
        elif at is not None and not ids[at]:
            ids[at] = 1
            if len(first) < _KEPT:
                first[key] = None
    repeated = ours.repeats()
    doubled = sum(ids)
    if alike and repeated:
        clashes = _clashes(given, repeated)
        doubled += clashes.number - len(first.keys() & clashes.first.keys())
        first |= clashes.first
    duplicates = _lines(given, first) if first else {}
    return Scan(
        rows=rows,
        repeated=repeated,
        identical=sum(repeated.counts) - len(repeated),
        # a false match of two hashes is one too many
        doubled=doubled - len(first) + len(duplicates),
        duplicates=duplicates,
    )


class _Clashes(NamedTuple):
    number: int
    # the first of them -> the key whose ordinal they bear
    first: dict[str, str | None]


def _clashes(given: Input, repeated: Repeats) -> _Clashes:
    """Find ids that are the key of an identical row without an id."""
    count = 0
    first: dict[str, str | None] = {}
    for row in given.read():
        key, is_own = base_key(row)
        found = _ORDINAL.fullmatch(key) if is_own else None
        at = repeated.find(_short(found[1])) if found is not None else None
        if found is not None and at is not None and int(found[2]) <= repeated.counts[at]:
            count += 1
            if len(first) < _KEPT:
                first[key] = found[1]
    return _Clashes(count, first)


def _lines(given: Input, ids: Mapping[str, str | None]) -> dict[str, list[int]]:
    """Find the lines of ids, and of the keys whose ordinal they bear; those with one line only are left out."""
    lines: dict[str, list[int]] = {key: [] for pair in ids.items() for key in pair if key is not None}
    for row in given.read():
        key, _ = base_key(row)
        if key in lines and len(lines[key]) < _KEPT:
            lines[key].append(row.line)
    found = {key: lines[key] + (lines[base] if base is not None else []) for key, base in ids.items()}
    return {key: where for key, where in found.items() if len(where) > 1}


def _short(key: str) -> int:
    """Shorten a key that we gave to 64 of its 80 bits: if two rows ever share them, one gets an ordinal for nothing."""
    return int(key[len(KEY_PREFIX) : len(KEY_PREFIX) + 16], 16) - (1 << 63)


def refuse_duplicates(found: Scan, path: Path) -> None:
    """Raise UsageError when ids stand more than once: it could not be told whose answer is whose."""
    if not found.duplicates:
        return
    first = [
        f"{key!r} on lines {', '.join(map(str, where[:3]))}{', ...' if len(where) > 3 else ''}"
        for key, where in islice(found.duplicates.items(), _SHOWN)
    ]
    more = found.doubled - len(first)
    tail = f"; and {more:,} more" if more > 0 else ""
    count = "1 id stands" if found.doubled == 1 else f"{found.doubled:,} ids stand"
    raise UsageError(f"{path}: {count} more than once: {'; '.join(first)}{tail}. Give every row an id of its own, or none")


def digest(given: Input) -> str:
    """Hash the bytes of an input. Raises UsageError for what cannot be read: a pipe would never end."""
    given.read().close()
    hashed = blake2b(digest_size=16)
    left = given.size
    with given.path.open("rb") as file:
        while block := file.read(min(1 << 20, left)):
            hashed.update(block)
            left -= len(block)
    return hashed.hexdigest()


def keyed(rows: Iterator[Row], repeated: Repeats) -> Iterator[tuple[str, Row]]:
    """Give every row its key: identical rows without an id are told apart by an ordinal."""
    seen = array("I", bytes(repeated.counts.itemsize * len(repeated)))
    for row in rows:
        key, is_own = base_key(row)
        at = repeated.find(_short(key)) if seen and not is_own else None
        if at is not None:
            seen[at] += 1
            if seen[at] > 1:
                key = f"{key}-{seen[at]}"
        yield key, row


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
