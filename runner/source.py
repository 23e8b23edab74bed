"""A prompt file -> the items that are still to be done. Reads lazily, twice: once to look, once to work."""

from array import array
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread
from msgspec import Struct, structs

from runner.errors import UsageError
from runner.interfaces import Store
from runner.model import Item, Outcome, Row, Settled
from runner.prompts import KEY_PREFIX, Template, base_key, fingerprint, item

BATCH = 256
"""Rows read, and keys looked up, at once."""
_BUCKETS = 64
_SHOWN = 5


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
    # hashes of the keys that several rows share; only these need ordinals
    repeated: frozenset[int]
    # identical rows without an id beyond the first
    identical: int
    # id -> its lines, for ids that stand more than once
    duplicates: dict[str, list[int]]


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


def scan(given: Input) -> Scan:
    """Look through the input: about 8 bytes a row of memory.

    The key's hash is Python's own, 64 bits and salted per process: a false match only costs a second look.
    """
    buckets = [array("q") for _ in range(_BUCKETS)]
    rows = 0
    for row in given.read():
        rows += 1
        hashed = hash(base_key(row)[0])
        buckets[hashed % _BUCKETS].append(hashed)
    suspects = frozenset(hashed for bucket in buckets for hashed in _repeated(bucket))
    if not suspects:
        return Scan(rows=rows, repeated=suspects, identical=0, duplicates={})
    return _second_look(given, rows, suspects)


def _repeated(bucket: "array[int]") -> Iterator[int]:
    ordered = sorted(bucket)
    return (one for one, next_one in pairwise(ordered) if one == next_one)


def _second_look(given: Input, rows: int, suspects: frozenset[int]) -> Scan:
    lines: dict[str, list[int]] = {}
    own: set[str] = set()
    # ids that look like the keys we give, as ids out of an export do
    alike: dict[str, int] = {}
    for row in given.read():
        key, is_own = base_key(row)
        if is_own and key.startswith(KEY_PREFIX):
            alike[key] = row.line
        if hash(key) in suspects:
            lines.setdefault(key, []).append(row.line)
            if is_own:
                own.add(key)
    shared = {key: where for key, where in lines.items() if len(where) > 1}
    ordinals = {f"{key}-{count}": key for key, where in shared.items() for count in range(2, len(where) + 1) if key not in own}
    return Scan(
        rows=rows,
        repeated=frozenset(map(hash, shared)),
        identical=sum(len(where) - 1 for key, where in shared.items() if key not in own),
        duplicates={key: where for key, where in shared.items() if key in own}
        | {key: [alike[key], *shared[base]] for key, base in ordinals.items() if key in alike},
    )


def refuse_duplicates(found: Scan, path: Path) -> None:
    """Raise UsageError when ids stand more than once: it could not be told whose answer is whose."""
    if not found.duplicates:
        return
    first = [
        f"{key!r} on lines {', '.join(map(str, where[:3]))}{', ...' if len(where) > 3 else ''}"
        for key, where in islice(found.duplicates.items(), _SHOWN)
    ]
    more = len(found.duplicates) - len(first)
    tail = f"; and {more} more" if more > 0 else ""
    count = "1 id stands" if len(found.duplicates) == 1 else f"{len(found.duplicates)} ids stand"
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


def keyed(rows: Iterator[Row], repeated: frozenset[int]) -> Iterator[tuple[str, Row]]:
    """Give every row its key: identical rows without an id are told apart by an ordinal."""
    seen: Counter[int] = Counter()
    for row in rows:
        key, _ = base_key(row)
        hashed = hash(key)
        if hashed in repeated:
            seen[hashed] += 1
            if seen[hashed] > 1:
                key = f"{key}-{seen[hashed]}"
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
    accept_changes: bool = False,
) -> AsyncGenerator[Item | Outcome, None]:
    """Give what is still to be done, in input order.

    fresh: the store knows nothing of this run, so it need not be asked. limit: look at the first so many rows only.
    accept_changes: settled rows that ask something else now come again.
    """
    rows = islice(keyed(given.read(), found.repeated), limit)

    line = 0

    def batch() -> list[Item | Outcome]:
        return [item(row, key, template) for key, row in islice(rows, BATCH)]

    while candidates := await to_thread.run_sync(batch):
        known: dict[str, Settled] = {}
        if not fresh:
            keys = [candidate.key for candidate in candidates]
            known = dict(await store.settled(keys))
            await _reposition(store, candidates, known)
            await store.forget_broken(line + 1, candidates[-1].position, keys)
            line = candidates[-1].position
        for candidate in candidates:
            before = known.get(candidate.key)
            counts.seen += before is not None and before.status is not None and not before.broken
            if before is None or before.broken:
                yield candidate
                continue
            changed = before.status is not None and before.fingerprint != candidate.fingerprint
            again = (before.status == "failed" and retry_failed) or (changed and accept_changes and isinstance(candidate, Item))
            if before.status is not None and not again:
                counts.settled += 1
                counts.changed += changed
            elif isinstance(candidate, Item):
                yield structs.replace(candidate, attempts_before=before.attempts)
            else:
                yield candidate
    if limit is None or found.rows <= limit:
        if not fresh:
            await store.forget_broken(line + 1, None, [])
        counts.complete = True


async def count_settled(
    given: Input, found: Scan, store: Store, *, limit: int | None, failed_too: bool, accept_changes: bool = False
) -> tuple[int, int]:
    """Count the rows of the input that are settled already and stay so, and those that ask something else since.

    failed_too: failed ones stay so. accept_changes: changed ones do not.
    """
    rows = islice(keyed(given.read(), found.repeated), limit)
    statuses = ("done", "failed") if failed_too else ("done",)
    settled = changed = 0
    while batch := await to_thread.run_sync(lambda: [(key, fingerprint(row.fields or {})) for key, row in islice(rows, BATCH)]):
        known = await store.settled([key for key, _ in batch])
        for key, asked in batch:
            before = known.get(key)
            if before is not None and before.status in statuses and not before.broken:
                changed += before.fingerprint != asked
                settled += not (accept_changes and before.fingerprint != asked)
    return settled, changed


async def _reposition(store: Store, candidates: Sequence[Item | Outcome], known: dict[str, Settled]) -> None:
    """Keep the export in the order of the input when lines have moved."""
    moved = [
        (candidate.key, candidate.position)
        for candidate in candidates
        if (before := known.get(candidate.key)) and before.position not in (None, candidate.position)
    ]
    if moved:
        await store.reposition(moved)
