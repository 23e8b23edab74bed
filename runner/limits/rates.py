"""All limits per minute of a lane: what they are, what is set aside for a request, and what it took in the end."""

from collections.abc import Callable

from runner.admission import Permit
from runner.limits.estimate import Estimate
from runner.limits.headers import Kind, Seen
from runner.limits.rate import Rate
from runner.model import Usage

DRAIN_S = 1.0
"""How often what the server has left is taken over at most: answers that come together tell the same thing."""


class Rates:
    """Limits by kind: those given, those that the server tells, and the smaller where there are both."""

    def __init__(self, given: dict[Kind, float], clock: Callable[[], float]) -> None:
        self._given, self._clock = given, clock
        self._rates: dict[Kind, Rate] = {kind: Rate(amount) for kind, amount in given.items()}
        self._estimate = Estimate()
        self._next_drain = float("-inf")
        # what the last one had to wait for
        self.waits_for: Kind | None = None

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits in force."""
        return {kind: rate.per_minute for kind, rate in self._rates.items()}

    async def reserve(self, permit: Permit, most: int | None) -> None:
        """Wait until a request may go, and note on its permit what was set aside. most: output tokens at most, if known."""
        if not self._rates:
            return
        permit.input_tokens = self._estimate.input_tokens(permit.size)
        permit.output_tokens = self._estimate.output_tokens(most)
        waits_for: Kind | None = None
        try:
            # a limit that is learned meanwhile holds from the next request on
            for kind, rate in tuple(self._rates.items()):
                amount = _amount(kind, permit.input_tokens, permit.output_tokens)
                if rate.waits(amount):
                    waits_for = self.waits_for = kind
                await rate.acquire(amount)
                permit.reserved[kind] = amount
        except BaseException:
            self.unused(permit)
            raise
        self.waits_for = waits_for

    def unused(self, permit: Permit) -> None:
        """Give everything back: nothing reached the server."""
        self._book(permit, lambda _kind: 0.0)

    def refused(self, permit: Permit) -> None:
        """Book a rate limit's refusal: the request was counted, its tokens were not."""
        self._book(permit, lambda kind: 1.0 if kind == "rpm" else 0.0)

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Book what a request took; what is not known was perhaps used, so the estimate stands."""
        if usage is not None and complete:
            self._estimate.learn(permit.size, usage)
        if not permit.reserved:
            return
        into = permit.input_tokens if usage is None or usage.input_tokens is None else float(usage.input_tokens)
        out = permit.output_tokens if usage is None or usage.output_tokens is None else float(usage.output_tokens)
        self._book(permit, lambda kind: _amount(kind, into, out))

    def learn(self, kind: Kind, seen: Seen) -> None:
        """Take a limit over from the server's headers."""
        if (told := seen.per_minute) is None:
            return
        limit = min(told, self._given.get(kind, told))
        if kind in self._rates:
            self._rates[kind].change(limit)
        else:
            self._rates[kind] = Rate(limit)
        # somebody else may use the same limit, or the server may count otherwise than we do
        now = self._clock()
        if seen.remaining is not None and seen.remaining < limit / 60 and now >= self._next_drain:
            self._next_drain = now + DRAIN_S
            self._rates[kind].drain(seen.remaining)

    def _book(self, permit: Permit, used: Callable[[Kind], float]) -> None:
        for kind, rate in self._rates.items():
            if (reserved := permit.reserved.pop(kind, None)) is not None:
                rate.settle(reserved, used(kind))


def _amount(kind: Kind, input_tokens: float, output_tokens: float) -> float:
    match kind:
        case "rpm":
            return 1.0
        case "tpm":
            return input_tokens + output_tokens
        case "input_tpm":
            return input_tokens
        case "output_tpm":
            return output_tokens
