"""Steps by which the index of rows is brought up to date (``row_index``)."""

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from runner.several import row_of
from runner.store import database
from runner.store.index_words import marks, text_of

_TABLES = (
    "CREATE TABLE entries_{run} (place INTEGER PRIMARY KEY, item INTEGER UNIQUE, mark INTEGER NOT NULL)",
    (
        "CREATE VIRTUAL TABLE words_{run} USING fts5(text, marks, content='', detail=column, columnsize=0,"
        " tokenize='unicode61 remove_diacritics 0', prefix='2 3')"
    ),
)
_COLUMNS = (
    "id, run_id, key, position, answer_number, status, finish_reason, error_code, metadata, text,"
    " attempt_id, attempts, fingerprint, same_as, substr(text, 1, 48)"
)
_NUMBER_BITS, _TURN_BITS = 10, 6
_OF_LINE = (1 << (_NUMBER_BITS + _TURN_BITS)) - 1
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


class _Item(NamedTuple):
    """A row of the store, as the index takes it."""

    id: int
    run: int
    key: str
    position: int
    answer_number: int
    status: str
    finish: str | None
    code: str | None
    metadata: str | None
    text: str | None
    rest: tuple[Any, ...]

    @property
    def mark(self) -> int:
        """Changes with what the index has of the row."""
        seen = (self.key, self.position, self.answer_number, self.status, self.finish, self.code, *self.rest)
        return zlib.crc32(repr(seen).encode(errors="surrogatepass"))

    @property
    def first_place(self) -> int:
        """The place of the row in the order of the input, if it has no former one there."""
        number = min(self.answer_number - 1, (1 << _NUMBER_BITS) - 1)
        return (self.position << (_NUMBER_BITS + _TURN_BITS)) | (number << _TURN_BITS)


class Step:
    """One step: a transaction of the index, which reads one state of the store."""

    def __init__(self, index: sqlite3.Connection, store: sqlite3.Connection, rows: int) -> None:
        self._index, self._store, self._rows = index, store, rows
        self._runs: set[int] = set()
        # True once the index has all that this state of the store has
        self.caught_up = False

    def run(self) -> int:
        """Take rows that are new, then rows that have changed, then older ones; return how many."""
        self._store.execute("BEGIN")
        newest, attempt = newest_of(self._store)
        self._index.execute("BEGIN IMMEDIATE")
        self._check_runs(newest)
        low, high, seen = self._index.execute("SELECT low, high, attempt FROM state").fetchone()
        if low is None:
            low, high, seen = newest + 1, newest, attempt
        done = 0
        if high < newest:
            found = self._items("id > ? ORDER BY id LIMIT ?", (high, self._rows))
            done, high = len(found), found[-1].id if found else newest
            self._take(found)
        if done < self._rows and seen < attempt:
            last = min(attempt, seen + 4 * self._rows)
            done += self._changed(seen, last)
            seen = last
        if done < self._rows and low > 1:
            found = self._items("id < ? ORDER BY id DESC LIMIT ?", (low, self._rows - done))
            done, low = done + len(found), found[-1].id if found else 1
            self._take(found)
        self._index.execute("UPDATE state SET low = ?, high = ?, attempt = ?", (low, high, seen))
        self._index.execute("COMMIT")
        self.caught_up = low <= 1 and high >= newest and seen >= attempt
        return done

    def sweep(self) -> bool:
        """Look at rows that the index has; return True if these were the last ones."""
        self._store.execute("BEGIN")
        self._index.execute("BEGIN IMMEDIATE")
        (swept,) = self._index.execute("SELECT coalesce(swept, 0) FROM state").fetchone()
        found = self._items("id > ? ORDER BY id LIMIT ?", (swept, self._rows))
        self._take(found)
        is_last = len(found) < self._rows
        self._index.execute("UPDATE state SET swept = ?", (0 if is_last else found[-1].id,))
        self._index.execute("COMMIT")
        return is_last

    def _check_runs(self, newest: int) -> None:
        """Forget runs that are no longer in the store. Numbers of their rows may be those of other rows now."""
        there = dict(self._store.execute("SELECT id, created_at FROM runs"))
        known = dict(self._index.execute("SELECT id, created_at FROM runs"))
        (high,) = self._index.execute("SELECT coalesce(high, 0) FROM state").fetchone()
        if high <= newest and all(there.get(run) == created for run, created in known.items()):
            return
        for run in known:
            self._index.execute(f"DROP TABLE words_{run}")
            self._index.execute(f"DROP TABLE entries_{run}")
        self._index.execute("DELETE FROM runs")
        self._index.execute("UPDATE state SET low = NULL, high = NULL, attempt = NULL, swept = NULL")

    def _items(self, where: str, values: Sequence[int]) -> list[_Item]:
        found = self._store.execute(f"SELECT {_COLUMNS} FROM items WHERE {where}", values)  # noqa: S608 - constants
        return [
            _Item(number, run, key, position, answer, status, finish, code, fields, text, tuple(rest))
            for number, run, key, position, answer, status, finish, code, fields, text, *rest in found
        ]

    def _changed(self, behind: int, last: int) -> int:
        """Take the rows of attempts that were saved since."""
        of = "SELECT DISTINCT run_id, item_key FROM attempts WHERE id > ? AND id <= ?"
        found = list(self._store.execute(of, (behind, last)))
        for run, key in found:
            self._take(self._items("run_id = ? AND key = ?", (run, key)))
        return len(found)

    def _take(self, found: Iterable[_Item]) -> None:
        """Put rows into the index that it has not, or has otherwise."""
        by_run: dict[int, list[_Item]] = {}
        for one in found:
            by_run.setdefault(one.run, []).append(one)
        for run, of_run in by_run.items():
            if run in self._runs or self._begin(run):
                self._take_of(run, of_run)

    def _begin(self, run: int) -> bool:
        """Make the tables of a run that is new. Return False if the store has rows of a run that it does not have."""
        created = self._store.execute("SELECT created_at FROM runs WHERE id = ?", (run,)).fetchone()
        if created is None:
            return False
        self._runs.add(run)
        if not self._index.execute("SELECT count(*) FROM runs WHERE id = ?", (run,)).fetchone()[0]:
            self._index.execute("INSERT INTO runs (id, created_at) VALUES (?, ?)", (run, created[0]))
            for statement in _TABLES:
                self._index.execute(statement.format(run=run))
        return True

    def _take_of(self, run: int, found: Sequence[_Item]) -> None:
        entries, words, added = f"entries_{run}", list[tuple[int, str, str]](), 0
        for one in found:
            known = self._index.execute(f"SELECT place, mark FROM {entries} WHERE item = ?", (one.id,)).fetchone()  # noqa: S608
            if known is not None and known[1] == one.mark:
                continue
            if known is not None:
                # its words stay where they are, and lead to nothing
                self._index.execute(f"UPDATE {entries} SET item = NULL WHERE place = ?", known[:1])  # noqa: S608
            place = self._free(entries, one)
            self._index.execute(f"INSERT INTO {entries} VALUES (?, ?, ?)", (place, one.id, one.mark))  # noqa: S608
            words.append((place, *_searched(one)))
            added += known is None
        # in this order, they are written at once
        words.sort()
        self._index.executemany(f"INSERT INTO words_{run}(rowid, text, marks) VALUES (?, ?, ?)", words)  # noqa: S608
        self._index.execute("UPDATE runs SET rows = rows + ? WHERE id = ?", (added, run))

    def _free(self, entries: str, one: _Item) -> int:
        """Return the first place of a row that is free, in the order of the input."""
        first = one.first_place
        here = f"SELECT max(place) FROM {entries} WHERE place BETWEEN ? AND ?"  # noqa: S608
        last = self._index.execute(here, (first, first | _OF_LINE)).fetchone()[0]
        if last is None:
            return first
        if last == first | _OF_LINE:
            # it has changed too often
            raise sqlite3.DatabaseError("the index is full")
        return int(last) + 1


def newest_of(store: sqlite3.Connection) -> tuple[int, int]:
    """Return the highest numbers of rows and attempts in a store."""
    of: tuple[int, int] = store.execute(
        "SELECT (SELECT coalesce(max(id), 0) FROM items), (SELECT coalesce(max(id), 0) FROM attempts)"
    ).fetchone()
    return of


def _searched(one: _Item) -> tuple[str, str]:
    """Return the words of a row that can be searched, and its marks."""
    fields: dict[str, Any] = {}
    with suppress(*database.DAMAGE, TypeError):
        # whoever opens the row is told of the damage
        fields = _DECODE(one.metadata) if one.metadata is not None else {}
    return text_of(row_of(one.key), fields, one.text), marks(one.status, one.code, one.finish, fields)
