"""Finds rows of a run by what they hold, in the index beside its store (``row_index``)."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from msgspec import Struct

from runner.errors import UsageError
from runner.store import database
from runner.store.index_words import mark, terms
from runner.store.row_index import RowIndex, State
from runner.store.row_pages import Place

_LONGEST_S = 2.0
"""Seconds after which a search is given up."""
_OF_LINE_BITS, _NUMBER_BITS = 16, 6
_LOOK = 10_000
MOST_WORDS = 32
"""Words of a search."""
_SHORT, _MOST_TERMS = 3, 64
"""Letters of a beginning that has an index of its own; words with one beginning that are looked for by their names."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What rows must have: one of each of these, all of the fields, and all of the words.

    words: as a person types them. The last one may be the beginning of a word.
    """

    statuses: Sequence[str] = ()
    codes: Sequence[str] = ()
    finishes: Sequence[str] = ()
    fields: Sequence[tuple[str, str]] = ()
    words: str = ""

    @property
    def marks(self) -> list[str]:
        """The same for the index, without the words."""
        choices = (("status", self.statuses), ("code", self.codes), ("finish", self.finishes))
        found = [_any_of(name, values) for name, values in choices if values]
        return [*found, *(_any_of(f"field.{name}", [value]) for name, value in self.fields)]


class Found(NamedTuple):
    """Rows by their numbers in the store, in order; the place behind which there are more; and how far the index is."""

    ids: list[int]
    next: Place | None
    state: State


def _any_of(name: str, values: Sequence[str]) -> str:
    return f"marks : ({' OR '.join(_quoted(mark(name, value)) for value in values)})"


def _quoted(word: str) -> str:
    return f'"{word}"'


def search(index: RowIndex, run: int, wanted: Wanted, after: Place | None, limit: int, *, backwards: bool) -> Found:
    """Return rows behind a place, or before it. Raises UsageError if that takes too long, StoreError."""
    try:
        with closing(index.reading()) as connection:
            return _searched(index, connection, run, wanted, (after, limit, backwards))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_INTERRUPT":
            raise UsageError("this search takes too long; search for more words, or for longer ones") from error
        raise database.store_error(index.path, "used", error) from error
    except sqlite3.DatabaseError:
        # damaged; it is made anew
        index.forget()
        return Found([], None, State(rows=0, complete=False))


def _searched(
    index: RowIndex, connection: sqlite3.Connection, run: int, wanted: Wanted, where: tuple[Place | None, int, bool]
) -> Found:
    (after, limit, backwards), state = where, index.state(connection, run)
    if not state.rows:
        return Found([], None, state)
    until = time.monotonic() + _LONGEST_S
    connection.set_progress_handler(lambda: time.monotonic() > until, _LOOK)
    words = _words(connection, run, wanted.words)
    if words is None:
        return Found([], None, state)
    query = " AND ".join([*wanted.marks, *words])
    place = _place(connection, run, after, backwards=backwards)
    found, more = _found(connection, run, query, place, limit, backwards=backwards)
    ids = [item for _, item in found]
    return Found(ids, _place_of(*found[-1]) if more else None, state)


def _words(connection: sqlite3.Connection, run: int, typed: str) -> list[str] | None:
    """Return words for the index; None if no row can have them, as there is nothing in them that is a word."""
    if not typed.strip():
        return []
    every = terms(typed)
    if not every:
        return None
    if len(every) > MOST_WORDS:
        raise UsageError(f"a search has at most {MOST_WORDS} words, and this one has {len(every):,}")
    found = [_quoted(one) for one in every]
    # whoever types is not at the end of a word yet, unless something stands behind it
    if typed[-1].isalnum() and len(every[-1]) > 1:
        found[-1] = _beginning(connection, run, every[-1])
    return [f"text : ({' AND '.join(found)})"]


def _beginning(connection: sqlite3.Connection, run: int, begins: str) -> str:
    """Return what finds the words that begin so. Where they are few, by their names: the index reads these one by one.

    Short beginnings have an index of their own. For others it would gather all rows with such a word first.
    """
    if len(begins) <= _SHORT:
        return f"{_quoted(begins)} *"
    connection.execute(f"CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, words_{run}, instance)")
    found, least = list[str](), begins
    while len(found) <= _MOST_TERMS:
        (term,) = connection.execute("SELECT term FROM temp.terms WHERE term >= ? LIMIT 1", (least,)).fetchone() or ("",)
        if not term.startswith(begins):
            return f"({' OR '.join(map(_quoted, found))})" if found else _quoted(begins)
        found.append(term)
        # no term has this sign, so the next one comes first behind it
        least = f"{term}\x01"
    return f"{_quoted(begins)} *"


def _place(connection: sqlite3.Connection, run: int, after: Place | None, *, backwards: bool) -> int:
    """Return the place of a row in the index."""
    if after is None:
        return (1 << 62) if backwards else -1
    found = connection.execute(f"SELECT place FROM entries_{run} WHERE item = ?", (after.id,)).fetchone()  # noqa: S608
    if found is not None:
        return int(found[0])
    # it has changed since, and is none of those that are wanted
    first = (after.position << _OF_LINE_BITS) | ((after.answer_number - 1) << _NUMBER_BITS)
    return first if backwards else first + (1 << _NUMBER_BITS) - 1


def _place_of(place: int, item: int) -> Place:
    """Return a place of the index as one of the store."""
    number = (place >> _NUMBER_BITS) & ((1 << (_OF_LINE_BITS - _NUMBER_BITS)) - 1)
    return Place(place >> _OF_LINE_BITS, number + 1, item)


def _found(
    connection: sqlite3.Connection, run: int, query: str, place: int, limit: int, *, backwards: bool
) -> tuple[list[tuple[int, int]], bool]:
    """Return the places and the numbers of rows, and whether there are more."""
    behind, order = ("<", "DESC") if backwards else (">", "ASC")
    words = f"SELECT rowid FROM words_{run} WHERE words_{run} MATCH ? AND rowid {behind} ? ORDER BY rowid {order}"  # noqa: S608
    entry, rows = f"SELECT item FROM entries_{run} WHERE place = ?", list[tuple[int, int]]()  # noqa: S608
    with closing(connection.execute(words, (query, place))) as found:
        for (at,) in found:
            (item,) = connection.execute(entry, (at,)).fetchone() or (None,)
            if item is None:
                # these are the words that a row had before
                continue
            if len(rows) == limit:
                return rows, True
            rows.append((at, item))
    return rows, False
