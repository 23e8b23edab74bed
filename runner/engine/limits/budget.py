"""What the requests of a session may use up in all: the sum that is used and what open requests may still use stay below limits.

Knows no prices: it counts amounts. Each request holds the most that it can use before it goes out, and gives back what it has not
used once its attempt is saved.

Requests get their amounts in the order in which they ask, whatever their lane. Two cases are different:

* A request for which there would be no room even if all open ones used nothing lets the others pass. It cannot go out in this
  session any more. It leaves its lane, and another row warms its prefix, so that nobody waits for it.
* When no request that waits fits and nothing else can happen, the budget is reached. That is so when all of this is true for
  ``QUIET_S``, in which nothing happens:

  - No amount is held. So no request is open, and no attempt is still to be saved.
  - Every row that a worker has waits for an amount. A row that waits for anything else may go out later: for a permit, a limit
    per minute, the end of a pause or an outage, a retry, capacity of the flex tier, the decision about a refusal, a slow reader.
  - No worker is free for a further row: one that was read waits for a worker. Or none will come: the input has ended, or the
    program gives the rows one by one and has given no more. While rows are read, or held back to warm a prefix, more may come.

Rows that no worker has by then might fit. They are not looked for, and neither are those of the next round of ``--dedupe``; but
rows that get an answer of an equal row still get it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Literal

import anyio
from msgspec import Struct

from runner.admission import Amounts
from runner.interfaces import Emit, Handle, Items
from runner.model import Item, Outcome

QUIET_S = 0.1
"""Seconds in which nothing must happen before the budget counts as reached. Longer than it takes to add workers."""


class Pot(Struct):
    """One limit. setting: the name of the one that sets it."""

    setting: str
    counts: Literal["cost", "tokens"]
    limit: int
    # what has been used, or may have been
    used: int = 0
    # what open requests may use
    held: int = 0

    def fits(self, need: Amounts) -> bool:
        """Return True if there is room for a request now."""
        return self.used + self.held + self.of(need) <= self.limit

    def could_fit(self, need: Amounts) -> bool:
        """Return True if there were room for a request if all open ones used nothing."""
        return self.used + self.of(need) <= self.limit

    def of(self, amounts: Amounts) -> int:
        """Return the amount that this limit counts."""
        return amounts.cost if self.counts == "cost" else amounts.tokens


class _Waiter(Struct, eq=False):
    need: Amounts
    turn: anyio.Event
    # called once if it cannot get its amount any more; None when it has been called
    passed: Callable[[], None] | None
    granted: bool = False


class Budget:
    """Some limits that hold together. reached: called with what the smallest of the waiting requests needs."""

    def __init__(self, pots: Sequence[Pot], reached: Callable[[Amounts], None]) -> None:
        self.pots, self._reached = tuple(pots), reached
        self._waiting: list[_Waiter] = []
        # requests that hold an amount, and the most of each amount that one has asked for
        self.holders, self.largest = 0, Amounts()
        # rows that wait for a worker, rows that workers have, and whether further rows may come
        self._queued = self._at_work = 0
        self._coming: Callable[[], bool] = _none_come
        # counts what happens
        self._moves = 0
        self._look: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def has_room(self, need: Amounts) -> bool:
        """Return True if a request would get its amount now: it fits, and nobody waits for it before."""
        self.largest = Amounts(*map(max, self.largest, need))
        return self._fits(need) and not any(self._could_fit(waiter.need) for waiter in self._waiting)

    def part(self, need: Amounts) -> float:
        """Return what part of an amount there is room for now, from 0 to 1."""
        left = [(pot.limit - pot.used - pot.held) / pot.of(need) for pot in self.pots if pot.of(need)]
        return max(0.0, min([1.0, *left]))

    def take(self, need: Amounts) -> bool:
        """Hold an amount, if a request gets it now."""
        if not self.has_room(need):
            return False
        self._hold(need)
        return True

    async def wait(self, need: Amounts, passed: Callable[[], None] = lambda: None) -> None:
        """Wait for an amount, and hold it. passed: called once if there will be no room for it any more; the wait goes on."""
        if self.take(need):
            return
        waiter = _Waiter(need, anyio.Event(), passed)
        self._waiting.append(waiter)
        self._pass(waiter)
        self._moved()
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter.granted:
                self.settle(need, Amounts())
            else:
                self._waiting.remove(waiter)
                self._grant()
                self._moved()
            raise

    def change(self, held: Amounts, need: Amounts) -> bool:
        """Hold another amount instead of one that is held. Return False, and change nothing, if there is no room for it."""
        self.largest = Amounts(*map(max, self.largest, need))
        if any(pot.used + pot.held - pot.of(held) + pot.of(need) > pot.limit for pot in self.pots):
            return False
        for pot in self.pots:
            pot.held += pot.of(need) - pot.of(held)
        self._grant()
        return True

    def settle(self, held: Amounts, used: Amounts) -> None:
        """Give back an amount that a request held, and record what of it was used."""
        self.holders -= 1
        for pot in self.pots:
            pot.held -= pot.of(held)
            pot.used += pot.of(used)
        self._grant()
        self._moved()

    def settle_part(self, part: Amounts, used: Amounts) -> None:
        """Give back a part of an amount that goes on being held, such as that of a batch, and record what of it was used."""
        self.holders += 1
        self.settle(part, used)

    def hold_used(self, amount: Amounts) -> None:
        """Hold an amount that counts as used: it is of an earlier session, and is not known yet."""
        for pot in self.pots:
            pot.used -= pot.of(amount)
        self._hold(amount)

    def correct(self, was: Amounts, now: Amounts) -> None:
        """Record that what was used is known better. was: what was counted.

        Nothing is given back once a request was passed: it cannot go out any more, and is not to hold up others again.
        """
        passed = any(waiter.passed is None for waiter in self._waiting)
        for pot in self.pots:
            more = pot.of(now) - pot.of(was)
            pot.used += max(0, more) if passed else more
        self._grant()
        self._moved()

    # -- the rows of a round, which may still go out

    async def items(self, items: Items, coming: Callable[[], bool]) -> AsyncGenerator[Item | Outcome, None]:
        """Yield the same. coming: returns False while no further row comes until the program gives one."""
        # what waits for a worker stays counted: rows may have come before the round begins
        self._coming = coming
        try:
            async with aclosing(items):
                async for item in items:
                    if isinstance(item, Item):
                        self._queued += 1
                        self._moved()
                    yield item
        finally:
            self._coming = _none_come
            self._moved()

    def comes(self, rows: int) -> None:
        """Record that rows come which are not among the items of the round."""
        self._queued += rows
        self._moved()

    def change_limit(self, setting: str, limit: int, before: int) -> None:
        """Change a limit of dollars, or add one to that of the session. before: what was used before the session."""
        pot = next((pot for pot in self.pots if pot.setting == setting), None)
        if pot is None:
            like = next(pot for pot in self.pots if pot.counts == "cost")
            pot = Pot(setting, "cost", limit, before + like.used, like.held)
            self.pots = (*self.pots, pot)
        pot.limit = limit
        self._grant()
        self._moved()

    def handle(self, handle: Handle) -> Handle:
        """Return a function that handles a row, and counts it while it does."""

        async def counted(item: Item, emit: Emit) -> Outcome | None:
            self._queued -= 1
            self._at_work += 1
            self._moved()
            try:
                return await handle(item, emit)
            finally:
                self._at_work -= 1
                self._moved()

        return counted

    # -- who gets what

    def _hold(self, need: Amounts) -> None:
        self.holders += 1
        for pot in self.pots:
            pot.held += pot.of(need)

    def _fits(self, need: Amounts) -> bool:
        return all(pot.fits(need) for pot in self.pots)

    def _could_fit(self, need: Amounts) -> bool:
        return all(pot.could_fit(need) for pot in self.pots)

    def _grant(self) -> None:
        """Give those that wait their amounts, in order; the first for which open requests can make room holds up the others."""
        left = []
        held_up = False
        for waiter in self._waiting:
            if not held_up and self._fits(waiter.need):
                self._hold(waiter.need)
                waiter.granted = True
                waiter.turn.set()
                continue
            held_up = not self._pass(waiter) or held_up
            left.append(waiter)
        self._waiting = left

    def _pass(self, waiter: _Waiter) -> bool:
        """Return True if there will be no room for a request any more, and tell it once. What is used never becomes less."""
        if self._could_fit(waiter.need):
            return False
        if waiter.passed is not None:
            passed, waiter.passed = waiter.passed, None
            passed()
        return True

    # -- when it is reached

    def _moved(self) -> None:
        """Record that something has happened."""
        self._moves += 1
        self._watch()

    def _watch(self) -> None:
        """Look after a while whether the budget is reached, and again, as long as it may be."""
        if self._look is None and self._waiting and not self.holders:
            self._look = asyncio.get_running_loop().call_later(QUIET_S, self._end, self._moves)

    def _end(self, moves: int) -> None:
        """Tell that the budget is reached, if it is. moves: what had happened when this was planned."""
        self._look = None
        if self.holders or not self._waiting:
            return
        if moves != self._moves or self._may_go_on:
            self._watch()
            return
        # nothing is held, so whoever waits does not fit
        self._reached(min((waiter.need for waiter in self._waiting), key=self._share))

    @property
    def _may_go_on(self) -> bool:
        """True if a row that does not wait for an amount may go out. One that was read and is not taken finds no worker."""
        return self._at_work > len(self._waiting) or (not self._queued and self._coming())

    def _share(self, need: Amounts) -> float:
        return max(pot.of(need) / max(1, pot.limit) for pot in self.pots)


def _none_come() -> bool:
    return False
