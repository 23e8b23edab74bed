"""Streams of server-sent events: what a run is doing, or all of them, from a place that the viewer names, or from now on.

event: state      all that a viewer needs to begin; then what happens, as the session tells it (docs/reference/live-events.md)
event: runs       which runs are running
event: no_session nobody works on this run; the stream goes on, and tells it when somebody begins to
event: gone       the session has ended without a last word
event: skipped    the viewer was too slow; the present state follows
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from runner.web.hub import ALL, Hub
from runner.web.replies import ApiError, to_json
from runner.web.ring import Frame
from runner.web.uvicorn_internals import abort

MOST_VIEWERS = 1_000
"""Streams at a time."""
PING_S = 15
"""Seconds without a word after which there is a heartbeat."""
STUCK_S = 30.0
"""Seconds for which a viewer may read nothing while there is something for it, until it is dropped."""
_MOST_PIECE = 1 << 14
"""Bytes that are sent at a time. Who leaves amidst it leaves the piece in the frames of what was cancelled, until Python looks
for garbage in cycles, which may take hundreds of viewers."""
_RETRY = b"retry: 1000\n\n"
_BEAT = b": ping\n\n"
_ID = re.compile(r"(?:(\d{1,9})-)?(\d{1,9})-(\d{1,15})")


class EventStream(EventSourceResponse):
    """The answer that is a stream. A viewer that does not read is dropped."""

    def __init__(self, viewer: "Viewer") -> None:
        # the streams end with the hub, and a viewer has heartbeats of its own
        AppStatus.enable_automatic_graceful_drain = False
        super().__init__(viewer.events(), ping=0, sep="\n", send_timeout=STUCK_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends, or until the viewer has left."""
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
            return
        abort(scope["client"])


def stream(hub: Hub, run: int, last: str | None) -> EventStream:
    """Return the stream of a run, or of ``ALL``. last: the header Last-Event-ID. Raises ApiError if there are too many."""
    if hub.watched >= MOST_VIEWERS:
        words = f"{MOST_VIEWERS:,} streams are open, and there can be no more; close one, or try again later"
        raise ApiError(503, "viewers", words, {"Retry-After": "30"})
    return EventStream(Viewer(hub, run, _place(last, run)))


def _place(last: str | None, run: int) -> tuple[int, int, int] | None:
    """Return run, session and number of the last frame that a viewer has seen."""
    found = _ID.fullmatch(last or "")
    if found is None or (found[1] is None and run == ALL):
        return None
    return int(found[1] or run), int(found[2]), int(found[3])


class Viewer:
    """One stream. last: run, session and number of the last frame that it has seen."""

    def __init__(self, hub: Hub, run: int, last: tuple[int, int, int] | None) -> None:
        self._hub, self._run, self._last = hub, run, last
        # the place in the ring from which to go on
        self._place = 0
        # by run: the session and the number of the state that was sent, before which its frames are not sent
        self._states: dict[int, tuple[int, int]] = {}

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events, as bytes."""
        hub, loop = self._hub, asyncio.get_running_loop()
        hub.join(self._run)
        try:
            yield _RETRY
            beat_at = loop.time() + PING_S
            await hub.looked()
            for piece in _in_pieces(await self._begin()):
                yield piece
            while not hub.closed:
                news = hub.news
                if self._place < hub.ring.begin:
                    for piece in _in_pieces(b"event: skipped\ndata: {}\n\n" + await self._anew()):
                        yield piece
                for piece in _in_pieces(self._told()):
                    yield piece
                    beat_at = loop.time() + PING_S
                if self._place >= hub.ring.end and not await _set_by(news, beat_at):
                    # between two events: one that is sent in pieces would be torn by it
                    yield _BEAT
                    beat_at = loop.time() + PING_S
        finally:
            hub.leave(self._run)

    async def _begin(self) -> bytes:
        """Return what a new viewer gets first, and find its place."""
        if self._last is not None and (place := self._hub.ring.behind(*self._last)) is not None:
            self._place = place
            return b""
        return await self._anew()

    async def _anew(self) -> bytes:
        """Return the present state of all that is wanted, and find the place from which to go on."""
        hub = self._hub
        self._states, self._place = {}, hub.ring.end
        wanted = [run for run in hub.active if self._run in (ALL, run)]
        told = [b"event: runs\ndata: %b\n\n" % to_json({"running": hub.active})] if self._run == ALL else []
        # those that run at once: one that is silent takes seconds to be known as that
        lasts = [self._last if self._last is not None and self._last[0] == run else None for run in wanted]
        follow = (hub.follow(run, last[1:] if last is not None else None) for run, last in zip(wanted, lasts, strict=True))
        for run, last, found in zip(wanted, lasts, await asyncio.gather(*follow), strict=True):
            if found is None:
                continue
            if last is not None and (place := hub.ring.behind(*last)) is not None:
                self._from(place, run, last[1:])
            elif (state := await hub.state(run, found)) is not None:
                one, place = state
                self._from(place, run, (one.session, one.number))
                told.append(one.told(alone=self._run != ALL))
        if self._run != ALL and self._run not in self._states:
            told.append(b"event: no_session\ndata: %b\n\n" % to_json({"run": self._run}))
        self._last = None
        return b"".join(told)

    def _from(self, place: int, run: int, behind: tuple[int, int]) -> None:
        self._place = min(self._place, place)
        self._states[run] = behind

    def _told(self) -> bytes:
        """Return the events that have come since, and go on behind them."""
        ring = self._hub.ring
        if not self._states:
            told, self._place = ring.told(self._place, self._run)
            return told
        begin, self._place = self._place, ring.end
        states, self._states = self._states, {}
        alone = self._run != ALL
        wanted = (one for one in ring.since(begin) if one.body and self._run in (ALL, one.run))
        return b"".join(one.told(alone=alone) for one in wanted if not _is_behind(one, states.get(one.run)))


async def _set_by(event: asyncio.Event, at: float) -> bool:
    """Return True once an event is set, or False when it is so late on the clock of the loop."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(at):
            return await event.wait()
    return False


def _in_pieces(told: bytes) -> Iterator[bytes]:
    """Yield bytes in pieces. No frame of a viewer keeps all of them: see ``_MOST_PIECE``."""
    for start in range(0, len(told), _MOST_PIECE):
        yield told[start : start + _MOST_PIECE]


def _is_behind(one: Frame, state: tuple[int, int] | None) -> bool:
    """Return True for a frame that is part of a state already. Those without a number are told in any case, if not of old."""
    if state is None:
        return False
    return (one.session, one.number) <= state if one.number or one.begins else one.session < state[0]
