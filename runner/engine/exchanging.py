"""Sends the request of one attempt, which can be given up before its timeouts.

So it is at an endpoint that is silent, where a job has several; and if an answer comes to an earlier request of the same row,
which was lost with its worker.
"""

from collections.abc import Callable
from typing import TypeVar

import anyio

from runner.admission import Permit
from runner.engine.lost import Lost
from runner.engine.way import Way
from runner.errors import AttemptError, AttemptTimeoutError
from runner.interfaces import Client, Decoder, Exchange
from runner.model import HttpCall

E = TypeVar("E", bound=Exchange)


async def send(
    client: Client[E],
    call: HttpCall,
    decoder: Decoder,
    exchange: E,
    way: Way,
    permit: Permit,
    clock: Callable[[], float],
    lost: Lost | None = None,
) -> None:
    """Send the call, and feed the decoder until its answer is complete. Raises AttemptError.

    clock: monotonic seconds. lost: earlier requests of the row that were lost with their workers; None: there are none.
    """
    if lost is None:
        if way.endpoint is None:
            await client.stream(call, decoder, exchange, way.provider.error)
        else:
            await _send(client, call, decoder, exchange, way, permit, clock)
        return
    with lost.sending() as scope:
        await _send(client, call, decoder, exchange, way, permit, clock)
    if scope.cancelled_caught:
        ended = AttemptError("an earlier request of this row was answered meanwhile", code="cancelled", sent=exchange.connected)
        # it shows nothing of the server, and counts against nothing
        ended.mended = True
        raise ended


async def _send(
    client: Client[E], call: HttpCall, decoder: Decoder, exchange: E, way: Way, permit: Permit, clock: Callable[[], float]
) -> None:
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
