"""How long to wait before the next attempt. Pure: no clock, no sleep. A wait of None means: no further attempt."""

import random
from collections.abc import Mapping

from msgspec import Struct


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Full-jitter exponential backoff (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) with a floor.

    The floor prevents waits close to zero, and waits shorter than the one before. If the server asked for a wait, the wait is
    never shorter than that: jitter is added to it.
    """

    # attempts that an item may use; rate limits and an unreachable server do not count
    attempts: int = 5
    # first wait after a transient error, in seconds
    base_s: float = 0.5
    # first wait after a rate limit without a hint, in seconds
    throttled_base_s: float = 2.0
    # longest wait for an unreachable server, in seconds: trying costs nothing, and its return should be noticed soon
    unreached_cap_s: float = 4.0
    factor: float = 2.0
    # a wait is at least this fraction of the first bound, and at least ``growth`` times the last wait, but the latter asks for
    # no more than eight times the current bound
    floor: float = 0.2
    growth: float = 1.4
    cap_s: float = 60.0
    # after up to this many consecutive refusals an item waits as long as the server asks, plus some jitter; after more of them
    # the part added grows
    patient: int = 8
    # how long rate limits may delay an item before it fails, in seconds
    patience_s: float = 3600.0
    # how long an item waits for capacity of the flex tier, in seconds, before it is sent at the standard tier
    flex_patience_s: float = 600.0
    # whether items that ask for the flex tier do so; else they go at the standard tier
    flex: bool = True
    # whether the user asked for the flex tier; else items of a model that has none go at the standard tier
    flex_is_asked_for: bool = True
    # how long the server may refuse every row alike before the run stops, in seconds; 0: these refusals are the rows' own
    refused_s: float = 120.0
    # how often an item may be asked again whose answer does not fit the schema; these attempts do not count as failed ones
    repairs: int = 0
    # consecutive identical faults of an item after which it fails
    alike: int = 3

    def delay(
        self, failures: int, *, draw: random.Random, hint_s: float | None = None, last_s: float = 0.0, hung_up: bool = False
    ) -> float | None:
        """Seconds to wait after the ``failures``-th attempt that counted (1 is the first); None: no further attempt.

        hint_s: the wait that the server asked for. last_s: the wait before the failed attempt, 0 if there was none.
        hung_up: one of our timeouts ended the attempt. A slow server needs time to notice, or it would do the same work twice.
        """
        if failures >= self.attempts:
            return None
        base_s, least_s = (2 * self.base_s, self.base_s / self.growth) if hung_up else (self.base_s, 0.0)
        return self._jittered(base_s, self.cap_s, failures, draw, hint_s, max(last_s, least_s))

    def unreached_delay(self, times: int, *, draw: random.Random) -> float:
        """Seconds to wait after the server was unreachable ``times`` times in a row."""
        return self._jittered(self.base_s, self.unreached_cap_s, times, draw, None, 0.0)

    def throttled_delay(
        self, times: int, *, waited_s: float, draw: random.Random, hint_s: float | None = None, last_s: float = 0.0
    ) -> float | None:
        """Seconds to wait after a rate limit, the ``times``-th consecutive failure that does not count; None: give up.

        waited_s: seconds since rate limits began to delay the item. hint_s, last_s: as in ``delay``.
        """
        if waited_s >= self.patience_s:
            return None
        return self._jittered(self.throttled_base_s, self.cap_s, times, draw, hint_s, last_s)

    def _jittered(
        self, base_s: float, cap_s: float, times: int, draw: random.Random, hint_s: float | None, last_s: float
    ) -> float:
        # a larger exponent would overflow a float
        ceiling = min(cap_s, base_s * self.factor ** min(times - 1, 64))
        if hint_s is None:
            floor = max(base_s * self.floor, min(last_s * self.growth, 8 * ceiling, 0.8 * cap_s))
            return draw.uniform(floor, max(ceiling, min(floor * self.growth, cap_s)))
        # a hint that has been followed so often in vain is too short: add more and more to it
        extra = base_s * self.factor ** max(0, min(times, 64) - self.patient)
        return hint_s + draw.uniform(0, min(ceiling, extra))


def phrase(retrying: Mapping[int, int], attempts: int) -> str | None:
    """Return a phrase about the items that wait for a retry, highest attempt first; None if there are none.

    retrying: how many items wait, by the number of their next attempt. attempts: how many an item may use.
    """
    # number 1 is the next attempt of an item whose failures did not count
    waiting = sorted(((number, count) for number, count in retrying.items() if count > 0 and number > 1), reverse=True)
    if not waiting:
        return None
    words = [f"{count:,} on attempt {number} of {attempts}" for number, count in waiting[:2]]
    first, *others = words
    return ", ".join([first.replace(" on", " row on" if waiting[0][1] == 1 else " rows on", 1), *others])
