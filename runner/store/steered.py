"""What was asked of sessions of a run while they ran: when, by whom, and what came of it."""

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.store.schema import steered
from runner.store.spending import Fetch

MOST = 1_000
"""Entries that are read of a run, at most: the newest."""


class Steered(Struct, frozen=True, kw_only=True):
    """Something that was asked of a session. at: UTC seconds since the epoch. session: its number in the run, from 1.

    by: terminal, page, api or agent. command: pause, continue, stop, cancel, requeue or set. what: what came of it, a sentence.
    """

    at: float
    session: int
    by: str
    command: str
    what: str


async def note(connection: AsyncConnection, run_id: int, one: Steered) -> None:
    """Store what was asked of a session."""
    values = {"at": one.at, "session": one.session, "by": one.by, "command": one.command, "what": one.what}
    await connection.execute(sa.insert(steered).values(run_id=run_id, **values))


def steered_of(fetch: Fetch, run_id: int) -> Sequence[Steered]:
    """Return what was asked of the sessions of a run, oldest first; of very much, the newest."""
    columns = (steered.c.at, steered.c.session, steered.c.by, steered.c.command, steered.c.what)
    found = fetch(sa.select(*columns).where(steered.c.run_id == run_id).order_by(steered.c.id.desc()).limit(MOST))
    return [Steered(at=at, session=session, by=by, command=command, what=what) for at, session, by, command, what in found[::-1]]
