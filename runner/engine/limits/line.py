"""The rows that could go to the slots of one lane, as the ledger counts them."""

from types import TracebackType
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
    """A queue of rows that could go, with the slots that they go to. A context for each row while it waits for its permit.

    slots: what it adds to those of the session.
    """

    __slots__ = ("_first_tokens", "_ledger", "_rows", "_size", "_slots", "_went", "_why")

    def __init__(self, ledger: Ledger, slots: Limited) -> None:
        self._ledger, self._slots, self._first_tokens = ledger, slots, FirstTokens()
        ledger.first_tokens.append(self._first_tokens)
        self._size = self._rows = 0
        self._why = _TURN
        # the row that leaves next has got a slot, and counts as a waiting one no more
        self._went = False
        self.sized()

    def __enter__(self) -> None:
        self._rows += 1
        self._ledger.wait(self._why, 1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._went:
            self._went = False
            return
        self._ledger.wait(self._why, -1)
        self._rows -= 1

    def waits_for(self, cause: str | None) -> None:
        """Record why the first row of the queue waits, and the others behind it; None: it waits for nothing."""
        why = _TURN if cause is None else cause
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
        """Record that a request has got a slot. Its row leaves the queue at once."""
        # here and below a call is saved, as this is done for every request
        if self._slots.limit != self._size:
            self.sized()
        self._ledger.hold(permit, self._why)
        self._rows -= 1
        self._went = True

    def gave_back(self, permit: Permit, attempt: Attempt | None, *, out_of_service: bool) -> None:
        """Divide the time for which a request held its slot. attempt: None if none was made. out_of_service: in an outage."""
        cause = self._ledger.release(permit, attempt, out_of_service=out_of_service)
        if self._slots.limit != self._size:
            self.sized()
        if attempt is not None and attempt.time_to_first_token_s is not None and cause == "answering":
            first_s, whole_s = attempt.time_to_first_token_s, attempt.duration_s
            self._first_tokens.add(min(whole_s, first_s))
