"""Whose refusal is it: the row's, or the endpoint's? A pure rule, one streak for each lane. No error code is special here.

    a row      refused ──> held ──an answer to a request that was sent after the refusal──> fails
                             │ ──no other row is left that could be answered──────────────> fails
                             └───the streak is long enough─────────────────────────────────> is tried again
    the lane   answering ──K rows refused alike, none answered between──> refusing: probes, until one is answered ──> answering

A request that was sent before the refusal proves nothing by its answer: it may have been taken in before the trouble began.
A request that was sent after it, and whose answer has begun, keeps older refusals from counting until it ends.

A row that is refused alike again after such an outage is held again, but counts no more. It shows that the outage was a
false alarm, so more of these refusals are needed for the next one.
"""

import re
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.admission import Permit, Standing

Fate: TypeAlias = Literal["fail", "again"]

ALIKE = 8
"""K: so many rows refused alike are the endpoint's trouble. Chosen by ``python -m benchmarks.verdicts``, see decision 0015."""
ALIKE_AT_FIRST = 20
"""The same before the first answer of the session: nothing speaks for the endpoint yet, and nothing against the rows."""
RAISED = 4
"""Factor for this number after a false alarm."""
LOOKS = 256
"""How many kinds of refusals are told apart; the oldest is forgotten."""
_NEVER = float("-inf")
_LONGEST = 80
# words with a digit are numbers, ids and times
_VARYING = re.compile(r"\b\w*\d[\w.:-]*")


def look(code: str | None, status: int | None, words: str | None) -> str:
    """Return how a refusal looks: the same for all refusals that differ in numbers and ids only."""
    return f"{code} {status} {' '.join(_VARYING.sub('#', (words or '').lower()).split())[:_LONGEST]}"


class Held(Struct, eq=False):
    """A row that waits until it is known whose its refusal is. at: when that came, by the lane's clock."""

    look: str
    at: float
    fate: Fate | None = None


class Streak:
    """The refusals of one lane. held: the rows that wait. refusing: the lane is in an outage because of them.

    watching: there is something to look out for, so that ``sent``, ``answered`` and ``ended`` have to be called.
    """

    def __init__(self) -> None:
        self.held: dict[Standing, Held] = {}
        self.refusing = False
        self.watching = False
        self._succeeded = False
        # requests that were sent while rows were held, and have not ended
        self._open: set[Permit] = set()
        # by look: when each row of the streak was refused
        self._refused_at: dict[str, list[float]] = {}
        # by look: how many are needed, where false alarms have raised it
        self._needed: dict[str, int] = {}
        # how many outages there were, and the last one that was found to be a false alarm
        self._outages = self._false_alarm = 0

    def needed(self, look: str) -> int:
        """Return how many rows have to be refused in this way."""
        return self._needed.get(look, ALIKE if self._succeeded else ALIKE_AT_FIRST)

    @property
    def others_open(self) -> int:
        """Number of open requests that may still prove that the endpoint answers."""
        return len(self._open)

    def sent(self, permit: Permit) -> None:
        """Record a request that goes out."""
        self._open.add(permit)

    def ended(self, permit: Permit) -> None:
        """Record a request that brought no answer."""
        self._open.discard(permit)

    def succeeded(self) -> None:
        """Record the first answer of the session."""
        self._succeeded = True

    def answered(self, permit: Permit) -> None:
        """Record an answer: the rows that were refused before its request was sent fail."""
        self._open.discard(permit)
        if self.refusing:
            return
        for held in self.held.values():
            if held.at < permit.admitted_at and held.fate is None:
                held.fate = "fail"
        self._forget(permit.admitted_at)
        self._watch()

    def refused(self, standing: Standing, permit: Permit, look: str, now: float) -> bool:
        """Hold a row. Return True if the streak is now long enough: then ``begin`` must be called."""
        self._open.discard(permit)
        self.watching = True
        self.held[standing] = held = Held(look=look, at=now)
        if self.refusing:
            self._excuse(standing, held)
            return False
        if standing.excused == look:
            # it was tried again when the endpoint was answering, and is refused for itself
            if standing.excused_in > self._false_alarm:
                self._false_alarm = standing.excused_in
                self._needed[look] = RAISED * self.needed(look)
            return False
        times = self._refused_at.setdefault(look, [])
        times.append(now)
        if len(self._refused_at) > LOOKS:
            self._refused_at.pop(next(iter(self._refused_at)))
        proof_at = max((other.admitted_at for other in self._open if other.accepted), default=_NEVER)
        return sum(at >= proof_at for at in times) >= self.needed(look)

    def begin(self, look: str) -> float:
        """Begin an outage: all rows that are held are to be tried again. Return when the first of the streak was refused."""
        self.refusing = True
        self._outages += 1
        for standing, held in self.held.items():
            if held.fate is None:
                self._excuse(standing, held)
        return min(self._refused_at[look])

    def end(self) -> None:
        """End an outage, because a request was answered."""
        self.refusing = False
        self._refused_at.clear()
        self._watch()

    def give_up(self) -> None:
        """Let all rows that are held fail: no other is left whose answer could show anything."""
        for held in self.held.values():
            held.fate = held.fate or "fail"

    def let_go(self, standing: Standing) -> None:
        """Forget a row that is held no more."""
        self.held.pop(standing, None)
        self._watch()

    def _excuse(self, standing: Standing, held: Held) -> None:
        held.fate = "again"
        standing.excused, standing.excused_in = held.look, self._outages

    def _forget(self, sent_at: float) -> None:
        for look, times in list(self._refused_at.items()):
            times[:] = [at for at in times if at >= sent_at]
            if not times:
                del self._refused_at[look]

    def _watch(self) -> None:
        self.watching = bool(self.held or self.refusing or self._refused_at)
        if not self.watching:
            self._open.clear()
