"""The simulator's own account of what its requests cost, by the providers' rules. It shares no code with the client's books.

What is billed, and where providers say so:

* A request that is refused before an answer began costs nothing (Novita, guide *LLM API billing*: 400 to 503 are not charged),
  nor does a flex request without capacity: "You will not be charged when this occurs" (OpenAI, guide *Flex processing*).
* A stream that is cut costs its input and the output made until then, whoever cut it, an error event included. OpenRouter
  (*Streaming*) says that a cancelled stream stops the model and its bill at once; Novita (same guide, 499) bills a client that
  is gone by the tokens that were used. OpenAI and Anthropic document no rule of their own.
* A client that gives up before the first byte of a stream is billed the input alone: the model had made nothing.
* An answer that is not streamed is made to its end, whether or not somebody still waits for it, and "you will be billed for the
  complete response" (OpenRouter, same page).
* Reasoning is output, at the rate of output if it has none of its own (OpenAI, guide *Reasoning models*).
* Input that a cache held costs the cached rate, input that was written to one the rate of writing (OpenAI and Anthropic, guides
  *Prompt caching*), which is higher if it is kept there for an hour (Anthropic). Nothing is written by a request that was given
  up before its first byte.
* The tier that served a request is billed, whichever was asked for (OpenAI, API reference, ``service_tier``).
* In a batch, only requests with an answer are billed, at the rates of batches; also if the batch has expired or was cancelled
  since (OpenAI, guide *Batch API*; Anthropic, guide *Batch processing*), and whether or not somebody fetches the results.
"""

from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from runner.simulator.prices import STANDARD, Billing, Price, Rates, billing_of, rates
from runner.simulator.sameness import as_streamed

_LINES = 100_000
_BODIES = 1_000_000
_DOLLAR = 10**12

# What is known of one request body, as bits.
_BILLED, _DOUBLED, _REPORTED, _REPORTED_TWICE = 1, 2, 4, 8

Ending = Literal["whole", "cut", "abandoned"]


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One billed request."""

    # of all requests that reached the simulator, refused ones included; 1 is the first
    number: int
    model: str
    # the tier that served it, as the answer names it
    tier: str
    # input that no cache held or took, input that was read from a cache, input that was written to one
    fresh_tokens: int
    cached_tokens: int
    written_tokens: int
    # of these: kept there for an hour
    written_1h_tokens: int
    # reasoning included
    output_tokens: int
    reasoning_tokens: int
    amount_picodollars: int
    # the usage was in the answer, where a client can read it, and the body was written to its end
    reported: bool
    # "cut": by a fault of the server; "abandoned": the client was gone before the end
    ending: Ending
    # SHA-256 of the body of the request, in hex; in a batch: of the body as it would be sent live, in a stream
    body: str


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice up to now, as ``GET /invoice`` returns it. Amounts are dollars with twelve decimals, and are exact."""

    currency: Literal["USD"] = "USD"
    # billed requests
    requests: int
    # admitted requests whose answer has not ended, so that they are not on the invoice yet
    open: int
    # all input: fresh, cached and written together
    input_tokens: int
    fresh_tokens: int
    cached_tokens: int
    written_tokens: int
    written_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    amount: str
    amount_reported: str
    amount_unreported: str
    # bodies that were billed more than once; live or in a batch, streamed or not are the same
    doubled: int
    # bodies whose usage was reported more than once: a finished answer that was paid twice
    reported_twice: int
    # lines that are no longer kept, because there are too many
    lines_dropped: int
    # the newest last; only if they were asked for
    lines: list[Line] | UnsetType = UNSET


class Used(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The tokens of one request that are billed."""

    fresh: int
    cached: int = 0
    written: int = 0
    # of these: kept for an hour
    written_1h: int = 0
    # reasoning included
    output: int
    reasoning: int = 0

    def amount(self, of: Rates) -> int:
        """Return what these tokens cost, in picodollars."""
        return (
            self.fresh * of.fresh
            + self.cached * of.cached
            + (self.written - self.written_1h) * of.written
            + self.written_1h * of.written_1h
            + (self.output - self.reasoning) * of.output
            + self.reasoning * of.reasoning
        )


class Invoice:
    """Adds up what is billed. lines, bodies: how many to remember, so that memory stays flat; the totals are of all."""

    def __init__(self, prices: Mapping[str, Price], *, lines: int = _LINES, bodies: int = _BODIES) -> None:
        self._prices = prices
        # by model, None for all that have no price of their own
        self._rates: dict[tuple[str | None, str, Billing], Rates] = {}
        self._lines: deque[Line] = deque(maxlen=lines)
        self._most_bodies = bodies
        self._bodies: dict[int, int] = {}
        self._requests = 0
        self._fresh = 0
        self._cached = 0
        self._written = 0
        self._written_1h = 0
        self._output = 0
        self._reasoning = 0
        self._amount = 0
        self._reported = 0
        self._doubled = 0
        self._reported_twice = 0

    def bill(
        self, number: int, body: bytes, used: Used, *, model: str, tier: str, dialect: str, reported: bool, ending: Ending
    ) -> None:
        """Add a request. tier: the one that served it, as the dialect names it."""
        amount = used.amount(self._rates_of(model, dialect, billing_of(tier)))
        digest = sha256(body)
        self._requests += 1
        self._fresh += used.fresh
        self._cached += used.cached
        self._written += used.written
        self._written_1h += used.written_1h
        self._output += used.output
        self._reasoning += used.reasoning
        self._amount += amount
        self._reported += amount if reported else 0
        same = as_streamed(dialect, body)
        self._remember(digest.digest() if same is body else sha256(same).digest(), reported=reported)
        self._lines.append(
            Line(
                number=number,
                model=model,
                tier=tier,
                fresh_tokens=used.fresh,
                cached_tokens=used.cached,
                written_tokens=used.written,
                written_1h_tokens=used.written_1h,
                output_tokens=used.output,
                reasoning_tokens=used.reasoning,
                amount_picodollars=amount,
                reported=reported,
                ending=ending,
                body=digest.hexdigest(),
            )
        )

    def statement(self, *, lines: bool = False, open_requests: int = 0) -> Statement:
        """Return the invoice up to now. open_requests: requests that are not on it yet."""
        return Statement(
            requests=self._requests,
            open=open_requests,
            input_tokens=self._fresh + self._cached + self._written,
            fresh_tokens=self._fresh,
            cached_tokens=self._cached,
            written_tokens=self._written,
            written_1h_tokens=self._written_1h,
            output_tokens=self._output,
            reasoning_tokens=self._reasoning,
            amount=dollars(self._amount),
            amount_reported=dollars(self._reported),
            amount_unreported=dollars(self._amount - self._reported),
            doubled=self._doubled,
            reported_twice=self._reported_twice,
            lines_dropped=self._requests - len(self._lines),
            lines=list(self._lines) if lines else UNSET,
        )

    def _rates_of(self, model: str, dialect: str, billing: Billing) -> Rates:
        key = (model if model in self._prices else None, dialect, billing)
        known = self._rates.get(key)
        if known is None:
            known = self._rates[key] = rates(self._prices.get(model, STANDARD[dialect]), billing)
        return known

    def _remember(self, digest: bytes, *, reported: bool) -> None:
        # 64 bits of a hash tell a million bodies apart
        body = int.from_bytes(digest[:8], "big")
        before = self._bodies.pop(body, 0)
        after = before | (_DOUBLED if before else 0) | _BILLED
        if reported:
            after |= _REPORTED_TWICE if before & _REPORTED else _REPORTED
        self._doubled += bool(after & ~before & _DOUBLED)
        self._reported_twice += bool(after & ~before & _REPORTED_TWICE)
        # re-inserted at the end, so that the first key is the least recently billed one
        self._bodies[body] = after
        if len(self._bodies) > self._most_bodies:
            del self._bodies[next(iter(self._bodies))]


def dollars(picodollars: int) -> str:
    """Return an amount in dollars, with all its twelve decimals."""
    return f"{picodollars // _DOLLAR}.{picodollars % _DOLLAR:012d}"
