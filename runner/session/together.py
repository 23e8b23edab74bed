"""Lets the lanes of a session share their limits with other runs of the same endpoint, model and key."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.endpoint import Endpoint
from runner.config.job import Job
from runner.engine.clock import Clock
from runner.engine.limits import Lanes
from runner.engine.limits.shared_lane import SharedLane
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.sharing import elsewhere
    from runner.sharing.party import Notes
    from runner.sharing.share import Share


class Together:
    """The shared limits of a session. tell: takes sentences for its user. Raises UsageError."""

    def __init__(self, job: Job, endpoint: Endpoint, store: Path, tell: Callable[[str], None]) -> None:
        self._endpoint, self._tell = endpoint, tell
        self._shares: list[Share] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._notes: Notes | None = None
        self._way: elsewhere.Way | None = None
        self._host: elsewhere.Host | None = None
        self._name = f"the run of process {os.getpid()}"
        if job.join is None and job.serve_limits is None:
            return
        # imported here: few sessions share limits over a network
        from runner.sharing.elsewhere import Host, Way

        if job.join is not None:
            self._way = Way(job.join, os.environ)
            self._name += f" on {socket.gethostname()}"
        if job.serve_limits is not None:
            self._host = Host(job.serve_limits, store, os.environ, tell)

    async def begin(self) -> None:
        """Let runs of other machines in, if the job says so. Raises UsageError."""
        if self._host is not None:
            await self._host.open()

    def share(self, lane: SharedLane) -> None:
        """Share the limits of a lane from now on."""
        # imported here: a session that shares nothing needs none of it
        from runner.sharing import identity
        from runner.sharing.party import Notes
        from runner.sharing.seat import Seat
        from runner.sharing.share import Share

        endpoint = self._endpoint
        key = endpoint.key.reveal() if endpoint.key is not None else ""
        additions = [(name, value.reveal()) for name, value in (*endpoint.additions.headers, *endpoint.additions.query)]
        same = identity.of(endpoint.base_url or "", lane.model, key, additions)
        place = self._way if self._way is not None else Seat(same, os.environ)
        self._notes = self._notes or Notes(self._tell)
        share = Share(lane, same, self._name, place, Clock(), self._notes)
        self._shares.append(share)
        lane.changed = share.changed
        self._tasks.append(asyncio.get_running_loop().create_task(share.run()))

    def end(self) -> None:
        """Leave the other runs."""
        for task in self._tasks:
            task.cancel()
        for share in self._shares:
            share.end()
        if self._host is not None:
            self._host.close()


async def begin(job: Job, endpoint: Endpoint, lanes: Lanes, store: Path, tell: Callable[[str], None]) -> Together | None:
    """Have the lanes of a session share their limits, if there may be others that have the same; else return None.

    A server that the session itself starts is nobody else's. Several endpoints share nothing: a row would wait for the ticket
    of one of them while others are free. Raises UsageError.
    """
    if not job.share:
        # whatever else is said, perhaps by the session that the run began with
        return None
    asked = job.join is not None or job.serve_limits is not None
    if job.join is not None and job.serve_limits is not None:
        raise UsageError("a run serves its limits or joins those of another one: leave out --join or --serve-limits")
    if asked and endpoint.members:
        raise UsageError(
            "limits of several endpoints are not shared; leave out --join and --serve-limits, or all endpoints but one"
        )
    if asked and endpoint.base_url is None:
        raise UsageError("a server that the run starts itself has no limits to share: leave out --join and --serve-limits")
    if endpoint.base_url is None or endpoint.members or sys.platform == "win32":
        return None
    together = Together(job, endpoint, store, tell)
    await together.begin()
    lanes.share = together.share
    return together
