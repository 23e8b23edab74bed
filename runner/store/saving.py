"""Writes entries of a run: outcomes and attempts, many in one transaction."""

import sqlite3
from collections.abc import Sequence

from runner.admission import TOGETHER, Reservation
from runner.entries import attempts_of, price_of
from runner.errors import StoreError
from runner.model import Entry
from runner.money import Price
from runner.store import retrying, statements, waiting
from runner.store.connection import Connection
from runner.store.looking_up import RowLookup
from runner.store.reserving import reserve


class Saving(RowLookup):
    """The entries of one run, which it looks up and writes, in turn with its other transactions."""

    def __init__(self, reader: Connection, writer: Connection, run_id: int) -> None:
        super().__init__(reader, run_id)
        self._writer = writer
        # rows that have an answer may get another one; rows that a retry has chosen may get an outcome; a look at each is for a
        # retry only (``retries``)
        self.replaces = self.marks = False
        # number of the newest attempt that is known to be saved; None before the first save
        self._last_attempt: int | None = None
        # the entries of the prices of its attempts
        self._priced: dict[Price, int] = {}
        # there have been reservations of single requests; the last commit failed, so that its rows may or may not have been saved
        self._reserves, self._unsure = False, False

    @property
    def variant(self) -> int | None:
        """The entry of the answer settings of this session; None: those of the run."""
        raise NotImplementedError

    async def save(self, entries: Sequence[Entry], reserved: Sequence[Reservation] = ()) -> None:
        """Write all entries in one transaction. After the return they survive a kill and, with full durability, a power cut.

        reserved: what requests that are about to go out may use. Once there is one of a single request, attempts release theirs.
        """
        begun: list[int] = []
        self._reserves = self._reserves or any(one.key != TOGETHER for one in reserved)
        try:
            written = await self._writer.in_one_turn(lambda driver: self._write(driver, entries, reserved, begun))
        except BaseException:
            if begun and not self._unsure:
                self._last_attempt, self._unsure = begun[0], True
            raise
        self._unsure, (self._last_attempt, priced) = False, written
        self.learnt(priced)

    def _write(
        self, driver: sqlite3.Connection, entries: Sequence[Entry], reserved: Sequence[Reservation], begun: list[int]
    ) -> tuple[int, dict[Price, int]]:
        """Write entries; return the number of the last attempt, and the entries of prices that are new.

        Runs in the driver's thread, so it changes only ``begun``: the number of the last attempt before the first row is written.
        """
        if self._unsure and self._last_attempt is not None:
            # the last commit may or may not have happened; this batch contains its entries again, so delete its rows first
            for forget in (statements.FORGET_ATTEMPTS, statements.FORGET_ITEMS):
                driver.execute(forget, (self.run_id, self._last_attempt))
        return self.put(driver, entries, reserved, begun=begun, variant=self.variant)

    def put(
        self,
        driver: sqlite3.Connection,
        entries: Sequence[Entry],
        reserved: Sequence[Reservation] = (),
        *,
        begun: list[int],
        variant: int | None,
    ) -> tuple[int, dict[Price, int]]:
        """Write entries in a transaction of the driver's thread, as ``_write``. variant: of the settings that made them."""
        ((last,),) = driver.execute(statements.LAST_ATTEMPT)
        begun.append(last)
        wanted = {price_of(attempt) for attempt in attempts_of(entries)}.union(one.price for one in reserved)
        priced = statements.number_prices(driver, self.run_id, wanted.difference(self._priced))
        batch = statements.batch_rows(self.run_id, entries, last, variant, every := {**self._priced, **priced})
        if reserved or self._reserves:
            reserve(driver, self.run_id, reserved, attempts_of(entries) if self._reserves else (), every, variant)
        if self.replaces:
            retrying.keep_replaced(driver, self.run_id, entries)
        statements.write(driver, batch)
        if self.marks:
            retrying.mark(driver, self.run_id, entries)
        if self.reasked:
            waiting.forget_reasks(driver, self.run_id, entries)
        return int(last) + len(batch.sent), priced

    def learnt(self, priced: dict[Price, int]) -> None:
        """Take note of the entries of prices that a transaction has added."""
        self._priced |= priced

    def refuse_unsure(self) -> None:
        """Raise StoreError while it is not known whether the last save was committed: only that save itself can be repeated."""
        if self._unsure:
            raise StoreError(f"run {self.run_id} waits for results that could not be saved; nothing else is saved before them")
