"""What a session has announced and its reader has not taken yet. A reader that falls behind holds up new rows, and nothing else.

    row ──gate──> request ──> saved ──> announced: on the queue ──> taken by the reader
          ^                                                              |
          └──── closed while AHEAD rows are between here and there <─────┘

What is finished is saved first, and never waits for the reader. So the queue holds no more than AHEAD rows, by their keys: the
reader gets their results from the store. Pieces of answers are joined when the queue is long, or dropped, as the reader chose.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from typing import Literal, TypeAlias

import anyio
from msgspec import structs

from runner.engine.stop import Stop
from runner.event_types import Dropped, Progress, StreamEvent
from runner.interfaces import Emit, Handle, Items
from runner.model import Item, Outcome
from runner.row_events import FirstToken, PartialValue, RowEvent, Token

AHEAD = 1_000
"""Rows that may be begun, at most, while the reader has not taken their results."""
LONG = 10_000
"""Events on the queue, from which on no further row is begun, and pieces of answers are joined or dropped."""

OnSlow: TypeAlias = Literal["wait", "drop"]


class Settled(str):
    """The key of a row that is done or failed, and whose result lies in the store."""

    __slots__ = ()


class _Pieces:
    """A token on the queue, to which later pieces of the same attempt may be added."""

    def __init__(self, token: Token) -> None:
        self.token, self.parts, self.end = token, [token.text], token.at + len(token.text)

    def whole(self) -> Token:
        """Return all pieces as one token."""
        token = self.token
        text = "".join(self.parts)
        return structs.replace(token, text=text)


class _Newest:
    """A value on the queue, in whose place a later one of the same attempt comes: only the newest tells anything."""

    def __init__(self, value: PartialValue) -> None:
        self.value = value


Element: TypeAlias = StreamEvent | Settled


class Backlog:
    """The queue between a session and its reader, and the gate in front of the session's rows.

    on_slow: what becomes of the pieces of answers when the queue is long.
    """

    def __init__(self, on_slow: OnSlow = "wait") -> None:
        self._drops = on_slow == "drop"
        self._queue: deque[Element | _Pieces | _Newest] = deque()
        # the value on the queue of each attempt
        self._values: dict[tuple[object, int, int], _Newest] = {}
        # the latest piece on the queue of each attempt and kind
        self._latest: dict[tuple[object, int, int, str], _Pieces] = {}
        # rows that have passed the gate and were not taken
        self._rows = 0
        self._shut, self._free, self._closed = True, False, False
        self._dropped = 0
        # set when there is something to take, and when there is room
        self._some, self._room = anyio.Event(), anyio.Event()
        self._newest_progress: Progress | None = None

    # -- the side of the session

    def handle(self, handle: Handle, stop: Stop, resting: AbstractContextManager[None]) -> Handle:
        """Return a function that handles a row as soon as there is room for its result. resting: counts a row that waits."""

        async def held(item: Item, emit: Emit) -> Outcome | None:
            while self._full:
                with stop.interrupts(), resting:
                    await self._room.wait()
                if stop.requested:
                    return None
            self._rows += 1
            outcome = await handle(item, emit)
            if outcome is None:
                self._rows -= 1
            return outcome

        return held

    async def items(self, items: Items) -> AsyncGenerator[Item | Outcome, None]:
        """Yield the same. A broken row, which is finished at once, waits for room too."""
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Outcome):
                    while self._full:
                        await self._room.wait()
                    self._rows += 1
                yield item

    def put(self, element: Element) -> None:
        """Put an event or a finished row on the queue. Of reports of progress only the newest is kept."""
        if isinstance(element, Progress):
            if self._newest_progress is not None:
                self._queue.remove(self._newest_progress)
            self._newest_progress = element
        self._append(element)

    def hear(self, event: RowEvent) -> None:
        """Put what comes of an answer on the queue."""
        if isinstance(event, PartialValue):
            self._hear_value(event)
            return
        if not isinstance(event, Token):
            if self._drops and isinstance(event, FirstToken) and len(self._queue) >= LONG:
                return
            self._append(event)
            return
        place = (event.id, event.answer_number, event.attempt, event.kind)
        latest = self._latest.get(place) if len(self._queue) >= LONG else None
        if latest is not None and latest.end == event.at and not self._drops:
            latest.parts.append(event.text)
            latest.end += len(event.text)
        elif self._drops and len(self._queue) >= LONG:
            self._dropped += 1
        else:
            self._latest[place] = pieces = _Pieces(event)
            self._append(pieces)

    def _hear_value(self, event: PartialValue) -> None:
        place = (event.id, event.answer_number, event.attempt)
        waiting = self._values.get(place)
        if waiting is not None:
            waiting.value = event
        elif not self._drops or len(self._queue) < LONG:
            self._values[place] = newest = _Newest(event)
            self._append(newest)

    def end(self) -> None:
        """Record that nothing more will come."""
        self._closed = True
        self._some.set()

    def _append(self, element: Element | _Pieces | _Newest) -> None:
        self._queue.append(element)
        self._some.set()

    @property
    def _full(self) -> bool:
        return not self._free and (self._shut or self._rows >= AHEAD or len(self._queue) >= LONG)

    # -- the side of the reader

    def begin(self) -> None:
        """Open the gate."""
        self._shut = False
        self._let_in()

    def leave(self) -> None:
        """Record that the reader has gone: nothing waits for it any more."""
        self._free = True
        self._let_in()

    def taken(self, rows: int) -> None:
        """Record that the reader has got the results of so many rows of this session."""
        self._rows -= rows
        self._let_in()

    async def take(self, most: int) -> list[Element]:
        """Take up to ``most`` elements; wait until there is one. Return none at the end of the session."""
        while not self._queue and not self._closed:
            self._some = anyio.Event()
            await self._some.wait()
        elements = [self._whole(self._queue.popleft()) for _ in range(min(most, len(self._queue)))]
        if self._newest_progress in elements:
            self._newest_progress = None
        if self._dropped:
            elements.insert(0, Dropped(tokens=self._dropped))
            self._dropped = 0
        self._let_in()
        return elements

    def _whole(self, element: Element | _Pieces | _Newest) -> Element:
        if isinstance(element, _Newest):
            value = element.value
            del self._values[value.id, value.answer_number, value.attempt]
            return value
        if not isinstance(element, _Pieces):
            return element
        token = element.token
        if self._latest.get(place := (token.id, token.answer_number, token.attempt, token.kind)) is element:
            del self._latest[place]
        return element.whole()

    def _let_in(self) -> None:
        if not self._full:
            self._room.set()
            self._room = anyio.Event()
