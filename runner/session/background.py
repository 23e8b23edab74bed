"""Background tasks of a session: report progress, store the pace, announce a stop, enforce the deadline."""

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
from msgspec import structs

from runner.durations import format_span
from runner.engine.attempt import FATAL_GRACE_S
from runner.engine.limits import Lanes
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError, advice
from runner.events import Event, Progress, Stopping
from runner.model import Pace

TICK_S = 0.5
"""Interval between two progress events, in seconds."""
LOOK_S = 0.5
"""Interval at which the waits that a server asks for are compared with the deadline, in seconds."""
NOTE_S = 2.0
"""Interval at which the pace is stored, in seconds."""

logger = logging.getLogger("runner")


async def tell_progress(tell: Callable[[Event], None], progress: Callable[[], Progress]) -> None:
    """Send a progress event every ``TICK_S``."""
    while True:
        tell(progress())
        await anyio.sleep(TICK_S)


async def note_pace(note: Callable[[Pace], Awaitable[None]], current: Callable[[], Pace]) -> None:
    """Store what the lanes are doing, when it has changed, for ``runner status`` in another process."""
    noted: Pace | None = None
    while True:
        await anyio.sleep(NOTE_S)
        pace = current()
        if noted is None or structs.replace(pace, at=noted.at) != noted:
            try:
                await note(pace)
            except StoreError as error:
                # not an error yet: the next batch of answers that cannot be saved raises it
                logger.info("the pace was not stored: %s", error)
                continue
            noted = pace


async def tell_stop(tell: Callable[[Event], None], stop: Stop, lanes: Lanes) -> None:
    """Send an event when the run is asked to stop."""
    await stop.wait()
    tell(Stopping(reason=stop.reason or "", in_flight=lanes.in_flight, grace_s=stop.grace_s))


async def keep_deadline(deadline_s: float, start: float, stop: Stop, lanes: Lanes) -> None:
    """Stop the run when the deadline passes, or as soon as the server asks for a wait beyond it.

    start: when the session began, by the monotonic clock.
    """
    while True:
        left_s = start + deadline_s - time.monotonic()
        asked_s = lanes.asked_s
        if left_s <= 0:
            sentence = f"the deadline of {format_span(deadline_s)} has passed. {advice('deadline')}"
        elif asked_s > left_s:
            words = f"the server asks to wait {format_span(asked_s)}, beyond the deadline in {format_span(left_s)}"
            sentence = f"{words}. {advice('deadline')}"
        else:
            await anyio.sleep(min(left_s, LOOK_S))
            continue
        stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code="deadline"))
        return
