"""Reservations for all requests that are open at once, where no budget makes each of them hold an amount of its own.

There is one for each kind of requests, those to one model for one service tier; kinds with the same rates have one together. So a
few dear requests make no others dear.
It is in the store before the first request of its kind goes out. It is written again before a request goes out for which it has
no room, as they are too many together, too long, or too dear. What it allows is rounded up, so that this happens a few times
while the number of open requests rises; any other request costs a few additions. It is deleted when the session ends, and when
none of its kind is open and none has gone out for a while. A killed session leaves it: this is what the books have of the
requests that were open then.
"""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from runner.admission import TOGETHER, Amounts, Reservation
from runner.engine.bounds import asks_for_hour, bounds, input_bound
from runner.engine.task import Share, Task
from runner.interfaces import Emit
from runner.model import Json, Request
from runner.money import STANDARD, Price, Rates, highest, tier_of

QUOTE_S = 1800.0
"""Seconds for which a quote counts: half of the time for which it holds, so that the request goes out within that."""
IDLE_S = 60.0
"""Seconds without a new request after which the reservation of a kind is deleted. So it is written anew once a minute at most."""
MOST_KINDS = 16
"""Reservations for kinds that come first. All further kinds share one, and those whose price is not known another one."""
_MOST_SAID = 10_000
"""What requests say is remembered for so many kinds of them, so that memory stays flat."""
_SAYS = frozenset({"max_tokens", "max_completion_tokens", "n", "service_tier"})
"""What a body says of its bounds; what else is in ``extra_body`` changes none."""
_FEW = 4
"""Messages of a request that are looked at one by one."""


class Prices(Protocol):
    """What requests can cost at most, and how long answers can be."""

    def highest(self, model: str, at: float, tier: str | None, input_tokens: int) -> Rates | None:
        """Return the highest rates that a request which goes out within an hour can reach; None if its price is not known."""
        ...

    def limit(self, model: str) -> int | None:
        """Return the most tokens that an answer of a model can have; None if that is not known."""
        ...


class _Kind(Struct, eq=False):
    """Requests to one model for one service tier. limit: the most tokens of an answer of the model; None: that is not known.

    until: when their rates are to be looked up again. held: where they belong. version: the first one of it that has their rates.
    """

    model: str
    tier: str | None
    limit: int | None
    until: float = 0.0
    held: "_Held | None" = None
    version: int = 0


class _Held(Struct, eq=False):
    """One reservation, as it is wanted and as the store has it. number: under which it is stored, 0 or less.

    priced: the price of its requests is known. shared: it is for all kinds that have none of their own. used: when the last
    request went out. open, waiting: what those requests may use that are out, and those that wait for it to be written. largest:
    the most tokens of the input of one request. kinds: those whose rates are in it.
    """

    number: int
    priced: bool
    shared: bool
    used: float = 0.0
    open: Share = field(default_factory=Share)
    waiting: Share = field(default_factory=Share)
    wanted: Reservation | None = None
    version: int = 0
    written: Reservation | None = None
    written_version: int = 0
    largest: int = 0
    kinds: list[_Kind] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """True if no request is out, and none waits."""
        return not self.open.requests and not self.waiting.requests


class _Said(NamedTuple):
    """What requests say that differ in their texts alone. output: the most tokens of an answer; None: no limit is known.

    hour: the first of them may be kept in a cache for an hour.
    """

    kind: _Kind
    output: int | None
    hour: bool


class Collective:
    """Reserves for all requests of a session, for those of a kind together.

    prices: None if none is known. ceiling: how many requests can be open. extra_body: that of the job. wall: seconds since the
    epoch.
    """

    def __init__(self, prices: Prices | None, ceiling: int, extra_body: Json, wall: Callable[[], float]) -> None:
        self._prices, self._ceiling, self._extra_body, self._wall = prices, ceiling, extra_body, wall
        # those that are in the store, or soon will be; a number is used once, so that a deletion cannot meet a newer one
        self._rows, self._numbers = list[_Held](), count(0, -1)
        # when to look which are not needed any more
        self._look_at = 0.0
        self._kinds: dict[tuple[str, str | None], _Kind] = {}
        self._said: dict[tuple[str, int | None, str | None, int], _Said] = {}

    @property
    def reserves(self) -> bool:
        """True once there is a reservation."""
        return bool(self._rows)

    def take(self, task: Task) -> bool:
        """Let the request of a task go out, if the store has what it may use beside the others. Return False if it has not."""
        kind, output, asks = self._say(task)
        held, at = kind.held, self._wall()
        if held is None or kind.version > held.written_version or at >= kind.until or at >= self._look_at:
            return False
        have, now, size = held.written, held.open, input_bound(task.call, task.files)
        hour = size if (asks or not self._is_plain(task.item.request)) and asks_for_hour(task.call) else 0
        if (
            have is None
            or size > held.largest
            or now.requests >= have.requests
            or now.input + size > have.input_bound
            or (have.output_bound is not None and (output is None or now.output + output > have.output_bound))
            or (hour and now.hour + hour > (have.cache_1h_bound or 0))
        ):
            return False
        task.share = Share(1, size, output or 0, hour, now)
        now.add(task.share)
        held.used = at
        return True

    async def widen(self, task: Task, emit: Emit) -> None:
        """Pass to the writer what has room for the request of a task too, and wait until it is in the store."""
        kind, output, _ = self._say(task)
        if self._wall() >= self._look_at:
            await self._give_up(kind, emit)
        now, size = self._wall(), input_bound(task.call, task.files)
        held = self._held(kind, now, size)
        share = Share(1, size, output or 0, size if asks_for_hour(task.call) else 0, held.waiting)
        held.waiting.add(share)
        try:
            wanted = self._wanted(held, now, unlimited=output is None)
            if wanted is not held.wanted:
                held.wanted, held.version = wanted, held.version + 1
                await emit(wanted)
            version = held.version
            await wanted.written.wait()
        finally:
            share.end()
        if version > held.written_version:
            held.written, held.written_version = wanted, version

    async def _give_up(self, kind: _Kind, emit: Emit) -> None:
        """Have those deleted that nothing needs: each attempt of theirs is saved. kind: what is wanted now.

        A later request waits for a new one. The deletion is in the store with the results that are saved next, or after them.
        """
        now = self._wall()
        self._look_at = now + IDLE_S
        over = [one for one in self._rows if one is not kind.held and one.is_idle and now - one.used >= IDLE_S]
        self._rows = [one for one in self._rows if one not in over]
        for one in over:
            for of in one.kinds:
                of.held = None
        for one in over:
            if one.wanted is not None:
                one.wanted.void = True
                await emit(one.wanted)

    # -- what requests say

    def _say(self, task: Task) -> _Said:
        """Return what a request says, for which its body is read only once for all requests that say it."""
        request, params = task.item.request, task.item.request.params
        extra = params.extra_body
        if extra and extra is not self._extra_body and not _SAYS.isdisjoint(extra):
            return self._read(task)
        key = (request.model, params.max_tokens, request.tier, task.revision)
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= _MOST_SAID:
                self._said.clear()
            said = self._said[key] = self._read(task)
        return said

    def _read(self, task: Task) -> _Said:
        model, bound = task.item.request.model, bounds(task.call, task.files)
        kind = self._kinds.get((model, bound.tier))
        if kind is None:
            limit = self._prices.limit(model) if self._prices is not None else None
            kind = self._kinds[model, bound.tier] = _Kind(model, bound.tier, limit)
        output = bound.output
        if output is None and kind.limit is not None:
            output = kind.limit * bound.answers
        return _Said(kind, output, bound.hour is not None)

    def _is_plain(self, request: Request) -> bool:
        """Return True if a request has nothing of its own in which it could ask for a cache.

        A look at a few messages is quicker than a search in a long body.
        """
        extra = request.params.extra_body
        if (extra and extra is not self._extra_body) or request.prefixes or len(request.messages) > _FEW:
            return False
        return not [one for one in request.messages if len(one) != 2 or type(one.get("content")) is not str]

    # -- what is held

    def _held(self, kind: _Kind, now: float, size: int) -> _Held:
        """Return where the requests of a kind belong. size: the most tokens of the input of one of them."""
        held, rates = kind.held, self._rates(kind, now, size)
        if held is None or held.priced != (rates is not None):
            if held is not None:
                held.kinds.remove(kind)
            held = self._place(rates)
            held.kinds.append(kind)
            kind.held, kind.version = held, 0
        # the rates of a larger input may be higher
        held.largest = _grown(held.largest, size)
        kind.until = now + QUOTE_S
        return held

    def _place(self, rates: Rates | None) -> _Held:
        """Return where the requests of a new kind belong: to those of the same rates, and else to a new reservation."""
        for one in self._rows:
            if rates is not None and one.wanted is not None and one.wanted.price.rates == rates:
                return one
        # no sum of what has a price and what has none would say what they may cost
        shared, priced = len(self._rows) >= MOST_KINDS, rates is not None
        held = next((one for one in self._rows if shared and one.shared and one.priced == priced), None)
        if held is None:
            held = _Held(number=next(self._numbers), priced=priced, shared=shared)
            self._rows.append(held)
        return held

    def _rates(self, kind: _Kind, now: float, size: int) -> Rates | None:
        return self._prices.highest(kind.model, now, kind.tier, size) if self._prices is not None else None

    def _wanted(self, held: _Held, now: float, *, unlimited: bool) -> Reservation:
        """Return what is to be held: what is wanted already, if it is enough for all that are open or wait."""
        have, price = held.wanted, self._price(held, now)
        out, later = held.open, held.waiting
        requests, hour = out.requests + later.requests, out.hour + later.hour
        wanted = Reservation(
            key=TOGETHER,
            number=held.number,
            started_at=have.started_at if have is not None else now,
            amounts=Amounts(),
            input_bound=_grown(have.input_bound if have is not None else 0, out.input + later.input),
            output_bound=_grown((have.output_bound or 0) if have is not None else 0, out.output + later.output),
            price=price,
            cache_1h_bound=_grown((have.cache_1h_bound or 0) if have is not None else 0, hour) or None,
            requests=max(requests, min(_grown(have.requests if have is not None else 0, requests), self._ceiling)),
        )
        if unlimited or (have is not None and have.output_bound is None):
            wanted.output_bound = None
        same = have is not None and _state(wanted) == _state(have)
        dearer = have is not None and price != have.price
        for one in held.kinds:
            if dearer or not one.version:
                one.version = held.version if same else held.version + 1
        return have if same and have is not None else wanted

    def _price(self, held: _Held, now: float) -> Price:
        """Return the highest rates of all kinds that are held."""
        rates = [found for one in held.kinds if (found := self._rates(one, now, held.largest)) is not None]
        if held.wanted is not None and held.wanted.price.rates is not None:
            rates.append(held.wanted.price.rates)
        every = {(one.model, tier_of(one.tier)) for one in held.kinds}
        # of several names, nobody can look the price up later
        model, tier = next(iter(every)) if len(every) == 1 else ("", STANDARD)
        return Price(model=model, tier=STANDARD if rates else tier, rates=highest(rates) if rates else None)


def _grown(have: int, need: int) -> int:
    return have if need <= have else _rounded(need)


def _rounded(number: int) -> int:
    """Return the next number of 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    step = 1 << max(0, number.bit_length() - 2)
    return -(-number // step) * step


def _state(one: Reservation) -> tuple[object, ...]:
    return one.requests, one.input_bound, one.output_bound, one.cache_1h_bound, one.price
