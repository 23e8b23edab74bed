"""What runs are doing, for all viewers: one connection to each running session, however many look on.

A session is followed while somebody wants to see it, and for a while after. Its frames go into one ring, which each viewer reads
at its own pace; none is waited for.
"""

import asyncio
import gc
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path

import anyio.to_thread

from runner.control.client import Connection, connect
from runner.errors import NotRunningError, RunnerError
from runner.web.replies import to_json
from runner.web.ring import Frame, Ring, frame

LOOK_S = 1.0
"""Seconds between two looks at which runs are running."""
LINGER_S = 30.0
"""Seconds for which a session is followed after its last viewer has left, so that it can come back without a gap."""
_GATHER_S = 0.0005
"""Seconds, for each viewer, for which frames are gathered before all are told: the more there are, the fewer times."""
_MOST_GATHER_S = 0.1
_MOST_LEFT = 16
"""Viewers that have left, after which garbage is collected: the frames and tracebacks of a stream that was cancelled refer to
each other, and Python would look for them after hundreds of viewers."""
_SWEEP_S = 1.0
"""Seconds after which it is collected, so that many who leave at once do not take as many times."""
_FRESH_S = 1.0
"""Seconds for which a state serves others who come."""
_GONE = "the session is gone without a last word: it was killed, or its process has crashed"
ALL = 0
"""Stands for all runs."""

Running = Callable[[Path], list[int]]
"""Returns the runs of a store that are running. Blocks. Raises RunnerError."""


class Followed:
    """A session that is followed. state: the newest present state of it, with its place in the ring and when it came."""

    def __init__(self) -> None:
        self.session = 0
        self.state: tuple[Frame, int, float] | None = None
        self.progress: bytes | None = None
        self.began = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.asks = asyncio.Lock()


class Hub:
    """Follows the sessions of one store.

    viewers: for each run, how many look at it alone; under ``ALL``, at all of them. news: is set when there are new frames, or
    when all is over; then there is another one.
    """

    def __init__(self, store: Path, running: Running) -> None:
        self.store, self._running = store, running
        self.ring = Ring()
        self.viewers: dict[int, int] = {}
        self.followed: dict[int, Followed] = {}
        self.active: list[int] = []
        self.closed = False
        self.news = asyncio.Event()
        self._telling: asyncio.TimerHandle | None = None
        self._left = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._looks: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._looked_at = -LINGER_S

    # -- the side of the viewers

    @property
    def watched(self) -> int:
        """How many look on."""
        return sum(self.viewers.values())

    def join(self, run: int) -> None:
        """Count a viewer of a run, or of ``ALL``, who leaves with ``leave``."""
        self.viewers[run] = self.viewers.get(run, 0) + 1
        if self._looks is None:
            self._looked.clear()
            self._looks = asyncio.create_task(self._look())

    def leave(self, run: int) -> None:
        """Count a viewer no more."""
        self.viewers[run] -= 1
        if not self.viewers[run]:
            del self.viewers[run]
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        self._left += 1
        if self._left >= _MOST_LEFT and self._sweeping is None and not self.closed:
            self._sweeping = loop.call_later(_SWEEP_S, self._sweep)

    async def looked(self) -> None:
        """Return when it is known which runs are running."""
        await self._looked.wait()

    async def follow(self, run: int, after: tuple[int, int] | None = None) -> Followed | None:
        """Follow the session of a run, and return it once it has begun to tell; None if none is running.

        after: number of a session and of the last frame of it that a viewer has seen, to go on behind it if nobody has followed
        it meanwhile.
        """
        found = self.followed.get(run)
        if found is None:
            found = self.followed[run] = Followed()
            found.task = asyncio.create_task(self._follow(run, found, after))
        await found.began.wait()
        return found if self.followed.get(run) is found else None

    async def state(self, run: int, found: Followed) -> tuple[Frame, int] | None:
        """Return the present state of a session, and the place in the ring from which to go on; None if it is over."""
        loop = asyncio.get_running_loop()
        async with found.asks:
            known = found.state
            if known is None or known[1] < self.ring.begin or loop.time() - known[2] > _FRESH_S:
                place = self.ring.end
                fresh = await self._asked_state(run)
                if fresh is None:
                    return None
                found.state = known = (fresh, place, loop.time())
        return known[0], known[1]

    async def aclose(self) -> None:
        """End all: viewers are told that there is no more."""
        self.closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._tell()
        tasks = [task for task in (self._looks, *(one.task for one in self.followed.values())) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _sweep(self) -> None:
        self._sweeping, self._left = None, 0
        gc.collect()

    # -- the side of the sessions

    async def _look(self) -> None:
        """Follow what is running and wanted, until nobody has looked on for a while."""
        loop = asyncio.get_running_loop()
        try:
            while self.watched or loop.time() - self._looked_at < LINGER_S:
                try:
                    active = await anyio.to_thread.run_sync(self._running, self.store)
                except (RunnerError, OSError):
                    # a store that is locked, or away, for a moment
                    active = self.active
                if active != self.active:
                    self.active = active
                    self.add(Frame(ALL, 0, 0, b"event: runs\ndata: %b\n\n" % to_json({"running": active})))
                # those who came first may know how far they have seen, and follow what they want
                for run in active if self._looked.is_set() else ():
                    if run not in self.followed and (self.viewers.get(ALL) or self.viewers.get(run)):
                        found = self.followed[run] = Followed()
                        found.task = asyncio.create_task(self._follow(run, found, None))
                self._looked.set()
                await asyncio.sleep(LOOK_S)
        finally:
            self._looks = None
            self._looked.set()
            for one in self.followed.values():
                if one.task is not None:
                    one.task.cancel()
            self.followed.clear()

    async def _follow(self, run: int, found: Followed, after: tuple[int, int] | None) -> None:
        """Put what a session tells into the ring, until it ends."""
        ended = begun = False
        try:
            connection = await connect(self.store, run)
            try:
                found.session = connection.hello.session
                behind = after[1] if after is not None and after[0] == found.session else None
                ended = await self._tell_of(run, found, connection, behind)
            finally:
                await connection.aclose()
        except (NotRunningError, OSError):
            # gone, which is told below if it has told something; or it cannot be reached, and the next look tries again
            pass
        finally:
            begun = found.began.is_set()
            self._forget(run, found)
        if begun and not ended and not self.closed:
            self.add(frame(run, found.session, 0, "gone", to_json({"reason": _GONE})))

    async def _tell_of(self, run: int, found: Followed, connection: Connection, behind: int | None) -> bool:
        """Return True if the session has said its last word."""
        kind = ""
        async with aclosing(connection.watch(after=behind, texts=True)) as feed:
            if behind is not None:
                # whoever goes on behind a frame may get nothing at first
                self.add(Frame(run, found.session, behind, b"", begins=False))
                found.began.set()
            async for one in feed:
                kind = one.kind
                place = self.add(frame(run, found.session, one.number, kind, one.data))
                if kind == "state":
                    found.state = self._at(place), place + 1, asyncio.get_running_loop().time()
                elif kind == "progress":
                    found.progress = one.data
                found.began.set()
        return kind == "finished"

    def _at(self, place: int) -> Frame:
        return next(self.ring.since(place))

    def _forget(self, run: int, found: Followed) -> None:
        if self.followed.get(run) is found:
            del self.followed[run]
        found.began.set()

    async def _asked_state(self, run: int) -> Frame | None:
        """Ask a session for its present state."""
        try:
            connection = await connect(self.store, run)
            try:
                async with aclosing(connection.watch(texts=True)) as feed:
                    async for one in feed:
                        if one.kind == "state":
                            return frame(run, connection.hello.session, one.number, one.kind, one.data)
            finally:
                await connection.aclose()
        except (NotRunningError, OSError):
            return None
        return None

    def add(self, one: Frame) -> int:
        """Put a frame into the ring, and tell the viewers in a moment."""
        place = self.ring.add(one)
        if self._telling is None:
            wait = min(_MOST_GATHER_S, _GATHER_S * self.watched)
            self._telling = asyncio.get_running_loop().call_later(wait, self._tell)
        return place

    def _tell(self) -> None:
        self._telling = None
        news, self.news = self.news, asyncio.Event()
        news.set()

    def progress(self) -> Mapping[int, bytes]:
        """Return what each followed session has told last of how far it is."""
        return {run: one.progress for run, one in self.followed.items() if one.progress is not None}
