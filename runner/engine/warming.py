"""The first row of each shared prefix goes out alone until its answer begins; then a provider's cache can give it to the others.

    rows ──window──> groups of rows with the same prefixes ──> first of each group: warms its prefix ──┐
                           others of the group wait here <── its answer begins, or its attempt fails ──┘

Rows are held back before they reach a worker, so that rows of one prefix never hold up those of another. Which prefixes rows
share is seen in a window of rows, and by the hashes of the rows before it: memory is bounded, and the file is read once. Rows are
ordered by prefix within a window; everything that is stored has the row's own position.
"""

from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

import anyio
from msgspec import Struct, field, structs

from runner.admission import Reservation
from runner.engine.prefixes import Link, Links, size_of
from runner.interfaces import Emit, Handle, Items
from runner.model import Attempt, Item, Outcome

WINDOW = 1_000
"""Rows that are looked at together. As many are read at once."""
WINDOW_BYTES = 4 << 20
WINDOW_S = 0.2
"""Seconds after which a row that comes is the last of its window: of a large file, a condition may choose few rows.

The rows before it wait for it all the same, as long as it takes to come.
"""
PENDING = 10_000
"""Rows that may wait for their prefixes; then no more are read."""
PENDING_BYTES = 32 << 20
KNOWN = 100_000
"""Prefixes that are remembered; the oldest are forgotten."""
WARM_S = 240.0
"""Seconds after its last use for which a prefix counts as warm. Providers keep one for five minutes at the least."""
MARKS = 4
"""Marks for a provider's cache that a request may have."""


class _Group(Struct, eq=False):
    """Rows with the same shared prefixes, shortest first."""

    links: tuple[Link, ...]
    items: deque[Item] = field(default_factory=deque)


class Warming:
    """Holds back the rows of a prefix until it is warm.

    links: finds the beginnings of a request. shared: all of them are known to be shared. waits: False only marks rows.
    marks: requests are to say where their shared prefixes end.
    """

    def __init__(
        self, links: Links, clock: Callable[[], float], *, shared: bool = False, waits: bool = True, marks: bool = False
    ) -> None:
        self._links, self._clock = links, clock
        self._shared, self._waits, self._marks = shared, waits, marks
        # by hash of a prefix: when it was last used; None if no answer to it has begun
        self._known: dict[bytes, float | None] = {}
        # by hash of a prefix: the row that warms it, and the groups that wait for it
        self._warming: dict[bytes, str] = {}
        self._blocked: dict[bytes, list[_Group]] = {}
        # by key: the prefixes of the rows whose answers have not begun
        self._open: dict[str, tuple[bytes, ...]] = {}
        # groups to be looked at, and groups that wait for nothing
        self._unseen: deque[_Group] = deque()
        self._ready: deque[_Group] = deque()
        self._pending = self._pending_bytes = 0
        self._changed = anyio.Event()
        # called with True when all rows that were read have to wait, and with False when that is over
        self.holds: Callable[[bool], None] = lambda _: None

    # -- rows on their way to the workers

    async def items(self, items: Items) -> AsyncGenerator[Item | Outcome, None]:
        """Yield the same, ordered by prefix within a window, and rows of a prefix that is not warm later."""
        ended = False
        async with aclosing(items):
            while True:
                while (item := self._next()) is not None:
                    yield item
                if not ended and self._pending < PENDING and self._pending_bytes < PENDING_BYTES:
                    window, ended = await self._window(items)
                    for one in window:
                        if isinstance(one, Outcome):
                            yield one
                    self._take([one for one in window if isinstance(one, Item)])
                elif self._pending:
                    self.holds(True)
                    await self._changed.wait()
                    self.holds(False)
                else:
                    return

    async def _window(self, items: Items) -> tuple[list[Item | Outcome], bool]:
        """Read the next rows. Return them, and True if they are the last."""
        window: list[Item | Outcome] = []
        left, until = WINDOW_BYTES, self._clock() + WINDOW_S
        async for item in items:
            window.append(item)
            left -= size_of(item.request) if isinstance(item, Item) else 0
            if len(window) == WINDOW or left <= 0 or self._clock() > until:
                return window, False
        return window, True

    def _take(self, window: Sequence[Item]) -> None:
        """Put the rows of a window into groups."""
        found = [(item, self._links(item.request)) for item in window]
        counts = Counter(link.hash for _, links in found for link in links)
        order: dict[bytes, int] = {}
        groups: dict[tuple[bytes, ...], _Group] = {}
        for item, links in found:
            chain = [link for link in links if self._shared or counts[link.hash] > 1 or link.hash in self._known]
            item = self._marked(item, chain)
            # rows that wait for nothing keep their order: side by side, rows of one prefix would all miss it
            hashes = tuple(link.hash for link in chain) if self._waits else ()
            for one in hashes:
                order.setdefault(one, len(order))
            groups.setdefault(hashes, _Group(tuple(chain) if self._waits else ())).items.append(item)
            if links:
                self._open[item.key] = tuple(link.hash for link in links)
            self._pending += 1
            self._pending_bytes += size_of(item.request)
        self._remember(counts)
        self._unseen.extend(groups[hashes] for hashes in sorted(groups, key=lambda hashes: [order[one] for one in hashes]))

    def _marked(self, item: Item, chain: Sequence[Link]) -> Item:
        if not self._marks or not chain:
            return item
        places = tuple(link.place for link in chain[-MARKS:])
        return structs.replace(item, request=structs.replace(item.request, prefixes=places))

    def _next(self) -> Item | None:
        """Return the next row that may go out; None if all have to wait."""
        while self._unseen:
            group = self._unseen.popleft()
            cold = self._cold(group)
            if cold is None:
                self._ready.append(group)
            elif cold in self._warming:
                self._blocked.setdefault(cold, []).append(group)
            else:
                item = group.items.popleft()
                for link in group.links:
                    if not self._is_warm(link.hash):
                        self._warming.setdefault(link.hash, item.key)
                if group.items:
                    self._unseen.append(group)
                return self._gone(item)
        while self._ready:
            group = self._ready[0]
            if self._cold(group) is not None:
                # it has not been used for long
                self._unseen.append(self._ready.popleft())
                return self._next()
            item = group.items.popleft()
            if not group.items:
                self._ready.popleft()
            self._use(link.hash for link in group.links)
            return self._gone(item)
        return None

    def _gone(self, item: Item) -> Item:
        self._pending -= 1
        self._pending_bytes -= size_of(item.request)
        return item

    def _cold(self, group: _Group) -> bytes | None:
        """Return the shortest prefix of a group that is not warm; None if all are."""
        return next((link.hash for link in group.links if not self._is_warm(link.hash)), None)

    def _is_warm(self, prefix: bytes) -> bool:
        used = self._known.get(prefix)
        return used is not None and self._clock() - used < WARM_S

    # -- what becomes of them

    def handle(self, handle: Handle) -> Handle:
        """Return a function that handles a row, and lets another one warm its prefix if this one fails."""

        async def handled(item: Item, emit: Emit) -> Outcome | None:
            async def told(entry: Attempt | Reservation) -> None:
                if isinstance(entry, Attempt):
                    self.let_go(item)
                await emit(entry)

            try:
                return await handle(item, told)
            finally:
                self.let_go(item)
                self._open.pop(item.key, None)

        return handled

    def begun(self, item: Item) -> None:
        """Record that the answer to a row has begun: its prefixes are warm."""
        prefixes = self._open.pop(item.key, ())
        self._use(prefixes)
        self._free(prefixes)

    def let_go(self, item: Item) -> None:
        """Record that an attempt of a row has ended, or that none is made. If its prefixes are cold, the next row warms them."""
        key = item.key
        self._free([one for one in self._open.get(key, ()) if self._warming.get(one) == key])

    def _free(self, prefixes: Iterable[bytes]) -> None:
        for one in prefixes:
            self._warming.pop(one, None)
            if (groups := self._blocked.pop(one, None)) is not None:
                self._unseen.extend(groups)
                self._changed.set()
                self._changed = anyio.Event()

    def _use(self, prefixes: Iterable[bytes]) -> None:
        now = self._clock()
        for one in prefixes:
            self._known.pop(one, None)
            self._known[one] = now
        self._forget()

    def _remember(self, prefixes: Iterable[bytes]) -> None:
        for one in prefixes:
            self._known.setdefault(one, None)
        self._forget()

    def _forget(self) -> None:
        while len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
