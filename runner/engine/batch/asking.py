"""Waits for an answer of the provider that a stop of the run ends. What the store has is never waited for in this way."""

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from runner.engine.stop import Stop

T = TypeVar("T")

CREATE_GRACE_S = 10.0
"""Seconds that the creation of a batch may still take when the run stops: its id is worth more than a quick end."""


class Stopped(Exception):  # noqa: N818 - no error: the run stops, and the state of the batch says how far it has come
    """The run stopped before the provider had answered."""


async def ask(stop: Stop, call: Awaitable[T]) -> T:
    """Return the answer of the provider. Raises Stopped if a stop is requested before."""
    with stop.interrupts():
        return await call
    raise Stopped


async def ask_patiently(stop: Stop, call: Awaitable[T]) -> T:
    """Return the answer of the provider, which a stop gives some more time. Raises Stopped."""
    found: list[T] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(_end, stop, scope)
        with scope:
            try:
                found.append(await call)
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not found:
        raise Stopped
    return found[0]


async def _end(stop: Stop, scope: anyio.CancelScope) -> None:
    """End a wait some time after a stop."""
    await stop.wait()
    until = anyio.current_time() + min(CREATE_GRACE_S, stop.grace_s)
    while (left := until - anyio.current_time()) > 0:
        await anyio.sleep(min(left, 0.1))
        # a second stop request may have shortened the grace time
        until = min(until, anyio.current_time() + stop.grace_s)
    scope.cancel()
