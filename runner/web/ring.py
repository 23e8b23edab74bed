"""The last frames of all running sessions, as they came. All viewers read the same ones, each from its own place."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from msgspec import Struct

MOST_FRAMES = 4_000
"""Frames that are kept."""
MOST_BYTES = 16 << 20
"""Bytes that are kept."""
MOST_AT_ONCE = 1 << 18
"""Bytes that a viewer is sent at once, or one frame: one that reads slowly takes them in time, and it is not held up by more."""
_MOST_TOLD = 8
"""Stretches of frames that are kept as they were sent."""


class Frame(Struct, frozen=True):
    """One thing that has happened. run: what it is about; 0: about all. number: in its session; 0: it has none.

    body: its kind and its JSON, as lines of server-sent events. begins: whoever reads it needs nothing from before.
    """

    run: int
    session: int
    number: int
    body: bytes
    begins: bool = False

    def told(self, *, alone: bool) -> bytes:
        """Return the event with its id. alone: the stream is about this run, so that the id need not name it."""
        if not self.number:
            return self.body
        place = f"{self.session}-{self.number}" if alone else f"{self.run}-{self.session}-{self.number}"
        return b"id: %b\n%b" % (place.encode(), self.body)


def frame(run: int, session: int, number: int, kind: str, data: bytes) -> Frame:
    """Return a frame of a session. data: JSON, an object, which is passed on as it is, with the number of its run in front."""
    named = data if data.startswith(b'{"run":') else b'{"run":%d%b%b' % (run, b"" if data[1:2] == b"}" else b",", data[1:])
    return Frame(run, session, number, b"event: %b\ndata: %b\n\n" % (kind.encode(), named), begins=kind == "state")


class Ring:
    """Frames with places that rise by one. ``end``: the place behind the last one."""

    def __init__(self, most_frames: int = MOST_FRAMES, most_bytes: int = MOST_BYTES) -> None:
        self._most_frames, self._most_bytes = most_frames, most_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._told: dict[tuple[int, int, int], tuple[bytes, int]] = {}
        self.end = 0

    @property
    def begin(self) -> int:
        """The place of the oldest frame that is kept."""
        return self.end - len(self._frames)

    def add(self, one: Frame) -> int:
        """Keep a frame, and return its place."""
        self._frames.append(one)
        self._bytes += len(one.body)
        self.end += 1
        while len(self._frames) > self._most_frames or (self._bytes > self._most_bytes and len(self._frames) > 1):
            self._bytes -= len(self._frames.popleft().body)
        return self.end - 1

    def since(self, place: int) -> Iterator[Frame]:
        """Yield the frames from a place on, which must be kept."""
        return islice(self._frames, place - self.begin, None)

    def behind(self, run: int, session: int, number: int) -> int | None:
        """Return the place behind a frame of a session; None if it is not kept, or if one before it is missing."""
        place = self.end
        for one in reversed(self._frames):
            if (one.run, one.session) == (run, session) and 0 < one.number <= number:
                # a state stands for what came before it, and not for a number below it
                return place if one.number == number else None
            place -= 1
        return None

    def told(self, place: int, run: int) -> tuple[bytes, int]:
        """Return the next events from a place on, of one run or, for 0, of all, and the place behind them.

        Viewers who are as far get the same bytes.
        """
        key = (place, self.end, run)
        known = self._told.get(key)
        if known is None:
            told, size = list[bytes](), 0
            for one in self.since(place):
                if size and size + len(one.body) > MOST_AT_ONCE:
                    break
                place += 1
                if one.body and (run == 0 or one.run == run):
                    told.append(one.told(alone=run > 0))
                    size += len(one.body)
            known = b"".join(told), place
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            self._told[key] = known
        return known
