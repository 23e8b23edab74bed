"""How many requests may be open: a fixed number, or one that adapts to the server's limit by itself.

Additive increase, multiplicative decrease (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988), with two differences that
model servers call for. A refusal shows exactly how many requests the server had accepted, so a raise that was one too many is
taken back to that number and not halved. And a refusal shows nothing about the slots if the server still accepts as many requests
as before, so random refusals do not drive the number down.
"""

from collections.abc import Callable

from runner.admission import Permit
from runner.engine.limits.leader import Leader
from runner.engine.limits.learned import Learned
from runner.engine.limits.window import Window

START = 8
"""Slots at the start, while nothing is known."""
FIXED_START = 64
"""Slots of a fixed number that are open at first."""
FIXED_DOUBLING_S = 0.02
"""Seconds in which that number doubles: a gradual start, so that connections are not all opened at once."""
REOPENED_DOUBLING_S = 0.25
"""Seconds in which it doubles after a pause."""
HOLD_S = 8.0
"""Seconds without trouble until one more slot is tried."""
HOLD_PAUSES = 16
"""This time is at least as many times as long as the pause that the trouble caused ..."""
HOLD_MOST_S = 120.0
"""... but no longer than this, in seconds."""
HOLD_ANSWERS = 64
"""Answers without trouble until one more slot is tried."""
AT_LEVEL = 0.9
"""An answer is evidence about the number of slots only if at least this fraction of them was in use when its request was sent."""
FIRST_CUT = 0.03
"""Fraction of the slots that the first cut removes; each further cut removes twice as much."""
OVERLOAD_DECREASE = 0.5
"""Factor for the slots after a sign of overload."""
LEAST = 0.5
"""Smallest fraction of the slots that one episode of refusals leaves."""
CUTS = 3
"""Maximum number of cuts against refusals that come although most slots are accepted; after them the slots are not the cause."""
NOISE_S = 60.0
"""Seconds for which refusals are then treated as noise ..."""
NOISE_SHARE = 0.35
"""... as long as a smaller share of the requests than this is refused."""
_SHARE_KEPT = 31 / 32


class Slots:
    """The slots of one lane. ``limit`` is their present number; fewer may be open.

    ceiling: the highest number, or the fixed one. tuned: True if the number adapts by itself.
    """

    # who says instead when requests may be sent, and learns from them: the limits are shared. None: nobody
    leader: Leader | None = None

    def __init__(self, ceiling: int, *, tuned: bool, clock: Callable[[], float]) -> None:
        self.ceiling, self.tuned, self._clock = ceiling, tuned, clock
        self.limit = min(START, ceiling) if tuned else ceiling
        self.out = 0
        # refused requests whose slot has not been released yet
        self._refused = 0
        # how many of the slots are open, while they open gradually
        self._window = Window(clock, by_time=not tuned)
        # fraction of the limit that opens at once after a pause or an outage; None if there was neither
        self._reopen_part: float | None = None
        self._started = False
        # number of the present episode; requests that were sent in the same epoch belong together
        self._epoch = 0
        # True while the limit rises with each answer; ends with the first trouble
        self._ramping = True
        # when the last trouble was, and the longest pause since
        self._clean_since = clock()
        self._pause_s = 0.0
        # since the last trouble: answers begun, and those at the level of the limit
        self._answers = self._at_level = 0
        # since the last trouble: whether the limit rose, and whether it held requests back
        self._raised = self._wanted = False
        # the least that the present episode leaves
        self._floor = 1
        # requests that the server had accepted when the episode began, while further refusals of it correct that number
        self._measuring = False
        self._accepted_level = 0
        self._episode_refusals = 0
        # True if nothing was answered between the last two episodes
        self._fruitless = False
        # the limit from which one more slot was tried
        self._raised_from = 0
        # cuts against refusals that may have another cause, and the limit before them
        self._cuts, self._uncut = 0, self.limit
        self._noisy_until = self._overload_at = float("-inf")
        # running mean of refused requests among all
        self._refused_share = 0.0
        # answers at the level of the limit since it rose
        self._round_answers = 0

    def learned(self) -> Learned:
        """Return what was learned so far."""
        calm_s = self._clock() - self._clean_since
        return Learned(self.limit, self._ramping, calm_s, self._pause_s, self._answers, self._raised_from)

    def go_on(self, learned: Learned) -> None:
        """Go on with what was learned elsewhere. Nothing changes if the number is fixed."""
        if self.tuned:
            self.limit, self._ramping = max(1, min(learned.limit, self.ceiling)), learned.ramping
            self._clean_since, self._pause_s = self._clock() - learned.calm_s, learned.pause_s
            self._answers, self._raised_from = learned.answers, learned.raised_from

    def resize(self, ceiling: int) -> None:
        """Change the highest number, or the fixed one. Requests that are open beyond it go on."""
        before, self.ceiling = self.ceiling, ceiling
        if not self.tuned:
            self.limit = ceiling
            if ceiling > before:
                self._window.begin(max(FIXED_START, before), ceiling, FIXED_DOUBLING_S)
            return
        # what held it back was this number, and no trouble
        self._ramping = self._ramping or self.limit == before < ceiling
        self.limit = min(self.limit, ceiling)

    def may_take(self) -> bool:
        """Return True if one more request may be sent now. The call may raise the limit."""
        if self.leader is not None and self.tuned:
            return self.out < self.ceiling
        if not self.tuned and not self._started:
            self._started = True
            self._window.begin(FIXED_START, self.limit, FIXED_DOUBLING_S)
        if self._reopen_part is not None:
            self._reopen(self._reopen_part)
        if self.out < self._window.of(self.limit):
            return True
        # the limit itself, and not a lack of items, holds requests back
        self._wanted = self._wanted or self.out >= self.limit
        return self.tuned and not self._window.opening and self._one_more()

    @property
    def opening(self) -> bool:
        """True while slots open by the passing of time, so that checking again in a few milliseconds is useful."""
        return self._window.opens_by_time

    def take(self, permit: Permit) -> None:
        """Occupy a slot for a permit."""
        self.out += 1
        permit.epoch, permit.level = self._epoch, self.out

    def give_back(self, permit: Permit) -> None:
        """Release the slot of a permit."""
        self.out -= 1
        if permit.refused:
            self._refused -= 1

    def accepted(self, permit: Permit) -> None:
        """Record that the answer to a request has begun."""
        if permit.accepted:
            return
        permit.accepted = True
        if self.leader is not None:
            self.leader.accepted(permit)
            return
        self._refused_share *= _SHARE_KEPT
        if permit.epoch != self._epoch:
            return
        self._answers += 1
        if not self.tuned:
            return
        self._window.answered(self.limit)
        if permit.level >= AT_LEVEL * self.limit:
            self._at_level += 1
            self._round_answers += 1
        # evidence for more slots: at least half of them are used, and more than the number from which the last trial started
        used = permit.level * 2 >= self.limit and permit.level > self._raised_from
        if used and self.limit < self.ceiling and (self._ramping or self._noisy_round()):
            self.limit += 1
            self._round_answers, self._raised = 0, True

    def refuse(self, permit: Permit) -> bool:
        """Record a refusal (429) and reduce the limit. Return True for the first of an episode.

        All requests that were open when it came belong to the same episode.
        """
        if not permit.refused:
            permit.refused = True
            self._refused += 1
        if self.leader is not None:
            self.leader.refused(permit)
            return False
        self._refused_share = self._refused_share * _SHARE_KEPT + (1 - _SHARE_KEPT)
        first = permit.epoch == self._epoch
        if first:
            # open requests at the first refusal, minus each one refused with it; those that are answered count as accepted
            self._accepted_level = self.out - self._refused
            raised, proven = self._raised, self._level_proven
            self._begin_episode(LEAST)
            self._measuring = not self._noisy and (raised or not proven)
            if raised and not self._noisy:
                self._cuts = 0
                self._shrink(self._accepted_level)
            elif not self._noisy:
                self._cut(proven=proven)
        elif self._measuring and permit.epoch == self._epoch - 1:
            self._accepted_level -= 1
            self._shrink(self._accepted_level)
        self._episode_refusals += 1
        return first

    def overload(self, permit: Permit) -> bool:
        """Record overload (529, no connection, no first byte) and reduce the limit. Return True for the first of an episode."""
        if self.leader is not None:
            self.leader.overloaded(permit)
            return False
        if permit.epoch != self._epoch:
            return False
        self._refused_share = self._refused_share * _SHARE_KEPT + (1 - _SHARE_KEPT)
        self._begin_episode(OVERLOAD_DECREASE)
        now = self._clock()
        repeated, self._overload_at = now - self._overload_at < NOISE_S, now
        if repeated and self._refused_share < NOISE_SHARE:
            # fewer slots did not help, and most requests are answered
            self._noisy_until = now + NOISE_S
            self.limit = max(self.limit, min(self._uncut, self.ceiling))
        else:
            self._uncut = self.limit
            self._shrink(int(self.limit * OVERLOAD_DECREASE))
        return True

    def paused(self, seconds: float) -> None:
        """Open the slots gradually after a pause: otherwise all waiting requests would be sent at once."""
        if self.leader is not None and self.tuned:
            return
        self._pause_s = max(self._pause_s, seconds)
        self._reopen_part = 1 / 2

    def probing(self) -> None:
        """Open the slots gradually after an outage, beginning with one."""
        if self.leader is not None and self.tuned:
            return
        self._reopen_part = 0.0

    @property
    def _level_proven(self) -> bool:
        """True if the server has answered about as many requests at once as there are slots, so that it accepts their number."""
        return self._at_level * 2 >= self.limit

    @property
    def _noisy(self) -> bool:
        return self._refused_share < NOISE_SHARE and self._clock() < self._noisy_until

    def _noisy_round(self) -> bool:
        return self._round_answers >= self.limit and self._wanted and self._noisy

    def _cut(self, *, proven: bool) -> None:
        """Reduce the limit. If several cuts do not help against the refusals, restore it: the slots are not the cause."""
        if self._cuts == 0:
            self._uncut = self.limit
        self._cuts += 1
        if proven and self._cuts > CUTS:
            self.limit = max(self.limit, min(self._uncut, self.ceiling))
            self._cuts, self._noisy_until = 0, self._clock() + NOISE_S
        else:
            cut = max(1, int(self.limit * FIRST_CUT * 2 ** min(self._cuts - 1, 4)))
            self._shrink(self.limit - cut if proven else min(self._accepted_level, self.limit - cut))

    def _begin_episode(self, least: float) -> None:
        self._epoch += 1
        self._fruitless = self._answers == 0
        self._floor = max(1, int(self.limit * least))
        self._clean_since, self._pause_s = self._clock(), 0.0
        self._answers = self._at_level = self._episode_refusals = self._round_answers = 0
        self._ramping = self._raised = self._wanted = False

    def _shrink(self, to: int) -> None:
        if self.tuned:
            self.limit = min(self.limit, max(1, self._floor, to))

    def _one_more(self) -> bool:
        """Try one more slot if there has been no trouble for a while. If it goes well, more follow."""
        if self._ramping or self.limit >= self.ceiling or not self._wanted:
            return False
        # the fewer slots there are, the less a trial costs, so the wait is shorter
        hold_s = max(HOLD_S, min(HOLD_MOST_S, HOLD_PAUSES * self._pause_s) * min(1.0, self.limit / START))
        if self._clock() - self._clean_since < hold_s or self._answers < min(HOLD_ANSWERS, 4 * self.limit):
            return False
        self._raised_from = self.limit
        self.limit += 1
        self._cuts = 0
        self._ramping = self._raised = True
        return True

    def _reopen(self, part: float) -> None:
        """Open some slots beyond those in use, then the others gradually; only one if nothing was answered since last time."""
        if self._fruitless:
            part = 0.0
        elif self._episode_refusals * 4 >= self.limit:
            part /= 4
        self._window.begin(self.out + max(1, int(self.limit * part)), self.limit, REOPENED_DOUBLING_S)
        self._reopen_part = None
