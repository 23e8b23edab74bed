"""How long to wait before the next attempt. Pure: no clock, no sleep; None means give up."""

import random

from msgspec import Struct


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Full-jitter exponential backoff (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) over a floor.

    The floor keeps chance from making a wait next to nothing, or shorter than the one before. A wait the server asked for is
    never undercut: jitter is added behind it.
    """

    # attempts that an item may use up; rate limits and unreachable servers use none
    attempts: int = 5
    # first wait after a transient error, in seconds
    base_s: float = 0.5
    # first wait after a rate limit without a hint, in seconds
    throttled_base_s: float = 2.0
    # longest wait for a server that is out of reach, in seconds: trying costs nothing, and it should be seen soon
    unreached_cap_s: float = 4.0
    factor: float = 2.0
    # no wait is shorter than this part of the first bound, nor than the last wait times ``growth``, up to eight times its bound
    floor: float = 0.2
    growth: float = 1.4
    cap_s: float = 60.0
    # so many refusals of an item in a row are met by the server's wait and a little; more of them by waits that grow
    patient: int = 8
    # how long an item may be put off by rate limits before it fails, in seconds
    patience_s: float = 3600.0
    # the same fault of the same request so often in a row is final
    alike: int = 3

    def delay(
        self, failures: int, *, draw: random.Random, hint_s: float | None = None, last_s: float = 0.0, hung_up: bool = False
    ) -> float | None:
        """Seconds to wait after the ``failures``-th attempt that counted (1 is the first), or None to give up.

        hint_s: the wait that the server asked for. last_s: the wait before the failed attempt, 0 when there was none.
        hung_up: one of our clocks ended the attempt; a server that is late needs time to see it, or it has the same work twice.
        """
        if failures >= self.attempts:
            return None
        base_s, least_s = (2 * self.base_s, self.base_s / self.growth) if hung_up else (self.base_s, 0.0)
        return self._jittered(base_s, self.cap_s, failures, draw, hint_s, max(last_s, least_s))

    def unreached_delay(self, times: int, *, draw: random.Random) -> float:
        """Seconds to wait after the ``times``-th time in a row that the server was out of reach."""
        return self._jittered(self.base_s, self.unreached_cap_s, times, draw, None, 0.0)

    def throttled_delay(
        self, times: int, *, waited_s: float, draw: random.Random, hint_s: float | None = None, last_s: float = 0.0
    ) -> float | None:
        """Seconds to wait after the ``times``-th refusal that does not count, or None when patience has run out.

        waited_s: seconds since the item's first such refusal. hint_s, last_s: as in ``delay``.
        """
        if waited_s >= self.patience_s:
            return None
        return self._jittered(self.throttled_base_s, self.cap_s, times, draw, hint_s, last_s)

    def _jittered(
        self, base_s: float, cap_s: float, times: int, draw: random.Random, hint_s: float | None, last_s: float
    ) -> float:
        # the exponent is bounded because a float is
        ceiling = min(cap_s, base_s * self.factor ** min(times - 1, 64))
        if hint_s is None:
            floor = max(base_s * self.floor, min(last_s * self.growth, 8 * ceiling, 0.8 * cap_s))
            return draw.uniform(floor, max(ceiling, min(floor * self.growth, cap_s)))
        # a hint that has led nowhere so often is not enough
        beyond = base_s * self.factor ** max(0, min(times, 64) - self.patient)
        return hint_s + draw.uniform(0, min(ceiling, beyond))
