"""A model server in virtual time, with the real engine, attempts and lanes as its client.

As a script, it runs an experiment:

    python tests/support/world.py --slots 48,12,96 --phase 120 --service 0.5-2 --hint 1
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from virtual import run

from runner.engine import pipeline
from runner.engine.attempt import Attempts
from runner.engine.clock import Clock
from runner.engine.judge import Judge
from runner.engine.limits import Kind, Lanes, Limits
from runner.engine.more import More
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.errors import AttemptError, ProviderError, TransportError
from runner.interfaces import Handle, Heard, Items
from runner.model import Attempt, Completion, Entry, HttpCall, Item, Outcome, Request, ServerSentEvent, Stage, Usage

ROUND_TRIP_S = 0.02
"""Seconds that a refusal takes: one round trip."""
FIRST_TOKEN = 0.2
"""Fraction of an answer's time after which it begins."""
USAGE = Usage(input_tokens=100, output_tokens=50)
REFUSED = TransportError("no connection", code="connect", sent=False)
Headers = Iterable[tuple[bytes, bytes]]


def limited(hint_s: float | None = None) -> ProviderError:
    """Return the error of a rate limit."""
    return ProviderError("429", code="rate_limited", verdict="retry", status=429, throttled=True, retry_after_s=hint_s)


def busy(status: int = 500) -> ProviderError:
    """Return an error of the server; 529 means that it is overloaded."""
    code = "overloaded" if status == 529 else "server_error"
    return ProviderError(str(status), code=code, verdict="retry", status=status)


@dataclass
class Exchange:
    """One exchange, as the client would record it."""

    heard: Heard | None = None
    status: int | None = None
    connected: bool = False
    bytes_received: int = 0
    time_to_first_token_s: float | None = None
    answered_s: float | None = None
    tail_lost: bool = False


class Decoder:
    """Returns the completion that the client has put into it."""

    started = complete = ended = False
    text_chars = 0
    stage = Stage.OPEN

    def __init__(self) -> None:
        self.gathered = Completion(text="", finish_reason="")

    def feed(self, event: ServerSentEvent) -> None: ...

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None: ...

    def whole(self, body: bytes) -> None: ...

    def completion(self) -> Completion:
        return self.gathered


class Provider:
    """The body is the first message, so that a server can distinguish items."""

    revision = 0

    def judged(self, completion: Completion) -> Completion | AttemptError:
        return completion

    def explained(self, error: AttemptError, request: Request, call: HttpCall) -> AttemptError:
        return error

    def answered_unseeded(self, request: Request) -> None:
        raise AssertionError("the requests of a world have no seeds")

    def encode(self, request: Request) -> HttpCall:
        return HttpCall(url="http://x", headers={}, body=request.messages[0]["content"].encode())

    def decoder(self) -> Decoder:
        return Decoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        raise AssertionError("the server of a world raises its errors itself")


class Server:
    """A client that is its own server: takes ``slots`` requests at once and refuses the others at once.

    service: shortest and longest time of an answer. hint_s: the wait that a refusal asks for. fault: returns the error for an
    item at a time, or None; called when a request arrives, and again when its answer is ready. late: only the second call.
    """

    def __init__(
        self,
        slots: int = 10_000,
        *,
        service: tuple[float, float] = (0.5, 2.0),
        hint_s: float | None = None,
        fault: Callable[[str, float], AttemptError | None] = lambda _item, _since: None,
        late: bool = False,
        seed: int = 1,
    ) -> None:
        self.slots, self.service, self.hint_s, self.fault, self.late = slots, service, hint_s, fault, late
        self.random = random.Random(seed)
        self.start = anyio.current_time()
        self.in_flight = self.most = self.requests = self.refused = self.served = 0
        self.by_item: Counter[str] = Counter()
        # when each request came in, in seconds since the start
        self.times: list[float] = []
        self.area = 0.0
        self._changed = self.start

    @property
    def since(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self.start

    def account(self) -> float:
        """Return the total time of requests in flight until now."""
        now = anyio.current_time()
        self.area += self.in_flight * (now - self._changed)
        self._changed = now
        return self.area

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> Exchange:
        return Exchange(heard=heard)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
        item = call.body.decode()
        self.requests += 1
        self.by_item[item] += 1
        self.times.append(self.since)
        if not self.late and (error := self.fault(item, self.since)) is not None:
            await anyio.sleep(ROUND_TRIP_S)
            _tell(exchange, error)
            raise error
        if self.in_flight >= self.slots:
            self.refused += 1
            await anyio.sleep(ROUND_TRIP_S)
            error = limited(self.hint_s)
            _tell(exchange, error)
            raise error
        await self._serve(item, decoder, exchange)

    async def _serve(self, item: str, decoder: Decoder, exchange: Exchange) -> None:
        took_s = self.random.uniform(*self.service)
        self.account()
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await anyio.sleep(FIRST_TOKEN * took_s)
            exchange.status, exchange.connected = 200, True
            exchange.time_to_first_token_s = FIRST_TOKEN * took_s
            if exchange.heard is not None:
                exchange.heard(200, ())
            await anyio.sleep((1 - FIRST_TOKEN) * took_s)
        finally:
            self.account()
            self.in_flight -= 1
        if (error := self.fault(item, self.since)) is not None:
            raise error
        self.served += 1
        exchange.bytes_received = 100
        decoder.gathered = Completion(text="x", finish_reason="stop", usage=USAGE)


def _tell(exchange: Exchange, error: AttemptError) -> None:
    exchange.connected = error.sent
    exchange.status = getattr(error, "status", None)
    if exchange.status is not None and exchange.heard is not None:
        exchange.heard(exchange.status, ())


class World:
    """Engine, attempts and lanes, connected as in a session, with a server."""

    def __init__(
        self,
        server: Server,
        *,
        ceiling: int = 256,
        tuned: bool = True,
        per_minute: dict[Kind, float] | None = None,
        attempts: int = 5,
        workers: int | None = None,
        seed: int = 1,
    ) -> None:
        self.server, self.stop, self._workers = server, Stop(), workers
        limits = Limits(ceiling=ceiling, tuned=tuned, per_minute=per_minute or {})
        self.lanes = Lanes(limits, Clock(monotonic=anyio.current_time, random=random.Random(seed)))
        self.lane = self.lanes.of("m")
        self.attempts: Attempts[Any] = Attempts(
            Provider(),
            server,
            self.lanes,
            RetryPolicy(attempts=attempts),
            Judge(),
            self.stop,
            clock=Clock(monotonic=anyio.current_time, wall=anyio.current_time, random=random.Random(seed + 1)),
        )
        self.entries: list[Entry] = []

    @property
    def outcomes(self) -> list[Outcome]:
        return [entry for entry in self.entries if isinstance(entry, Outcome)]

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    @property
    def retries(self) -> int:
        """Number of attempts that did not lead to an outcome."""
        return sum(isinstance(entry, Attempt) for entry in self.entries)

    def _wanted(self) -> int:
        slots = self.lanes.slots
        base = self._workers if self._workers is not None else slots + max(16, slots)
        return base + min(self.lanes.stuck(), 2000)

    async def save(self, entries: list[Entry]) -> None:
        self.entries += entries
        for entry in entries:
            self.attempts.saved(entry)

    def around(self, items: Items, handle: Handle) -> tuple[Items, Handle]:
        """Return what the subclass puts around the items and what handles one."""
        return items, handle

    async def work(self, items: int | Iterable[Item] | Items) -> None:
        """Process a number of items, or the given ones, until they end or a stop is requested."""
        source_items = (an_item(number) for number in range(items)) if isinstance(items, int) else items

        async def source() -> AsyncGenerator[Item | Outcome, None]:
            if isinstance(source_items, AsyncGenerator):
                async for one in source_items:
                    yield one
                return
            for item in source_items:
                yield item

        workers = self._wanted()
        items, handle = self.around(source(), self.attempts.handle)
        await pipeline.run(
            items,
            handle,
            self.save,
            workers=workers,
            stop=self.stop,
            wanted=self._wanted,
            more=More(self.lanes.last),
        )
        assert self.lanes.in_flight == 0


def an_item(number: int | str, *, model: str = "m", attempts_before: int = 0) -> Item:
    request = Request(model=model, messages=({"role": "user", "content": str(number)},))
    position = number if isinstance(number, int) else 0
    return Item(key=str(number), position=position, request=request, metadata={}, fingerprint=0, attempts_before=attempts_before)


# -- the experiment: a server that changes its mind about how many it takes


@dataclass
class Phase:
    """Measurements while the server accepts ``slots`` requests; the share in use counts from ``settle_s`` after the change."""

    slots: int
    use: float = 0.0
    refused: float = 0.0
    settled_refused: float = 0.0
    episodes_s: list[float] = field(default_factory=list)
    # (seconds since the change, limit, in flight at the server, refused so far)
    trace: list[tuple[float, int, int, int]] = field(default_factory=list)


async def experiment(
    slots: Iterable[int],
    *,
    phase_s: float = 120.0,
    settle_s: float = 30.0,
    service: tuple[float, float] = (0.5, 2.0),
    hint_s: float | None = None,
    ceiling: int = 256,
    seed: int = 1,
    look_s: float = 0.25,
) -> list[Phase]:
    """Run the phases one after another, with an endless supply of items."""
    phases = [Phase(slots=number) for number in slots]
    server = Server(service=service, hint_s=hint_s, seed=seed)
    world = World(server, ceiling=ceiling, seed=seed)

    async def conduct() -> None:
        for phase in phases:
            server.slots = phase.slots
            await _observe(server, world, phase, phase_s, settle_s, look_s)
        world.stop.request("over", grace_s=0.0)

    async with anyio.create_task_group() as group:
        group.start_soon(conduct)
        await world.work(10_000_000)
    return phases


async def _observe(server: Server, world: World, phase: Phase, phase_s: float, settle_s: float, look_s: float) -> None:
    begin, requests, refused = anyio.current_time(), server.requests, server.refused
    area = settled_requests = settled_refused = 0.0
    settled_at: float | None = None
    while (since := anyio.current_time() - begin) < phase_s:
        if settled_at is None and since >= settle_s:
            settled_at, area = since, server.account()
            settled_requests, settled_refused = server.requests, server.refused
        phase.trace.append((round(since, 2), world.lane.slots, server.in_flight, server.refused - refused))
        await anyio.sleep(look_s)
    assert settled_at is not None
    phase.use = (server.account() - area) / (since - settled_at) / phase.slots
    phase.refused = (server.refused - refused) / max(1, server.requests - requests)
    phase.settled_refused = (server.refused - settled_refused) / max(1, server.requests - settled_requests)


def main(arguments: list[str]) -> None:
    """Run an experiment and print its figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--slots", default="48,12,96", help="requests that the server takes at once, one phase after another")
    parser.add_argument("--service", default="0.5-2", help="shortest and longest time of an answer, in seconds")
    parser.add_argument("--hint", type=float, help="seconds that a refusal asks to wait; none by default")
    parser.add_argument("--phase", type=float, default=120.0, help="seconds for each phase")
    parser.add_argument("--settle", type=float, default=30.0, help="seconds after a change that do not count")
    parser.add_argument("--ceiling", type=int, default=256)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--trace", type=float, help="print a line every so many seconds")
    given = parser.parse_args(arguments)
    low, _, high = given.service.partition("-")
    service = float(low), float(high or low)
    for seed in map(int, given.seeds.split(",")):
        phases = run(
            lambda seed=seed: experiment(
                [int(number) for number in given.slots.split(",")],
                phase_s=given.phase,
                settle_s=given.settle,
                service=service,
                hint_s=given.hint,
                ceiling=given.ceiling,
                seed=seed,
                look_s=given.trace or 0.25,
            )
        )
        for phase in phases:
            print(
                f"seed {seed}  K={phase.slots:<4} use {phase.use:.3f}  refused {phase.refused:.2%} of all, "
                f"{phase.settled_refused:.2%} after {given.settle:g} s  limit at the end {phase.trace[-1][1]}"
            )
            if given.trace:
                for since, limit, in_flight, refused in phase.trace:
                    print(f"    {since:7.2f} s  limit {limit:4}  in flight {in_flight:4}  refused {refused}")


if __name__ == "__main__":
    main(sys.argv[1:])
