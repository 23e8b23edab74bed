"""What a store holds of a run whose rows are asked again, and the rules that no kill of a retry may break."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from processes import HANG_S

from kills.store import copied


class Entry(NamedTuple):
    """One row of ``items``."""

    status: str
    text: str | None
    attempt_id: int | None
    same_as: int | None


class Looked(NamedTuple):
    """All of it at one moment. doubled: what is there several times, with its key. settled: outcomes of the retry, by key."""

    integrity: tuple[str, ...]
    doubled: list[tuple[str, str]]
    items: dict[str, Entry]
    replaced: Counter[tuple[str, str]]
    retry: int | None
    chosen: frozenset[str]
    settled: dict[str, str]
    spent: float

    @property
    def pending(self) -> frozenset[str]:
        """Rows that are still to be asked again."""
        return self.chosen - self.settled.keys()


def read(store: Path, scratch: Path | None) -> Looked:
    """Read a store whose process is dead. scratch: a folder for a copy; None: open the store itself, as any program may."""
    path = store if scratch is None else copied(store, scratch)
    with closing(sqlite3.connect(path, timeout=HANG_S)) as connection:
        try:
            return _read(connection)
        except sqlite3.DatabaseError as error:
            return Looked((str(error),), [], {}, Counter(), None, frozenset(), {}, 0.0)


def _read(connection: sqlite3.Connection) -> Looked:
    rows = connection.execute
    integrity = [row[0] for row in rows("PRAGMA integrity_check")]
    integrity += [f"foreign key: {row}" for row in rows("PRAGMA foreign_key_check")]
    doubled = [
        (table, key)
        for table, column in (("items", "key"), ("retried", "item_key"))
        for (key,) in rows(f"SELECT {column} FROM {table} GROUP BY run_id, {column} HAVING count(*) > 1")
    ]
    (retry,) = rows("SELECT max(id) FROM retries WHERE begun_at IS NOT NULL").fetchone()
    outcomes = dict(rows("SELECT item_key, outcome FROM retried WHERE retry_id = ?", (retry,)))
    return Looked(
        integrity=tuple(integrity),
        doubled=doubled,
        items={key: Entry(*rest) for key, *rest in rows("SELECT key, status, text, attempt_id, same_as FROM items")},
        replaced=Counter(rows("SELECT item_key, text FROM replaced").fetchall()),
        retry=retry,
        chosen=frozenset(outcomes),
        settled={key: outcome for key, outcome in outcomes.items() if outcome is not None},
        spent=rows("SELECT total(cost) FROM spend").fetchone()[0],
    )


def judged(before: Looked, after: Looked, asked: Sequence[int], prompt_of: Callable[[str], int]) -> Iterator[str]:
    """Judge what a session of a retry has left. asked: the prompts that it has sent. prompt_of: tells that of a row.

    Yield a sentence for each rule that is broken.
    """
    if after.integrity != ("ok",):
        yield f"the store is damaged: {'; '.join(after.integrity)}"
        return
    yield from (f"{key} has several {what}" for what, key in after.doubled)
    if gone := before.items.keys() - after.items.keys():
        yield f"rows are gone: {sorted(gone)}"
    changed = {key: old for key, old in before.items.items() if after.items.get(key) != old}
    yield from _former(before, after, changed)
    same = before.retry == after.retry
    if same and (lost := before.settled.items() - after.settled.items()):
        yield f"outcomes are gone: {sorted(lost)}"
    if same and (others := changed.keys() - before.pending):
        yield f"rows have another answer that were not to be asked: {sorted(others)}"
    if odd := set(asked) - {prompt_of(key) for key in (before.pending if same else after.chosen)}:
        yield f"prompts were sent again whose rows have their outcome, or were not chosen: {sorted(odd)}"
    for key in after.settled.keys() - (before.settled.keys() if same else set()):
        outcome, now = after.settled[key], after.items.get(key)
        if outcome != "kept" and now is not None and now.status != outcome:
            yield f"{key} has the outcome {outcome} and is {now.status}"
        if (outcome == "kept") == (key in changed):
            yield f"{key} has the outcome {outcome}, and {'another' if key in changed else 'the same'} entry"


def _former(before: Looked, after: Looked, changed: Mapping[str, Entry]) -> Iterator[str]:
    """Judge the answers that were replaced: each of them is kept once. changed: the entries before."""
    if before.replaced - after.replaced:
        yield f"former answers are gone: {sorted(before.replaced - after.replaced)}"
    new, expected = after.replaced - before.replaced, {(key, old.text) for key, old in changed.items() if old.text is not None}
    if new != Counter(expected):
        wanted, kept = (sorted(key for key, _ in answers) for answers in (expected, new.elements()))
        yield f"of {wanted} former answers are to be kept, and are of {kept}"
