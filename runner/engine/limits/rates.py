"""All limits per minute of a lane: what they are, what is set aside for a request, and what it took in the end."""

from collections.abc import Callable, Iterable

from runner.admission import Permit
from runner.engine.limits import headers
from runner.engine.limits.bucket import Rate
from runner.engine.limits.headers import Kind, Seen
from runner.model import Usage

HEADERS_S = 0.1
"""How often the limits that good answers tell are read at most."""
DRAIN_S = 1.0
"""How often what the server has left is taken over at most: answers that come together tell the same thing."""

DRAINS = 3
"""How often the same rest is taken over."""
SPARE_TOKENS = 100_000
"""Tokens of input that a request may have beyond its bytes: a picture behind an address, a provider's own prompt."""
MOST_TOKENS = 1_000_000
"""Output tokens that are believed where the request sets no limit."""


class Rates:
    """Limits by kind: those given, those that the server tells, and the smaller where there are both."""

    def __init__(self, given: dict[Kind, float], clock: Callable[[], float]) -> None:
        self._given, self._clock = given, clock
        self._rates: dict[Kind, Rate] = {kind: Rate(amount) for kind, amount in given.items()}
        self._estimate = Estimate()
        self._next_headers = self._next_drain = float("-inf")
        self._drained: dict[Kind, tuple[float, int]] = {}
        # limits that the server has told, and that hold
        self.told: dict[Kind, bool] = {}
        # what somebody waits for at present
        self.waits_for: Kind | None = None

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits in force."""
        return {kind: rate.per_minute for kind, rate in self._rates.items()}

    async def reserve(self, permit: Permit) -> None:
        """Wait until a request may go, and note on its permit what was set aside."""
        if not self._rates:
            return
        permit.input_tokens = self._estimate.input_tokens(permit.size)
        permit.output_tokens = self._estimate.output_tokens(permit.most)
        try:
            # a limit that is learned meanwhile holds from the next request on
            for kind, rate in tuple(self._rates.items()):
                amount = _amount(kind, permit.input_tokens, permit.output_tokens)
                if rate.waits(amount):
                    self.waits_for = kind
                    await rate.acquire(amount)
                else:
                    await rate.take(amount)
                permit.reserved[kind] = amount
        except BaseException:
            self.unused(permit)
            raise
        finally:
            self.waits_for = None

    def unused(self, permit: Permit) -> None:
        """Give everything back: nothing reached the server."""
        self._book(permit, lambda _kind: 0.0)

    def refused(self, permit: Permit) -> None:
        """Book a rate limit's refusal: the request was counted, its tokens were not."""
        self._book(permit, lambda kind: 1.0 if kind == "rpm" else 0.0)

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Book what a request took; what is not known was perhaps used, so the estimate stands."""
        usage = _possible(usage, permit) if usage is not None else None
        if usage is not None and complete:
            self._estimate.learn(permit.size, usage)
        if not permit.reserved:
            return
        into = permit.input_tokens if usage is None or usage.input_tokens is None else float(usage.input_tokens)
        out = permit.output_tokens if usage is None or usage.output_tokens is None else float(usage.output_tokens)
        # Anthropic's input tokens per minute leave out what is read from its cache
        cached = float(usage.cached_tokens or 0) if usage is not None else 0.0
        self._book(permit, lambda kind: _amount(kind, into - cached if kind == "input_tpm" else into, out))

    def hear(self, raw: Iterable[tuple[bytes, bytes]], wall: float, *, always: bool) -> None:
        """Learn from an answer's headers, received at ``wall``. always: also when others were read a moment ago."""
        now = self._clock()
        if not always and now < self._next_headers:
            return
        self._next_headers = now + HEADERS_S
        raw = list(raw)
        if headers.speaks(raw):
            for kind, seen in headers.read(raw, wall).items():
                self.learn(kind, seen)

    def learn(self, kind: Kind, seen: Seen) -> None:
        """Take a limit over from the server's headers."""
        if (told := seen.per_minute) is None:
            return
        limit = min(told, self._given.get(kind, told))
        self.told[kind] = limit == told
        if kind in self._rates:
            self._rates[kind].change(limit)
        else:
            self._rates[kind] = Rate(limit)
        # somebody else may use the same limit, or the server may count otherwise than we do
        now = self._clock()
        if seen.remaining is None or seen.remaining >= limit / 60 or now < self._next_drain:
            return
        last, times = self._drained.get(kind, (-1.0, 0))
        times = times + 1 if last == seen.remaining else 1
        self._drained[kind] = seen.remaining, times
        # a number that never moves tells nothing
        if times <= DRAINS:
            self._next_drain = now + DRAIN_S
            self._rates[kind].drain(seen.remaining)

    def _book(self, permit: Permit, used: Callable[[Kind], float]) -> None:
        for kind, rate in self._rates.items():
            if (reserved := permit.reserved.pop(kind, None)) is not None:
                rate.settle(reserved, used(kind))


def _possible(usage: Usage, permit: Permit) -> Usage:
    """Hold a reported usage to what can be: one absurd number must not stop the lane for days."""
    most_in = permit.size + SPARE_TOKENS
    most_out = MOST_TOKENS if permit.most is None else 2 * permit.most + SPARE_TOKENS
    return Usage(
        input_tokens=None if usage.input_tokens is None else min(usage.input_tokens, most_in),
        output_tokens=None if usage.output_tokens is None else min(usage.output_tokens, most_out),
        cached_tokens=None if usage.cached_tokens is None else min(usage.cached_tokens, usage.input_tokens or 0, most_in),
    )


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


BYTES_PER_TOKEN = 4.0
"""Bytes of a request for one token of input, until usage tells; English text in JSON has about as many."""


OUTPUT_TOKENS = 256.0
"""Tokens of an answer, until usage tells."""


_KEPT = 0.98
"""What a new observation leaves of the older ones: about fifty answers are looked back on."""


class Estimate:
    """Running means, weighted towards the newest answers."""

    def __init__(self) -> None:
        self._bytes = self._input = 0.0
        self._output = self._answers = 0.0

    def input_tokens(self, size: int) -> float:
        """Tokens of a request of ``size`` bytes."""
        return max(1.0, size * self._input / self._bytes if self._input else size / BYTES_PER_TOKEN)

    def output_tokens(self, most: int | None) -> float:
        """Tokens of an answer that may have at most ``most``."""
        mean = self._output / self._answers if self._answers else OUTPUT_TOKENS
        return mean if most is None else min(mean, float(most))

    def learn(self, size: int, usage: Usage) -> None:
        """Take a complete answer's usage into account."""
        if usage.input_tokens is not None and size > 0:
            self._bytes = self._bytes * _KEPT + size
            self._input = self._input * _KEPT + usage.input_tokens
        if usage.output_tokens is not None:
            self._output = self._output * _KEPT + usage.output_tokens
            self._answers = self._answers * _KEPT + 1
