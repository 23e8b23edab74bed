"""Takes an answer that comes late to a request which was lost with its worker: offers it to its item, and gives the item it."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import anyio

from runner.engine.answers import judged
from runner.engine.bounds import counted
from runner.engine.lost import Came, Lost
from runner.engine.outcomes import record
from runner.engine.task import Task
from runner.errors import AttemptError
from runner.interfaces import Decoder, Emit, Exchange
from runner.model import Attempt, Completion, Outcome
from runner.text import Redactor

Offer: TypeAlias = Callable[[Decoder, Exchange, Callable[[bool], None]], bool]
"""Offers a complete answer with its exchange. Returns False if the item does not take it. The last argument: ``Came.used``."""


def offer(task: Task, attempt: Attempt, redactor: Redactor, wall: Callable[[], float]) -> Offer:
    """Return what offers the answer of a lost request to its item, later. attempt: what is saved of the request.

    It is not taken once the item has been answered, or was asked in other words because an answer did not fit; nor if it would
    itself not count. wall: seconds since the epoch.
    """
    lost = task.lost = task.lost or Lost()
    way, call, repairs = task.way, task.call, task.repairs

    def offered(decoder: Decoder, exchange: Exchange, used: Callable[[bool], None]) -> bool:
        if lost.closed or lost.requested or task.repairs != repairs:
            return False
        try:
            result, _ = judged(way.provider, decoder, exchange, redactor)
        except Exception:  # noqa: BLE001 - an answer that cannot be read is none
            return False
        if not isinstance(result, Completion):
            return False
        took_s = max(0.0, wall() - attempt.started_at)
        answered = counted(record(attempt, took_s, exchange, result, result, redactor), call)
        lost.take(Came(answered, result, way, decoder, used))
        return True

    return offered


async def settled(
    work: Coroutine[Any, Any, Outcome | None], task: Task, emit: Emit, late: Callable[[Task, Came], Outcome]
) -> Outcome | None:
    """Return the outcome of an item: what the work on it returns, or else an answer that came late. late: makes that outcome.

    A complete answer has been paid for, so it is returned even if the run stops at that moment.
    """
    outcome: Outcome | None = None
    try:
        outcome = await work
    except (AttemptError, anyio.get_cancelled_exc_class()):
        if task.lost is None or task.lost.came is None:
            raise
    finally:
        if task.lost is not None:
            task.lost.closed = True
    if task.lost is None or (came := task.lost.came) is None:
        return outcome
    if outcome is not None and outcome.status == "done":
        came.used(False)
        return outcome
    if outcome is not None and outcome.attempt is not None and not outcome.booked:
        # the request that was out meanwhile
        await emit(outcome.attempt)
    return late(task, came)
