"""Makes answers, for live requests and for those of batches, so that both get the same."""

import time
from typing import NamedTuple

import msgspec

from runner.simulator.behaviour import Behaviour
from runner.simulator.cache import Cache, Cacheable
from runner.simulator.dialect import Answer, Ask
from runner.simulator.draw import Chance, Draw
from runner.simulator.invoice import Invoice
from runner.simulator.script import answer
from runner.simulator.stats import Counters
from runner.simulator.text import echo


class Answers:
    """Makes the answers of one simulator."""

    def __init__(self, behaviour: Behaviour, cache: Cache) -> None:
        self._behaviour = behaviour
        self._cache = cache

    def make(
        self, ask: Ask, draw: Draw, *, body: bytes, input_tokens: int, tier: str | None, cacheable: Cacheable | None
    ) -> Answer:
        """Return an answer as it would be sent without a fault. tier: the one that serves it, if the answer is to name one."""
        whole = answer(
            ask,
            draw,
            input_tokens=input_tokens,
            created=int(time.time()),
            echoed=echo(body) if self._behaviour.echo else None,
            fill=self._behaviour.fill_limit,
        )
        if tier is not None:
            whole = msgspec.structs.replace(whole, tier=tier)
        if cacheable is not None:
            hit = self._cache.find(cacheable, input_tokens)
            written = hit.written if cacheable.marked else None
            whole = msgspec.structs.replace(
                whole, cached_tokens=hit.read, written_tokens=written, written_1h_tokens=hit.written_1h
            )
        return whole


class Shared(NamedTuple):
    """What live requests and those of batches share."""

    behaviour: Behaviour
    chance: Chance
    counters: Counters
    cache: Cache
    invoice: Invoice
    answers: Answers
