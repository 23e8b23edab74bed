"""What requests take by their sizes alone, before one of them was answered: low, middle and high. Pure.

A token of a text is 2 to 6 bytes of it, 4 in the middle. English prose has 4 to 5, with single rows of plain words up to 6. The
other alphabets have more bytes and more tokens for each letter: 2 to 5. Code, numbers and markup have 2 to 4.
The high bound counts the whole body, whose names and brackets stand for the marks that a server puts between messages.
"""

import math
from typing import NamedTuple

from msgspec import Struct

from runner.money import highest
from runner.prices.interval import Interval
from runner.prices.rates import Schedule

LEAST_BYTES, BYTES, MOST_BYTES = 2, 4, 6
"""Bytes of a text per token: at the least, usually, at the most."""
OUTPUT_TOKENS = 256
"""Tokens of an answer in the middle: what the limits per minute expect before the first one, too."""
_MARKS = 8
"""Tokens around the text of a request: roles, and marks between messages."""
_FILES = 4
"""The tokens of a picture or a page are known roughly: within this factor."""


class Size(NamedTuple):
    """The size of a request. text: bytes of its texts. body: bytes of the body. files: tokens that its files may have.

    most: the limit of its answer in tokens; None: it has none. hour: it may ask for a cache that is kept for an hour.
    tier: the service tier that it asks for; None: no special one. cut: tokens at which its last answer was cut; 0: it was not.
    alone: no other tier can serve it.
    """

    model: str
    text: int
    body: int
    files: int = 0
    most: int | None = None
    hour: bool = False
    tier: str | None = None
    cut: int = 0
    alone: bool = False

    @property
    def measure(self) -> int:
        """The size as samples are drawn by: in bytes of text, 1 or more."""
        return max(1, self.text + BYTES * self.files)

    def longer(self, by: int) -> "Size":
        """Return the size with so many more bytes of text."""
        return self._replace(text=self.text + by, body=self.body + by)

    def cut_at(self, tokens: int) -> "Size":
        """Return the size of a request whose last answer was cut at so many tokens."""
        return self._replace(cut=tokens)


class Guess(Struct):
    """The sums over requests. A bound that is not known is infinite; cost is None while no price is known, in picodollars."""

    rows: int = 0
    input: Interval = Interval(low=0, mid=0, high=0)
    output: Interval = Interval(low=0, mid=0, high=0)
    cost: Interval | None = None
    # a request may ask for a cache that is kept for an hour
    hour: bool = False

    def add(self, size: Size, schedule: Schedule | None, limit: int | None, other: Schedule | None = None) -> None:
        """Count one request. schedule: its rates. limit: tokens that the model can have in all. None: not known.

        other: the rates of another tier that may serve it. They count for the bounds, and not for the middle.
        """
        read = input_tokens(size)
        written = output_tokens(size, limit)
        self.rows, self.hour = self.rows + 1, self.hour or size.hour
        self.input, self.output = plus(self.input, read), plus(self.output, written)
        if schedule is not None:
            whole = _cost(read, written, schedule, other or schedule, hour=size.hour)
            self.cost = plus(self.cost or Interval(low=0, mid=0, high=0), whole)


def input_tokens(size: Size) -> Interval:
    """Return the tokens that a request may have."""
    low = max(1.0, size.text / MOST_BYTES) + size.files / _FILES
    mid = size.text / BYTES + _MARKS + size.files
    high = max(size.body / LEAST_BYTES, mid) + _FILES * size.files
    return Interval(low=min(low, mid), mid=mid, high=high)


def output_tokens(size: Size, limit: int | None) -> Interval:
    """Return the tokens that the answer to a request may have: 1 to its limit, or that of the model.

    One that was cut before has more than it had then: twice as many in the middle, as far as the limit allows.
    """
    most = size.most if size.most is not None else limit if limit is not None else math.inf
    usual = max(2 * size.cut, OUTPUT_TOKENS if size.cut == 0 else 0)
    return Interval(low=min(float(max(1, size.cut)), most), mid=min(float(usual), most), high=most)


def plus(one: Interval, other: Interval) -> Interval:
    """Return the sum of two intervals, bound by bound: what shifts one shifts the other too."""
    return Interval(low=one.low + other.low, mid=one.mid + other.mid, high=one.high + other.high)


def times(one: Interval, factor: float) -> Interval:
    """Return an interval times a factor of 0 or more. An infinite bound times 0 is 0."""
    return Interval(low=one.low * factor, mid=one.mid * factor, high=one.high * factor if factor else 0.0)


def _cost(read: Interval, written: Interval, asked: Schedule, other: Schedule, *, hour: bool) -> Interval:
    lows, mid = [one.of(math.floor(read.low)) for one in (asked, other)], asked.of(round(read.mid))
    high = highest([one.worst(math.ceil(read.high)) for one in (asked, other)])
    cached = min(min(low.input, low.cached_input) for low in lows)
    dear = written.high * high.highest_output if high.highest_output else 0.0
    return Interval(
        low=read.low * cached + written.low * min(min(low.output, low.reasoning) for low in lows),
        mid=read.mid * mid.input + written.mid * mid.output,
        high=read.high * (max(high.highest_input, high.cache_write_1h) if hour else high.highest_input) + dear,
    )
