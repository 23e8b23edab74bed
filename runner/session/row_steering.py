"""Rows that a person names while a session runs: to be given up, or to be sent again."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import anyio
from anyio import to_thread
from msgspec import structs

from runner.admission import Reservation
from runner.engine.giving_up import CANCELLED, WORDS, GivingUp
from runner.errors import UsageError
from runner.inputs.keys import asks_the_same
from runner.model import Entry, Item, Outcome, Row
from runner.settled import Settled
from runner.several import keys_of
from runner.store.checkpoint import RunStore
from runner.text import clean, plural

MOST_ROWS = 10_000
"""Rows that can be named at once."""
FIND_S = 3.0
"""Seconds for which the input is searched for a row of which nothing is known yet."""
_SAVED_S = 2.0
"""Seconds that are waited for the outcomes of rows that were given up."""
_LOOK_S = 0.01
_AT_ONCE = 500
_NO_ROW, NOT_YET = "the input has no row with this id", "not found yet"
CANCELLED_ROW, REQUEUED = "cancelled", "requeued"
"""What a reply says of a row with which it was done."""
IN_BATCH = "it waits in a batch at the provider, which can only be cancelled whole (`runner batches`)"
SAME = ": the same row as "
"""Follows them where a row was named twice, by id and by line."""


class Found(NamedTuple):
    """Rows of an input by the words that named them, each with its key. rest: why others may be there; empty: none is."""

    rows: Mapping[str, tuple[str, Row]]
    rest: str = ""


class RowInput(Protocol):
    """Where the rows of a session come from."""

    @property
    def answers(self) -> int:
        """How many answers of each row are wanted."""
        ...

    def find(self, words: Collection[str], until: float) -> Found:
        """Look for rows by their ids or lines. Blocks. until: by the monotonic clock, when to give up."""
        ...

    def item(self, key: str, row: Row) -> Item | Outcome:
        """Return what is to be sent for one answer of a row."""
        ...

    def refusal(self, item: Item) -> str | None:
        """Return why a row cannot be sent again now; None if it can."""
        ...

    def goes_again(self, key: str) -> bool:
        """Return True for a row that was sent again and has no outcome since. It may wait for its turn."""
        ...

    def send(self, items: Sequence[Item]) -> None:
        """Send rows again, at once. They have failed before, and count as open from now on."""
        ...


class RowSteering:
    """Does what is asked about rows. rows: those that are at work. input_: None: the program asks the rows one by one."""

    def __init__(self, rows: GivingUp, store: RunStore, input_: RowInput | None) -> None:
        self._rows, self._store, self._input = rows, store, input_

    # -- cancel

    async def cancel(self, ids: Sequence[str]) -> dict[str, str]:
        """Give rows up, and return what became of each: ``CANCELLED_ROW``, or why not, a phrase."""
        words = _words(ids)
        # first what is at work: its requests end now
        every = self._keys(words)
        ended = {key for key in every if self._rows.at_work(key)}
        for key in ended:
            self._rows.give_up(key)
        # their outcomes may be saved by now
        stored = {key: one for key, one in (await self._look(every)).items() if key not in ended}
        said = {word: self._give_up(self._keys([word]), stored, ended) for word in words}
        key_of = {word: word for word in words}
        if unknown := [word for word in words if said[word] is None]:
            said.update(await self._come_later(unknown, key_of))
        told = {word: phrase or CANCELLED_ROW for word, phrase in said.items()}
        return _once(await self._as_it_is(told, key_of), key_of, CANCELLED_ROW)

    def _give_up(self, keys: Sequence[str], stored: Mapping[str, Settled], ended: Collection[str] = ()) -> str | None:
        """Give up the answers of a row that have no outcome. Return a phrase; None if nothing is known of the row.

        ended: those that were given up just now.
        """
        if any(one.waiting for key in keys if (one := stored.get(key)) is not None):
            return IN_BATCH
        settled = [key for key in keys if _has_outcome(stored.get(key)) and not self._is_open(key)]
        if len(settled) == len(keys):
            return f"it is {'done' if all(_is_done(stored[key]) for key in settled) else 'failed'} already"
        known = bool(settled) or any(key in stored or key in ended or self._rows.at_work(key) for key in keys)
        for key in keys:
            if self._rows.at_work(key):
                self._rows.give_up(key)
            elif key not in settled and key not in ended:
                self._rows.give_up_ahead(key)
        if not known:
            return None
        return CANCELLED_ROW if not settled else f"{CANCELLED_ROW}, but for {plural(len(settled), 'answer')} that it has"

    def _is_open(self, key: str) -> bool:
        """Return True for a row that has no outcome yet, whatever the store has of it from before it was sent again."""
        return self._rows.at_work(key) or (self._input is not None and self._input.goes_again(key))

    async def _come_later(self, words: Sequence[str], key_of: dict[str, str]) -> dict[str, str]:
        """Return what is said of rows of which nothing is known: whether they are in the input is looked up.

        key_of: gets the keys of those that were named by their lines.
        """
        if self._input is None:
            self._take_back(words)
            return dict.fromkeys(words, "no such row is being asked")
        found, said = await self._find(words), dict[str, str]()
        on_lines = [at[0] for word, at in found.rows.items() if at[0] != word]
        stored = await self._look(self._keys(on_lines)) if on_lines else {}
        for word in words:
            at = found.rows.get(word)
            if at is None and found.rest:
                said[word] = f"{NOT_YET}: it fails when it comes, if there is such a row"
            elif at is None:
                self._take_back([word])
                said[word] = _NO_ROW
            elif at[0] == word:
                said[word] = CANCELLED_ROW
            else:
                # it was named by its line
                self._take_back([word])
                key_of[word] = at[0]
                said[word] = self._give_up(self._keys([at[0]]), stored) or CANCELLED_ROW
        return said

    def _take_back(self, words: Sequence[str]) -> None:
        for key in self._keys(words):
            self._rows.take_back(key)

    async def _as_it_is(self, said: dict[str, str], key_of: Mapping[str, str]) -> dict[str, str]:
        """Wait until what was ended is on the books. Return what is said then: an answer may have come in the last moment."""
        words = [word for word, phrase in said.items() if phrase == CANCELLED_ROW]
        keys = self._keys([key_of[word] for word in words])
        await self._saved(keys)
        stored = await self._look(keys)
        for word in words:
            mine = self._keys([key_of[word]])
            if done := sum(_is_done(stored.get(key)) for key in mine):
                self._take_back([key_of[word]])
                several = f"{CANCELLED_ROW}, but for {plural(done, 'answer')} that came meanwhile"
                said[word] = "its answer has come meanwhile" if len(mine) == done else several
        return said

    async def _look(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Return what the store has of rows now: whoever acts on it does so before the next wait.

        A row that ends while it is looked at is looked at again. Else it would pass for one that has failed, from before it was
        sent again, and its answer would be paid twice. That comes to an end: a row ends once for each time that it is sent.
        """
        found, left = dict[str, Settled](), list(keys)
        with self._rows.endings() as ended:
            while left:
                for first in range(0, len(left), _AT_ONCE):
                    batch = left[first : first + _AT_ONCE]
                    found.update(await self._store.settled(batch))
                left = [key for key in left if key in ended]
                ended.clear()
        return found

    async def _saved(self, keys: Sequence[str]) -> None:
        with anyio.move_on_after(_SAVED_S):
            while any(map(self._rows.at_work, keys)):  # noqa: ASYNC110 - for some milliseconds
                await anyio.sleep(_LOOK_S)

    def as_asked(self, batch: list[Entry | Reservation]) -> list[Entry | Reservation]:
        """Return what is to be saved, with rows failed that were given up and have got the answer of another row."""
        return [self._as_asked(one) for one in batch] if self._rows.ahead else batch

    def _as_asked(self, one: Entry | Reservation) -> Entry | Reservation:
        if not isinstance(one, Outcome) or one.attempt is not None or not self._rows.is_given_up(one.key):
            return one
        if one.status == "failed":
            return one
        return structs.replace(one, status="failed", error_code=CANCELLED, error=WORDS, completion=None, same_as=None)

    # -- requeue

    async def requeue(self, ids: Sequence[str], refuse: Callable[[], None]) -> dict[str, str]:
        """Have failed rows sent again, and return what became of each: ``REQUEUED``, or why not, a phrase.

        refuse: raises if the session sends nothing any more; it may have come to its end while the rows were looked for.
        """
        if self._input is None:
            raise UsageError("the program asks the rows of this run itself: it may ask the row again")
        words = _words(ids)
        found = await self._find(words)
        rows = dict(found.rows.values())
        stored = await self._look(self._keys(list(rows)))
        # nothing is waited for from here on: what was found out holds until the rows are sent
        refuse()
        became = {key: self._again(key, row, stored) for key, row in rows.items()}
        unknown = f"{found.rest}: `runner retry` sends it" if found.rest else _NO_ROW
        key_of = {word: found.rows[word][0] if word in found.rows else word for word in words}
        return _once({word: became.get(key_of[word], unknown) for word in words}, key_of, REQUEUED)

    def _again(self, key: str, row: Row, stored: Mapping[str, Settled]) -> str:
        """Send the failed answers of a row again. Return what is said of it."""
        assert self._input is not None
        may = [self._may_go(one, row, stored.get(one)) for one in self._keys([key])]
        if items := [one for one in may if isinstance(one, Item)]:
            for item in items:
                self._rows.send_again(item)
            # before the next row is looked at, which may make the same request
            self._input.send(items)
            return REQUEUED
        return next(one for one in may if isinstance(one, str))

    def _may_go(self, key: str, row: Row, stored: Settled | None) -> Item | str:
        """Return one answer of a row to be sent again, or why it is not."""
        assert self._input is not None
        if not self._rows.at_work(key) and self._rows.is_given_up(key):
            return f"{REQUEUED}: it is sent when its turn comes"
        if self._is_open(key):
            return "it is being sent already"
        if not _has_outcome(stored) or stored is None or stored.again:
            return "it has not failed: it is sent when its turn comes"
        if stored.status == "done":
            return "it is done already"
        made = self._input.item(key, row)
        if isinstance(made, Outcome) or stored.broken:
            return "its line is broken: correct it, then run `runner resume`"
        if not asks_the_same(row, stored.fingerprint):
            return "its prompt has changed in the file since it failed; `runner retry` sends it as it is now"
        return self._input.refusal(made) or structs.replace(made, attempts_before=stored.attempts)

    # -- both

    def _keys(self, words: Sequence[str]) -> list[str]:
        return keys_of(words, self._input.answers if self._input is not None else 1)

    async def _find(self, words: Collection[str]) -> Found:
        assert self._input is not None
        until, of = time.monotonic() + FIND_S, self._input
        return await to_thread.run_sync(lambda: of.find(words, until))


def _words(ids: Sequence[str]) -> list[str]:
    if len(ids) > MOST_ROWS:
        raise UsageError(f"{len(ids):,} rows are too many at once; name {MOST_ROWS:,} or fewer")
    if not ids:
        raise UsageError("name the rows by their ids")
    return list(dict.fromkeys(ids))


def _has_outcome(stored: Settled | None) -> bool:
    return stored is not None and stored.status is not None and not stored.again


def _is_done(stored: Settled | None) -> bool:
    return stored is not None and stored.status == "done"


def _once(said: Mapping[str, str], key_of: Mapping[str, str], done: str) -> dict[str, str]:
    """Return what is said of rows, with those as done once that were named twice, by id and by line. key_of: of each word."""
    first, told = dict[str, str](), dict[str, str]()
    for word, phrase in said.items():
        one = first.setdefault(key_of[word], word)
        twice = one != word and said[one].startswith(done)
        told[word] = f"{done}{SAME}{clean(one, 40)}" if twice else phrase
    return told
