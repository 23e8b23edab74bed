"""The sessions of a run: when each began and ended, where its time went, and what it did from moment to moment."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert

from runner.store import database
from runner.store.schema import sessions
from runner.store.spending import Fetch
from runner.time_ledger import Moment, TimeLedger, together

_TIME, _MOMENTS = msgspec.json.Decoder(TimeLedger), msgspec.json.Decoder(list[Moment])
_READ = 20
"""Sessions that are read at once, each with its moments."""


class Session(Struct, frozen=True, kw_only=True):
    """A session of a run. Times are UTC seconds since the epoch.

    number: 1 is the first of its run. noted_at: the last moment that is stored of it. ended_at: None while it goes on, and after
    it was killed. timeline: about 600 moments at most, oldest first, as means; where it is empty, nothing was noted.
    """

    number: int
    began_at: float
    noted_at: float
    ended_at: float | None
    time: TimeLedger
    timeline: Sequence[Moment] = ()


class Course(Struct, frozen=True, kw_only=True):
    """What a session stores about itself. ended: it is over. timeline: None: what is stored of it still holds."""

    began_at: float
    at: float
    time: TimeLedger
    timeline: Sequence[Moment] | None = None
    ended: bool = False


def sessions_of(fetch: Fetch, run_id: int, *, unended: bool = False) -> Iterator[Session]:
    """Yield the sessions of a run that got as far as sending, oldest first, in constant memory.

    fetch: must read one state of the store. unended: only those that go on or were killed; their numbers are among these alone.
    What cannot be decoded, such as that of another version, is left out: an empty ledger, no moments.
    """
    chosen = (of_clock(run_id), *([sessions.c.ended_at.is_(None)] if unended else []))
    every, number = sa.select(sessions).where(*chosen).order_by(sessions.c.began_at).limit(_READ), 0
    found = fetch(every)
    while found:
        for row in found:
            number += 1
            yield Session(
                number=number,
                began_at=row.began_at,
                noted_at=row.noted_at,
                ended_at=row.ended_at,
                time=_decoded(_TIME, row.time, TimeLedger()),
                timeline=_decoded(_MOMENTS, row.timeline, []),
            )
        found = fetch(every.where(sessions.c.began_at > found[-1].began_at))


def numbers_of(fetch: Fetch) -> dict[int, int]:
    """Return how many sessions each run has had; a run that had none is left out."""
    counted: list[Any] = fetch(sa.select(sessions.c.run_id, sa.func.count()).group_by(sessions.c.run_id))
    return dict(map(tuple, counted))


def of_clock(run_id: int) -> sa.ColumnElement[bool]:
    """Select the sessions of a run that began at an instant. In a store that somebody has changed, this may be a text."""
    return sa.and_(sessions.c.run_id == run_id, sa.func.typeof(sessions.c.began_at) == "real")


def time_of(fetch: Fetch, run_id: int) -> TimeLedger | None:
    """Return where the time of all sessions of a run went, added up; None if nothing is known of any."""
    found = fetch(sa.select(sessions.c.time).where(sessions.c.run_id == run_id).order_by(sessions.c.began_at))
    every = (_decoded(_TIME, text, TimeLedger()) for (text,) in found)
    return together(one for one in every if one.total_s)


def noting(run_id: int, course: Course) -> sa.Insert:
    """Return the statement that stores what a session is doing, in place of what it stored before."""
    values: dict[str, Any] = {
        "noted_at": course.at,
        "ended_at": course.at if course.ended else None,
        "time": msgspec.json.encode(course.time).decode(),
    }
    moments = {"timeline": msgspec.json.encode(course.timeline or ()).decode()}
    changed = values if course.timeline is None else {**values, **moments}
    statement = insert(sessions).values(run_id=run_id, began_at=course.began_at, **values, **moments)
    return statement.on_conflict_do_update(index_elements=["run_id", "began_at"], set_=changed)


def _decoded(decoder: msgspec.json.Decoder[Any], text: Any, otherwise: Any) -> Any:
    try:
        return decoder.decode(text)
    except (*database.DAMAGE, TypeError, ValueError):
        return otherwise
