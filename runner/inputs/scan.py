"""Looks through a prompt file once, before anything is sent: counts its rows, finds duplicate ids and identical rows."""

import re
from collections.abc import Callable, Generator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from runner.errors import UsageError
from runner.inputs.duplicates import HashCollector, RepeatedHashes
from runner.inputs.keys import KEY_PREFIX, base_key, short_key
from runner.model import Row

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
    # the keys without ordinals that several rows share, by their ``short_key``
    repeated: RepeatedHashes
    # identical rows without an id beyond the first
    identical: int = 0
    # ids that stand more than once
    doubled: int = 0
    # the first 100 of them -> the first 100 of their lines
    duplicates: dict[str, list[int]] = {}


def scan(given: Input) -> Scan:
    """Look through the input: 8 bytes a row of memory, and up to 16 where many rows are alike.

    The key's hash is Python's own, 64 bits and salted per process: a false match only costs a second look.
    """
    gathered = HashCollector()
    rows = 0
    for row in given.read():
        rows += 1
        gathered.add(hash(base_key(row)[0]))
    suspects = gathered.repeats()
    return _second_look(given, rows, suspects) if suspects else Scan(rows=rows, repeated=suspects)


def _second_look(given: Input, rows: int, suspects: RepeatedHashes) -> Scan:
    """Tell ids that stand more than once from identical rows without one."""
    ours = HashCollector()
    ids = bytearray(len(suspects))
    first: dict[str, str | None] = {}
    # ids that look like the keys we give to identical rows, as ids out of an export do
    alike = False
    for row in given.read():
        key, is_own = base_key(row)
        alike = alike or (is_own and _ORDINAL.fullmatch(key) is not None)
        at = suspects.find(hash(key))
        if at is not None and not is_own:
            ours.add(short_key(key))
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


def _clashes(given: Input, repeated: RepeatedHashes) -> _Clashes:
    """Find ids that are the key of an identical row without an id."""
    count = 0
    first: dict[str, str | None] = {}
    for row in given.read():
        key, is_own = base_key(row)
        found = _ORDINAL.fullmatch(key) if is_own else None
        at = repeated.find(short_key(found[1])) if found is not None else None
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
