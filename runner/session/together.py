"""Lets the lanes of a session share their limits with other runs of the same endpoint, model and key."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.config.endpoint import Endpoint
from runner.config.job import Job
from runner.engine.clock import Clock
from runner.engine.limits import Lanes
from runner.engine.limits.shared_lane import SharedLane

if TYPE_CHECKING:
    from runner.sharing.share import Share


class Together:
    """The shared limits of a session. tell: takes sentences for its user."""

    def __init__(self, job: Job, endpoint: Endpoint, tell: Callable[[str], None]) -> None:
        self._job, self._endpoint, self._tell = job, endpoint, tell
        self._shares: list[Share] = []
        self._tasks: list[asyncio.Task[None]] = []

    def share(self, lane: SharedLane) -> None:
        """Share the limits of a lane from now on."""
        from runner.sharing import identity
        from runner.sharing.seat import Seat
        from runner.sharing.share import Share

        endpoint = self._endpoint
        key = endpoint.key.reveal() if endpoint.key is not None else ""
        additions = [(name, value.reveal()) for name, value in (*endpoint.additions.headers, *endpoint.additions.query)]
        same = identity.of(endpoint.base_url or "", lane.model, key, additions)
        share = Share(lane, same, f"the run of process {os.getpid()}", Seat(same, os.environ), Clock(), self._tell)
        self._shares.append(share)
        self._tasks.append(asyncio.get_running_loop().create_task(share.run()))

    def end(self) -> None:
        """Leave the other runs."""
        for task in self._tasks:
            task.cancel()
        for share in self._shares:
            share.end()


def begin(job: Job, endpoint: Endpoint, lanes: Lanes, tell: Callable[[str], None]) -> Together | None:
    """Have the lanes of a session share their limits, if there may be others that have the same; else return None.

    A server that the session itself starts is nobody else's. Several endpoints share nothing: a row would wait for the ticket
    of one of them while others are free.
    """
    if not job.share or endpoint.base_url is None or endpoint.members or sys.platform == "win32":
        return None
    together = Together(job, endpoint, tell)
    lanes.share = together.share
    return together
