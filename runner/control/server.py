"""A session's side of its socket: lets in who watches or steers it, and cannot be hurt by them.

Whoever connects is another process of the same user. It may send garbage, say nothing, never read, or ask without end. So each
has bounded buffers, its requests are answered one after the other, and a watcher that does not read is skipped, never waited for.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from msgspec import structs

from runner.control.feeds import FeedLike
from runner.control.messages import Ask, Feed, Hello, Reply, Request, Watch, decode, encode
from runner.control.place import Listening
from runner.frames import Link, join
from runner.sharing import forks
from runner.sharing.seat import is_own

Answer = Callable[[Request, str], Awaitable[Reply]]
"""Does what is asked for, and says what came of it; the number of the reply is filled in. The second argument: who asks."""

MOST_GUESTS = 64
"""Connections at a time. Who comes beyond takes the place of the oldest that does not watch."""
MOST_WATCHERS = 56
"""Of these, those that watch, so that nobody who watches keeps out one who steers."""
MOST_BYTES = 4 << 20
"""Bytes of a request, at most: a hundred thousand ids."""
_MOST_ASKS = 32
"""Requests of one connection that wait; while there are so many, nothing further is read from it."""
_PAUSE_S = 0.01
"""Seconds between two requests of one connection, so that one who asks without end leaves the session its time."""
_BEHIND = 1 << 20
"""Bytes that a watcher has not read, from which on it is skipped: it gets no frame before it has read."""
_NEVER_READS = 64 << 20
"""Bytes that a connection has not read, from which on it is ended: a large state can be sent, but not twice."""
_LAST_WORDS_S = 0.5
"""Seconds in which those who read get what was said last, before the session ends."""
_FULL_S = 0.2
"""Seconds to wait where no file can be opened any more."""


class ControlServer:
    """Lets in who comes to a socket. hello: what each is told first, with the newest frame of the feed."""

    def __init__(self, listening: Listening, hello: Hello, answer: Answer, feed: FeedLike) -> None:
        self._listening, self._hello, self.answer, self.feed = listening, hello, answer, feed
        # in the order in which they came
        self._guests: dict[_Guest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Let in who comes from now on, in the event loop that runs."""
        if self._listening.end.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listening.end.fileno(), self._knock)

    async def aclose(self) -> None:
        """Take the socket away, and end all connections; those who read get what was sent to them."""
        if self._listening.end.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening.end.fileno())
        self._listening.close()
        for guest in self._guests:
            guest.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                while any(guest.unsent for guest in self._guests):  # noqa: ASYNC110 - the last half second of a session
                    await asyncio.sleep(_PAUSE_S)
        for guest in self._guests:
            guest.end()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for guest in list(self._guests):
            guest.abort()

    def forget(self, guest: "_Guest") -> None:
        """Know a connection no more. What it has asked for last is still done."""
        self._guests.pop(guest, None)

    def _knock(self) -> None:
        """Take in who has come."""
        loop = asyncio.get_running_loop()
        try:
            end, _ = self._listening.end.accept()
        except BlockingIOError:
            return
        except OSError:
            # no more files, or the other side has gone already
            loop.remove_reader(self._listening.end.fileno())
            loop.call_later(_FULL_S, self.begin)
            return
        if not is_own(end):
            end.close()
            return
        self._make_room()
        forks.keep_from_children(end)
        guest = _Guest(self)
        hello = structs.replace(self._hello, newest=self.feed.newest)

        async def attend() -> None:
            try:
                await join(guest, end)
                guest.send(encode(hello))
                await guest.answer_all()
            except OSError:
                end.close()
                self.forget(guest)

        self._guests[guest] = None
        self._tasks.add(task := loop.create_task(attend()))
        task.add_done_callback(self._tasks.discard)

    def may_watch(self) -> bool:
        """Return True if one more may watch."""
        return sum(guest.watches for guest in self._guests) < MOST_WATCHERS

    def _make_room(self) -> None:
        """Make room for one more: who came first and does not watch may have to go for it."""
        if len(self._guests) >= MOST_GUESTS:
            idle = next(guest for guest in self._guests if not guest.watches)
            idle.abort()
            self.forget(idle)


class _Guest(Link):
    """One who watches or steers."""

    def __init__(self, server: ControlServer) -> None:
        super().__init__(self._asked, lambda _: self._left(), most=MOST_BYTES)
        self._server = server
        self._asks: deque[Ask] = deque()
        self._more = asyncio.Event()
        self.watches = False
        self._unsubscribe: Callable[[], None] | None = None

    def leave(self) -> None:
        """Send nothing further."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    async def answer_all(self) -> None:
        """Answer its requests, one after the other, as long as it is there."""
        while not self.ended:
            while self._asks:
                ask = self._asks.popleft()
                if isinstance(ask.request, Watch):
                    self._begin_watching(ask.number, ask.request)
                else:
                    self._reply(structs.replace(await self._answer(ask), number=ask.number))
                await asyncio.sleep(_PAUSE_S)
            self.read(on=True)
            self._more.clear()
            await self._more.wait()

    async def _answer(self, ask: Ask) -> Reply:
        try:
            return await self._server.answer(ask.request, ask.by)
        except Exception as error:  # noqa: BLE001 - whoever steers the session must not end it
            return Reply(number=0, error=f"internal error, {type(error).__name__}: {error}. This is a bug; the run goes on")

    def _asked(self, frame: bytes) -> None:
        message = decode(frame)
        if not isinstance(message, Ask):
            raise TypeError(f"a {type(message).__name__} is no request")
        self._asks.append(message)
        self._more.set()
        if len(self._asks) >= _MOST_ASKS:
            self.read(on=False)

    def _reply(self, reply: Reply) -> None:
        if self.unsent > _NEVER_READS:
            self.abort()
        else:
            self.send(encode(reply))

    def _begin_watching(self, number: int, watch: Watch) -> None:
        if not self.watches and not self._server.may_watch():
            error = f"{MOST_WATCHERS} watch this session already, which is the most; `runner status --watch` follows it too"
            self._reply(Reply(number=number, error=error))
            return
        self.leave()
        self.watches = True
        self._reply(Reply(number=number, done="watching"))
        self._unsubscribe = self._server.feed.subscribe(watch.after, watch.texts, self._put)

    def _put(self, feed: Feed) -> bool:
        """Send a frame, if what came before was read. The feed tells a watcher what it was too slow for."""
        if self.ended or self.unsent > _BEHIND:
            return False
        self.send(encode(feed))
        return True

    def _left(self) -> None:
        self.leave()
        self._asks.clear()
        self._more.set()
        self._server.forget(self)
