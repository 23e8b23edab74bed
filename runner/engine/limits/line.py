"""The rows that could go to the slots of one lane, as the ledger counts them."""

from typing import Protocol

from runner.admission import Permit
from runner.engine.limits.first_tokens import FirstTokens
from runner.engine.limits.ledger import Ledger
from runner.model import Attempt

_TURN = "turn"
"""The first row waits for nothing: it goes as soon as its task runs."""


class Limited(Protocol):
    """What has a number of slots now."""

    @property
    def limit(self) -> int:
        """How many slots there are."""
        ...


class Line:
    """A queue of rows that could go, with the slots that they go to. slots: what it adds to those of the session.

    The ledger is not told of a row that goes as soon as it comes: no time passes, and nearly all rows of a fast run are such.
    """

    __slots__ = ("_first_tokens", "_ledger", "_passes", "_rows", "_size", "_slots", "_why")

    def __init__(self, ledger: Ledger, slots: Limited) -> None:
        self._ledger, self._slots, self._first_tokens = ledger, slots, FirstTokens()
        ledger.first_tokens.append(self._first_tokens)
        self._size = self._rows = 0
        self._why = _TURN
        # the row at the head has come just now and has not waited: it is not among the rows
        self._passes = False
        self.sized()

    def join(self, *, at_once: bool) -> None:
        """Add a row. at_once: no other is before it, so that it may go without a wait."""
        if at_once:
            self._passes = True
        else:
            self._rows += 1
            self._ledger.wait(self._why, 1)

    def leave(self) -> None:
        """Remove a row, which is cancelled or goes elsewhere. One that has got a slot is removed by that (``took``)."""
        if self._passes:
            self._passes = False
        else:
            self._ledger.wait(self._why, -1)
            self._rows -= 1

    def waits_for(self, cause: str | None) -> None:
        """Record why the first row of the queue waits, and the others behind it; None: it waits for nothing."""
        if cause is None:
            why = _TURN
        else:
            why = cause
            if self._passes:
                # it does wait
                self._passes = False
                self._rows += 1
                self._ledger.wait(self._why, 1)
        if why != self._why:
            self._ledger.wait(self._why, -self._rows)
            self._why = why
            self._ledger.wait(why, self._rows)

    def sized(self) -> None:
        """Look how many slots there are now."""
        if (size := self._slots.limit) != self._size:
            self._ledger.allow(size - self._size)
            self._size = size

    def took(self, permit: Permit) -> None:
        """Record that a request has got a slot. Its row has left the queue."""
        # here and below a call is saved, as this is done for every request
        if self._slots.limit != self._size:
            self.sized()
        if self._passes:
            self._passes = False
            self._ledger.hold(permit, None)
        else:
            self._ledger.hold(permit, self._why)
            self._rows -= 1

    def gave_back(self, permit: Permit, attempt: Attempt | None, *, out_of_service: bool) -> None:
        """Divide the time for which a request held its slot. attempt: None if none was made. out_of_service: in an outage."""
        cause = self._ledger.release(permit, attempt, out_of_service=out_of_service)
        if self._slots.limit != self._size:
            self.sized()
        if attempt is not None and attempt.time_to_first_token_s is not None and cause == "answering":
            first_s, whole_s = attempt.time_to_first_token_s, attempt.duration_s
            self._first_tokens.add(min(whole_s, first_s))
