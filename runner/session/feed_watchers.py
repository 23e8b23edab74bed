"""Those who watch a session: each gets the frames for which it has room, and the present state when it begins or was too slow."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from runner.control.messages import Feed
from runner.session.feed_frames import SkippedFrame, encoded

AGAIN = 10
"""Turns after which the state is offered again to a watcher that had no room for it: to make it takes time."""

Put = Callable[[Feed], bool]
"""Takes a frame for a watcher. False: there is no room, and the frame was not taken. It raises nothing."""

_SKIPPED = Feed(number=0, kind="skipped", data=encoded(SkippedFrame()))
"""The state that follows replaces all that came before, so it has no number behind which a watcher could go on."""


class _Watcher(Struct, eq=False):
    """Somebody who watches. begins: it gets the state next. skipped: before that, it is told that frames were left out."""

    texts: bool
    put: Put
    begins: bool = False
    skipped: bool = False
    # turns until it is offered the state
    rests: int = 0


class Watchers:
    """All who watch."""

    def __init__(self) -> None:
        self._all: list[_Watcher] = []

    def __len__(self) -> int:
        return len(self._all)

    @property
    def want_texts(self) -> bool:
        """True if one of them wants texts."""
        return any(one.texts for one in self._all)

    def add(self, put: Put, missed: Iterable[Feed] | None, *, texts: bool) -> Callable[[], None]:
        """Take a watcher; return what is called when it leaves. missed: frames that it gets now; None: it gets the state next."""
        watcher = _Watcher(texts, put, begins=missed is None)
        self._all.append(watcher)
        for frame in missed or ():
            self._put(watcher, frame)

        def leave() -> None:
            if watcher in self._all:
                self._all.remove(watcher)

        return leave

    def clear(self) -> None:
        """Let all go."""
        self._all.clear()

    def put(self, frame: Feed) -> None:
        """Put a frame to all who want it and have seen what came before."""
        # one may leave while it is put
        for watcher in tuple(self._all):
            if frame.kind != "text" or watcher.texts:
                self._put(watcher, frame)

    def _put(self, watcher: _Watcher, frame: Feed) -> None:
        if not watcher.begins and not watcher.put(frame):
            watcher.begins = watcher.skipped = True

    def begin(self, state: Callable[[bool], Feed]) -> None:
        """Give the state to those who wait for it. state: makes it, with texts or without; it is asked once for each."""
        made: dict[bool, Feed] = {}
        for watcher in tuple(self._all):
            if not watcher.begins:
                continue
            if watcher.rests:
                watcher.rests -= 1
                continue
            if watcher.skipped and not watcher.put(_SKIPPED):
                continue
            watcher.skipped = False
            if watcher.texts not in made:
                made[watcher.texts] = state(watcher.texts)
            watcher.begins = not watcher.put(made[watcher.texts])
            watcher.rests = AGAIN if watcher.begins else 0
