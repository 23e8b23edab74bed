"""How many requests may be out: a fixed number, or one that finds the server's limit by itself.

Additive increase, multiplicative decrease (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988), with two differences that
the field's servers ask for. A refusal shows exactly how many the server had taken, so a raise that was one too many is taken
back to that number and not halved. And a refusal says nothing about the slots when as many are taken as before, so refusals
at random do not drive the number down.
"""

from collections.abc import Callable

from runner.admission import Permit

START = 8
"""Requests out at the start, while nothing is known."""
FIXED_START = 64
"""The same for a fixed number, which then doubles every FIXED_DOUBLING_S, so that connections are not opened all at once."""
FIXED_DOUBLING_S = 0.02
REOPENED_DOUBLING_S = 0.25
"""The same behind a pause."""
HOLD_S = 8.0
"""After trouble: seconds without any until one more slot is tried."""
HOLD_PAUSES = 16
"""... and at least so many times as long as the pause that the trouble cost."""
HOLD_MOST_S = 120.0
"""... but no longer than this ..."""
HOLD_ANSWERS = 64
"""... and at least so many answers."""
AT_LEVEL = 0.9
"""A request speaks for the number of slots when at least this part of them was taken with it."""
FIRST_CUT = 0.03
"""Part of the slots that the first of several refusals costs; each further one costs twice as much."""
OVERLOAD_DECREASE = 0.5
LEAST = 0.5
"""What one episode of trouble leaves of the slots at least."""
CUTS = 3
"""So often fewer slots are tried against refusals that come although most are taken; then it is not the slots."""
NOISE_S = 60.0
"""How long refusals are then taken for noise, while few enough are refused."""
NOISE_SHARE = 0.35
_SHARE_KEPT = 31 / 32


class Slots:
    """Slots of one lane. ``limit`` is how many there are now; fewer may be open.

    ceiling: the most there will ever be, or the fixed number. tuned: whether the number finds itself.
    """

    def __init__(self, ceiling: int, *, tuned: bool, clock: Callable[[], float]) -> None:
        self.ceiling, self.tuned = ceiling, tuned
        self._clock = clock
        self.limit = min(START, ceiling) if tuned else ceiling
        self.out = 0
        # refused, and not given back yet
        self._refused = 0
        # fewer than the limit while they open
        self._window = Window(clock, by_time=not tuned)
        # the part of the limit that may come at once when a pause is over; None when there was none
        self._again: float | None = None
        self._begun_at_all = False
        self._epoch = 0
        # doubling; ends with the first trouble
        self._ramping = True
        # since the last trouble: when that was, its pause, answers begun, those that speak for the limit, whether it rose
        self._clean_since = clock()
        self._pause_s = 0.0
        self._begun = self._at_level = 0
        self._raised = False
        self._wanted = False
        self._least = 1
        self._measuring = False
        self._taken = 0
        self._in_episode = 0
        self._fruitless = False
        # slots that had been found when one more was tried
        self._tried = 0
        # refusals that may have nothing to do with the slots
        self._cuts, self._uncut = 0, self.limit
        self._noisy_until = float("-inf")
        self._overload_at = float("-inf")
        self._share = 0.0
        self._round = 0

    def may_take(self) -> bool:
        """Tell whether one more may go out now; the number may rise at the asking."""
        if not self.tuned and not self._begun_at_all:
            self._begun_at_all = True
            self._window.begin(FIXED_START, self.limit, FIXED_DOUBLING_S)
        if self._again is not None:
            self._reopen(self._again)
        if self.out < self._window.of(self.limit):
            return True
        # an honest sign that the limit is what holds requests back
        self._wanted = self._wanted or self.out >= self.limit
        return self.tuned and not self._window.opening and self._one_more()

    @property
    def opening(self) -> bool:
        """Slots open by the passing of time, so a look in a few milliseconds is worth while."""
        return self._window.opens_by_time

    def take(self, permit: Permit) -> None:
        """Give a slot to a permit."""
        self.out += 1
        permit.epoch, permit.level = self._epoch, self.out

    def give_back(self, permit: Permit) -> None:
        """Take a slot back."""
        self.out -= 1
        if permit.refused:
            self._refused -= 1

    def accepted(self, permit: Permit) -> None:
        """Note that the answer to a request has begun."""
        if permit.accepted:
            return
        permit.accepted = True
        self._share *= _SHARE_KEPT
        if permit.epoch != self._epoch:
            return
        self._begun += 1
        if not self.tuned:
            return
        self._window.answered(self.limit)
        if permit.level >= AT_LEVEL * self.limit:
            self._at_level += 1
            self._round += 1
        # no more than half used: no sign that more would be; not beyond what was tried one by one: no sign that more would do
        used = permit.level * 2 >= self.limit and permit.level > self._tried
        if used and self.limit < self.ceiling and (self._ramping or self._noisy_round()):
            self.limit += 1
            self._round, self._raised = 0, True

    def refuse(self, permit: Permit) -> bool:
        """Note a refusal (429) and shrink; True for the first of an episode, which speaks for all that were out with it."""
        if not permit.refused:
            permit.refused = True
            self._refused += 1
        self._share = self._share * _SHARE_KEPT + (1 - _SHARE_KEPT)
        first = permit.epoch == self._epoch
        if first:
            # what was out when the first refusal came, less each refused with it; answers that end meanwhile were taken too
            self._taken = self.out - self._refused
            raised, spoken_for = self._raised, self._spoken_for
            self._trouble(LEAST)
            self._measuring = not self._noisy and (raised or not spoken_for)
            if raised and not self._noisy:
                self._cuts = 0
                self._shrink(self._taken)
            elif not self._noisy:
                self._cut(spoken_for=spoken_for)
        elif self._measuring and permit.epoch == self._epoch - 1:
            self._taken -= 1
            self._shrink(self._taken)
        self._in_episode += 1
        return first

    def overload(self, permit: Permit) -> bool:
        """Note a sign of too much load (529, refused connections, no first byte) and shrink; True for the first of an episode."""
        if permit.epoch != self._epoch:
            return False
        self._share = self._share * _SHARE_KEPT + (1 - _SHARE_KEPT)
        self._trouble(OVERLOAD_DECREASE)
        now = self._clock()
        again, self._overload_at = now - self._overload_at < NOISE_S, now
        if again and self._share < NOISE_SHARE:
            # fewer slots have not helped, and most requests are answered
            self._noisy_until = now + NOISE_S
            self.limit = max(self.limit, min(self._uncut, self.ceiling))
        else:
            self._uncut = self.limit
            self._shrink(int(self.limit * OVERLOAD_DECREASE))
        return True

    def paused(self, seconds: float) -> None:
        """Let fewer out at first when a pause ends, for all who waited would come at once."""
        self._pause_s = max(self._pause_s, seconds)
        self._again = 1 / 2

    def probing(self) -> None:
        """Begin with a single one when an outage is over."""
        self._again = 0.0

    @property
    def _spoken_for(self) -> bool:
        """Most of the slots were taken and answered since the last trouble, so their number as such is not refused."""
        return self._at_level * 2 >= self.limit

    @property
    def _noisy(self) -> bool:
        return self._share < NOISE_SHARE and self._clock() < self._noisy_until

    def _noisy_round(self) -> bool:
        return self._round >= self.limit and self._wanted and self._noisy

    def _cut(self, *, spoken_for: bool) -> None:
        """Try fewer slots; when that does not help against refusals, the slots are not what is refused."""
        if self._cuts == 0:
            self._uncut = self.limit
        self._cuts += 1
        if spoken_for and self._cuts > CUTS:
            self.limit = max(self.limit, min(self._uncut, self.ceiling))
            self._cuts, self._noisy_until = 0, self._clock() + NOISE_S
        else:
            cut = max(1, int(self.limit * FIRST_CUT * 2 ** min(self._cuts - 1, 4)))
            self._shrink(self.limit - cut if spoken_for else min(self._taken, self.limit - cut))

    def _trouble(self, least: float) -> None:
        self._epoch += 1
        self._fruitless = self._begun == 0
        self._least = max(1, int(self.limit * least))
        self._clean_since, self._pause_s = self._clock(), 0.0
        self._begun = self._at_level = self._in_episode = self._round = 0
        self._ramping = self._raised = self._wanted = False

    def _shrink(self, to: int) -> None:
        if self.tuned:
            self.limit = min(self.limit, max(1, self._least, to))

    def _one_more(self) -> bool:
        """Try one more slot when there has been no trouble for a while; if it goes well, more follow."""
        if self._ramping or self.limit >= self.ceiling or not self._wanted:
            return False
        # a trial costs the less the fewer there are
        hold_s = max(HOLD_S, min(HOLD_MOST_S, HOLD_PAUSES * self._pause_s) * min(1.0, self.limit / START))
        if self._clock() - self._clean_since < hold_s or self._begun < min(HOLD_ANSWERS, 4 * self.limit):
            return False
        self._tried = self.limit
        self.limit += 1
        self._cuts = 0
        self._ramping = self._raised = True
        return True

    def _reopen(self, part: float) -> None:
        """Let some more out than are out still, then the others by and by; just one when nothing was answered since last time."""
        if self._fruitless:
            part = 0.0
        elif self._in_episode * 4 >= self.limit:
            part /= 4
        self._window.begin(self.out + max(1, int(self.limit * part)), self.limit, REOPENED_DOUBLING_S)
        self._again = None


class Window:
    """Opens by one for each answer that begins, or, with ``by_time``, doubles at an interval. clock: seconds."""

    def __init__(self, clock: Callable[[], float], *, by_time: bool) -> None:
        self._clock, self._by_time = clock, by_time
        # None: all slots are open
        self._open: float | None = None
        self._doubling_s = 1.0
        self._doubled_at = 0.0

    @property
    def opening(self) -> bool:
        """Not all slots are open yet."""
        return self._open is not None

    @property
    def opens_by_time(self) -> bool:
        """Slots open by the passing of time, so a look in a few milliseconds is worth while."""
        return self._by_time and self._open is not None

    def begin(self, some: int, limit: int, doubling_s: float) -> None:
        """Let ``some`` of the slots be open, and then more."""
        self._open = float(some) if some < limit else None
        self._doubling_s, self._doubled_at = doubling_s, self._clock()

    def answered(self, limit: int) -> None:
        """Open one more."""
        if self._open is not None and not self._by_time:
            self._open = self._open + 1 if self._open + 1 < limit else None

    def of(self, limit: int) -> int:
        """Give how many of ``limit`` slots are open now."""
        if self._open is None:
            return limit
        if self._by_time and (steps := int((self._clock() - self._doubled_at) / self._doubling_s)):
            self._open *= 2 ** min(steps, 30)
            self._doubled_at = self._clock()
        if self._open >= limit:
            self._open = None
            return limit
        return int(self._open)
