"""What the requests of a session may use up in all: the sum that is used and what open requests may still use stay below limits.

Knows no prices: it counts amounts. Each request holds the most that it can use before it goes out, and gives back what it has not
used once its attempt is saved.

Requests get their amounts in the order in which they ask, whatever their lane. Two cases are different:

* A request for which there would be no room even if all open ones used nothing waits, and lets the others pass.
* When nothing is held and none of those that wait fits, so not even the smallest, the budget is reached. A row that has not been
  read yet might still fit; it is not looked for.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

import anyio
from msgspec import Struct

from runner.admission import Amounts

QUIET_S = 0.1
"""Seconds for which nothing must be held before the budget counts as reached: rows that are just being read may fit."""


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
    granted: bool = False


class Budget:
    """Some limits that hold together. reached: called with what the smallest of the waiting requests needs."""

    def __init__(self, pots: Sequence[Pot], reached: Callable[[Amounts], None]) -> None:
        self.pots, self._reached = tuple(pots), reached
        self._waiting: list[_Waiter] = []
        # requests that hold an amount, and the most of each amount that one has asked for
        self.holders, self.largest = 0, Amounts()
        self._look: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def has_room(self, need: Amounts) -> bool:
        """Return True if a request would get its amount now: it fits, and nobody waits for it before."""
        self.largest = Amounts(*map(max, self.largest, need))
        return self._fits(need) and not any(self._could_fit(waiter.need) for waiter in self._waiting)

    def take(self, need: Amounts) -> bool:
        """Hold an amount, if a request gets it now."""
        if not self.has_room(need):
            return False
        self._hold(need)
        return True

    async def wait(self, need: Amounts) -> None:
        """Wait for an amount, and hold it."""
        if self.take(need):
            return
        waiter = _Waiter(need, anyio.Event())
        self._waiting.append(waiter)
        self._watch()
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter.granted:
                self.settle(need, Amounts())
            else:
                self._waiting.remove(waiter)
                self._grant()
            raise

    def settle(self, held: Amounts, used: Amounts) -> None:
        """Give back an amount that a request held, and record what of it was used."""
        self.holders -= 1
        for pot in self.pots:
            pot.held -= pot.of(held)
            pot.used += pot.of(used)
        self._grant()
        self._watch()

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
            held_up = held_up or self._could_fit(waiter.need)
            left.append(waiter)
        self._waiting = left

    def _watch(self) -> None:
        """Look after a while whether the budget is reached, if it may be."""
        if self.holders or not self._waiting:
            return
        if self._look is not None:
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_later(QUIET_S, self._end)

    def _end(self) -> None:
        self._look = None
        if not self.holders and self._waiting:
            # nothing is held, so whoever waits does not fit
            self._reached(min((waiter.need for waiter in self._waiting), key=self._share))

    def _share(self, need: Amounts) -> float:
        return max(pot.of(need) / max(1, pot.limit) for pot in self.pots)
