"""Background tasks of a session: progress, the pace, the announcement of a stop, the deadline, TLS, a list of endpoints."""

import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from runner.config.endpoint import Endpoint, is_users
from runner.config.job import Job
from runner.durations import format_span
from runner.engine.failing import FATAL_GRACE_S
from runner.engine.limits import Lanes, Limits
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError, advice, to_address
from runner.event_types import Event, Progress, Stopping
from runner.pace import Pace
from runner.providers.http.tls_probe import speaks_tls
from runner.session.wiring import most_at_one
from runner.text import shell_word

if TYPE_CHECKING:
    from runner.session.fleets import Fleet

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
    """Store what the lanes are doing, for ``runner status`` in another process: always, for its age shows that the run lives."""
    while True:
        try:
            await note(current())
        except StoreError as error:
            # not an error yet: the next batch of answers that cannot be saved raises it
            logger.info("the pace was not stored: %s", error)
        await anyio.sleep(NOTE_S)


async def tell_stop(tell: Callable[[Event], None], stop: Stop, lanes: Lanes) -> None:
    """Send an event when the run is asked to stop."""
    await stop.wait()
    code = stop.error.code if stop.error is not None else None
    tell(Stopping(reason=stop.reason or "", in_flight=lanes.in_flight, grace_s=stop.grace_s, code=code))


def fleet_of(job: Job, endpoint: Endpoint, limits: Limits) -> "Fleet | None":
    """Return the endpoints of a session, whose list it follows; None where there is one."""
    if not endpoint.members:
        return None
    # imported here: few jobs have several
    from runner.session.fleets import Fleet

    return Fleet(job, endpoint, limits, most_at_one(job))


def keep_watch(
    group: TaskGroup,
    job: Job,
    endpoint: Endpoint,
    doubt: anyio.Event,
    stop: Stop,
    lanes: Lanes,
    start: float,
    fleet: "Fleet | None" = None,
) -> None:
    """Start what stops a session early: a server that speaks TLS where the address says http, and a deadline.

    Also what follows a list of endpoints.

    doubt, start: as for ``find_tls`` and ``keep_deadline``.
    """
    if endpoint.base_url is not None and endpoint.proxy is None and not endpoint.members:
        group.start_soon(partial(find_tls, doubt, endpoint.base_url, stop, named=is_users(job, os.environ)))
    if job.deadline is not None:
        group.start_soon(keep_deadline, job.deadline, start, stop, lanes)
    if fleet is not None:
        group.start_soon(fleet.watch, stop)


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


async def find_tls(doubt: anyio.Event, base_url: str, stop: Stop, *, named: bool) -> None:
    """Stop the run if the port of an http address speaks TLS. doubt: set when the errors so far look like that.

    named: the user has named the address, so that a command may spell it.
    """
    await doubt.wait()
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or 80
    if await anyio.to_thread.run_sync(lambda: speaks_tls(host, port), abandon_on_cancel=True):
        swapped = f"https://{parts.netloc}{parts.path}"
        full = f"{swapped}?{parts.query}" if parts.query else swapped
        todo = to_address(shell_word(full)) if named and "`" not in full else advice("address")
        sentence = f"the server speaks https at {parts.netloc}: use {swapped}. {todo}"
        stop.request(sentence, grace_s=0.0, error=RunStoppedError(sentence, code="address"))
