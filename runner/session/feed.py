"""What a running session tells those who watch it, as numbered frames of JSON. ``docs/reference/live-events.md`` shows them.

    events of the session ─┐
    attempts begin and end ├─> collected for 100 ms ─> one frame of each kind ─> the ring ─> all who watch
    texts of open answers ─┘

Nothing is collected while nobody watches. A frame is made once, for all. Who does not take a frame is not waited for: it gets no
more until it has room again, and then begins anew with the present state.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from runner.control.messages import Feed
from runner.engine.open_attempts import OpenAttempt, OpenAttempts
from runner.event_types import Event, Finished, Noted, Progress, Saved, Started, Stopping
from runner.model import Attempt, Completion
from runner.session import feed_frames as frames
from runner.session import feed_made
from runner.session.feed_ring import Ring
from runner.session.feed_texts import LONGEST, Texts
from runner.session.feed_watchers import Put, Watchers
from runner.session.stats import SessionStats
from runner.text import Redactor, redact
from runner.time_ledger import TimeLedger

TICK_S = 0.1
"""Seconds for which what happens is collected, so there are ten frames a second of a kind at most, or more if they were large."""
LINGER_S = 30.0
"""Seconds after the last watcher has left for which frames are still made, so that it can come back without a gap."""
MOST_NOTES = 50
"""Notes that a watcher gets at its beginning."""


class WantTexts(Protocol):
    """Tells those who decode answers elsewhere whether somebody wants to know what they say."""

    def __call__(self, *, wanted: bool) -> None:
        """Tell it."""
        ...


class SessionFeed:
    """The feed of one session. It can be subscribed to before the session has begun to send.

    session: its number in its run. paused: returns True while somebody has paused it.
    """

    def __init__(self, ring: Ring | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._ring, self._clock = Ring() if ring is None else ring, clock
        self.run, self.session = 0, 1
        self.paused: Callable[[], bool] = lambda: False
        self._open, self._redactor, self._stats = OpenAttempts(), Redactor(), SessionStats()
        self._ledger: Callable[[], TimeLedger | None] = lambda: None
        self._want_texts: WantTexts | None = None
        self._watchers = Watchers()
        # None: nothing is collected; and the texts of open answers, None: nobody wants them
        self._timer: asyncio.TimerHandle | None = None
        self._texts: Texts | None = None
        # when somebody watched last, and wanted texts
        self._watched_at = self._texts_at = 0.0
        # what was told last, whether somebody watches or not
        self._progress: Progress | None = None
        self._stopping: frames.StoppingFrame | None = None
        self._notes: deque[str] = deque(maxlen=MOST_NOTES)
        self._ended = False
        self._forget()

    def _forget(self) -> None:
        """Forget what was collected."""
        self._opened: list[frames.OpenAnswer] = []
        self._closed: list[frames.ClosedAnswer] = []
        self._rows: list[frames.SettledRow] = []
        self._others: list[tuple[str, Struct]] = []
        self._progressed = False

    # -- the side of the session

    def follow(
        self,
        open_: OpenAttempts,
        redactor: Redactor,
        stats: SessionStats,
        ledger: Callable[[], TimeLedger | None],
        want_texts: WantTexts | None = None,
    ) -> None:
        """Take the session when it is about to send. want_texts: tells those who decode answers elsewhere; None: nobody does."""
        self._open, self._redactor, self._stats, self._ledger = open_, redactor, stats, ledger
        self._want_texts = want_texts
        if self._timer is not None:
            self._open.watcher = self
        if self._texts is not None:
            self._look_at(Texts(redactor))

    def tell(self, event: Event) -> None:
        """Take an event of the session."""
        collects = self._timer is not None
        if isinstance(event, Saved):
            if collects:
                self._rows += map(feed_made.settled_row, event.outcomes)
        elif isinstance(event, Progress):
            self._progress, self._progressed = event, True
        elif isinstance(event, Noted):
            self._note(event.note)
        elif isinstance(event, Started):
            self.run = event.run
            for note in event.notes:
                self._note(note)
        elif isinstance(event, Stopping):
            self._stopping = feed_made.stopping_frame(event)
            self._other("stopping", self._stopping)
        elif isinstance(event, Finished):
            self._finish(event)

    def steered(self, by: str, what: str) -> None:
        """Tell that somebody has steered the session. what: one sentence."""
        self._other("steered", frames.SteeredFrame(at=time.time(), by=by, what=what))

    def opened(self, one: OpenAttempt) -> None:
        """Take an attempt that has begun."""
        self._opened.append(feed_made.open_answer(one))
        if self._texts is not None:
            self._texts.begin(one)

    def closed(self, one: OpenAttempt, attempt: Attempt, answer: Completion) -> None:
        """Take an attempt that has ended."""
        if self._texts is not None:
            self._texts.end(one, answer, failed=attempt.error_code is not None)
        self._closed.append(feed_made.closed_answer(one, attempt, answer))

    def _note(self, note: str) -> None:
        note = redact(note)
        self._notes.append(note)
        self._other("note", frames.NoteFrame(note))

    def _other(self, kind: str, data: Struct) -> None:
        if self._timer is not None:
            self._others.append((kind, data))

    def _finish(self, event: Finished) -> None:
        """Tell the end at once: the loop may end too."""
        self._ended = True
        if self._timer is not None:
            self._other("finished", feed_made.finished_frame(event))
            self.turn()
            self._rest()

    # -- the side of those who watch

    @property
    def newest(self) -> int:
        """Number of the newest frame; 0: there is none yet."""
        return self._ring.newest

    def subscribe(self, after: int | None, texts: bool, put: Put) -> Callable[[], None]:
        """Have frames put to a watcher, from the next turn on. Return what is called when it leaves.

        after: number of the last frame that it has seen, to go on behind it; if that is not possible, or None, it begins with the
        present state. put: see ``Put``.
        """
        self._wake(texts=texts)
        missed = self._ring.since(after, texts=texts) if after is not None else None
        return self._watchers.add(put, missed, texts=texts)

    def _wake(self, *, texts: bool) -> None:
        """Collect what happens, if nothing was collected so far."""
        if self._timer is None and not self._ended:
            self._ring.restart()
            self._forget()
            self._open.watcher = self
            # at once: there is nothing to collect, and somebody waits for the state
            self._timer = asyncio.get_running_loop().call_later(0.0, self._tick)
        if texts and self._texts is None:
            self._ring.without_texts()
            self._look_at(found := Texts(self._redactor))
            for one in self._open:
                found.begin(one)
            # what has come so far is in the state
            found.look()
            found.taken()

    def _look_at(self, texts: Texts | None) -> None:
        self._texts = texts
        if self._want_texts is not None:
            self._want_texts(wanted=texts is not None)

    def _rest(self) -> None:
        """Collect nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._open.watcher = None
        self._look_at(None)
        self._forget()

    def close(self) -> None:
        """End: nobody gets anything any more."""
        self._ended = True
        self._watchers.clear()
        self._rest()

    # -- frames

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self.turn()
        now = self._clock()
        if self._watchers:
            self._watched_at = now
        if self._watchers.want_texts:
            self._texts_at = now
        if now - self._texts_at > LINGER_S:
            self._look_at(None)
        if now - self._watched_at > LINGER_S:
            self._rest()

    def turn(self) -> None:
        """Make frames of what was collected, and put them to all who watch."""
        if self._texts is not None:
            self._texts.look()
        opened, closed, rows, others, progressed = self._opened, self._closed, self._rows, self._others, self._progressed
        self._forget()
        if opened:
            self._tell("open", frames.OpenFrame(opened))
        if self._texts is not None:
            self._tell_texts(self._texts.taken())
        if closed:
            self._tell("closed", frames.ClosedFrame(closed))
        if rows:
            self._tell("rows", frames.RowsFrame(rows))
        if progressed and (progress := self._progress_now()) is not None:
            self._tell("progress", progress)
        for kind, data in others:
            self._tell(kind, data)
        self._watchers.begin(self._state)

    def _tell_texts(self, pieces: list[frames.TextPiece]) -> None:
        """Make as many frames as it takes for none to be too large."""
        some: list[frames.TextPiece] = []
        size = 0
        for piece in pieces:
            if size and size + len(piece.text) > LONGEST:
                self._tell("text", frames.TextFrame(some))
                some, size = [], 0
            some.append(piece)
            size += len(piece.text)
        if some:
            self._tell("text", frames.TextFrame(some))

    def _tell(self, kind: str, data: Struct) -> None:
        self._watchers.put(self._ring.add(kind, frames.encoded(data)))

    def _state(self, texts: bool) -> Feed:
        """Return the frame with which a watcher begins. Its number is that of the last frame that it includes."""
        reads = self._texts if texts else None
        answers = reads.so_far(self._open) if reads is not None else [feed_made.so_far(one, None, None) for one in self._open]
        state = frames.StateFrame(
            run=self.run,
            session=self.session,
            at=time.time(),
            progress=self._progress_now(),
            answers=answers,
            paused=self.paused(),
            stopping=self._stopping,
            notes=list(self._notes),
        )
        return Feed(number=self._ring.newest, kind="state", data=frames.encoded(state))

    def _progress_now(self) -> frames.ProgressFrame | None:
        if self._progress is None:
            return None
        return feed_made.progress_frame(self._progress, self._stats.input_tokens, self._ledger(), paused=self.paused())
