"""When an endpoint was heard of last, and how long it usually takes until an answer of it begins."""

from collections.abc import Callable, Iterable

from runner.admission import Permit

KEPT = 0.8
"""Part of a mean time that stays when another one comes."""
TIMES = 10.0
"""An endpoint is silent that has not been heard of for so many times as long as others take until an answer begins ..."""
TIMES_LONGEST = 2.0
"""... and for so many times as long as any answer took to begin ..."""
SILENT_S = 5.0
"""... and for so many seconds."""
GIVEN_UP_S = 30.0
"""The same until the requests there are given up, at the end of a run: they may be billed."""


class Hearing:
    """What is heard of one endpoint. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # when anything came of it; None: nothing has
        self._at: float | None = None
        # seconds from a request to the beginning of its answer: the mean, and the most
        self.usual_s: float | None = None
        self.longest_s = 0.0
        # requests of which nothing has been heard, oldest first
        self._unheard: dict[Permit, None] = {}

    def admitted(self, permit: Permit) -> None:
        """Record a permit, whose request is about to be sent."""
        self._unheard[permit] = None

    def heard(self, permit: Permit, *, answers: bool) -> None:
        """Record that an answer has begun. answers: it is none that refuses."""
        self._at = now = self._clock()
        if permit not in self._unheard:
            return
        del self._unheard[permit]
        if answers and permit.sent_at is not None:
            took_s = now - permit.sent_at
            self.usual_s = took_s if self.usual_s is None else KEPT * self.usual_s + (1 - KEPT) * took_s
            self.longest_s = max(self.longest_s, took_s)

    def over(self, permit: Permit) -> None:
        """Record that a request has ended, whatever became of it."""
        self._unheard.pop(permit, None)

    @property
    def silent_s(self) -> float:
        """Seconds for which nothing has been heard although a request is open that has brought nothing; 0 if there is none."""
        sent_at = next((permit.sent_at for permit in self._unheard if permit.sent_at is not None), None)
        if sent_at is None:
            return 0.0
        return self._clock() - (sent_at if self._at is None else max(sent_at, self._at))

    def unheard(self, least_s: float) -> list[Permit]:
        """Return the requests that have been open for so long and of which nothing has been heard.

        One request tells nothing of an endpoint that has been heard of: its answer may be a long one. Then there is none.
        """
        latest = self._clock() - least_s
        found = [permit for permit in self._unheard if permit.sent_at is not None and permit.sent_at <= latest]
        return found if len(found) > 1 or self._at is None else []


def bound_s(own: Hearing, others: Iterable[Hearing], least_s: float) -> float | None:
    """Return after how many seconds an endpoint counts as silent, at least ``least_s``; None: others tell nothing of it."""
    others = [one for one in others if one.usual_s is not None]
    if not others:
        return None
    longest_s = max(own.longest_s, *(one.longest_s for one in others))
    return max(least_s, TIMES * min(one.usual_s or 0.0 for one in others), TIMES_LONGEST * longest_s)
