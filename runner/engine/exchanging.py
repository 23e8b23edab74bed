"""Sends the request of one attempt. Where a job has several endpoints, one that is silent can be given up before its timeouts."""

from collections.abc import Callable
from typing import TypeVar

import anyio

from runner.admission import Permit
from runner.engine.way import Way
from runner.errors import AttemptTimeoutError
from runner.interfaces import Client, Decoder, Exchange
from runner.model import HttpCall

E = TypeVar("E", bound=Exchange)


async def send(
    client: Client[E], call: HttpCall, decoder: Decoder, exchange: E, way: Way, permit: Permit, clock: Callable[[], float]
) -> None:
    """Send the call, and feed the decoder until its answer is complete. Raises AttemptError. clock: monotonic seconds."""
    if way.endpoint is None:
        await client.stream(call, decoder, exchange, way.provider.error)
        return
    began = clock()
    with anyio.CancelScope() as scope:
        permit.give_up = scope.cancel
        await client.stream(call, decoder, exchange, way.provider.error)
    if scope.cancelled_caught:
        words = f"nothing came for {clock() - began:.0f} s, in which other endpoints answered: the request was given up"
        raise AttemptTimeoutError(words, timeout="first_byte", sent=exchange.connected)
