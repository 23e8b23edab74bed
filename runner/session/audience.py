"""Tells the observer of a session what happens, and the log: start, waits of a whole lane, stop and end, at INFO."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from msgspec import structs

from runner.engine.listening import Hear
from runner.event_types import Event, Finished, Noted, Progress, Saved, Started, Stopping, Summary
from runner.interfaces import Observer
from runner.session.feed import SessionFeed
from runner.text import clean, redact

logger = logging.getLogger("runner")
"""The one logger of this package."""

E = TypeVar("E")

for _library in ("aiosqlite", "alembic", "filelock"):
    # they log every statement and every step; a program that has set a level of its own keeps it
    if logging.getLogger(_library).level == logging.NOTSET:
        logging.getLogger(_library).setLevel(logging.WARNING)


class Audience:
    """The observer and the log of one session. After an exception the observer gets no more events: it must not harm the run.

    interrupted: called with what is no error of the observer but meant for the program, such as the SystemExit of ``sys.exit``.
    hear: receives the pieces of answers; None: nobody does.
    """

    def __init__(self, observe: Observer, interrupted: Callable[[BaseException], None], hear: Hear | None = None) -> None:
        self._observe, self._interrupted, self._hear = observe, interrupted, hear
        self._gone = False
        self._run = 0
        # makes the commands complete that a sentence names
        self.complete: Callable[[str], str] = str
        # the lanes that send nothing for now
        self._blocked: set[str] = set()
        # for those who watch the session from elsewhere
        self.feed = SessionFeed()

    def tell(self, event: Event) -> None:
        """Pass an event on, with the commands that it names complete."""
        event = self._completed(event)
        if not isinstance(event, Saved) and logger.isEnabledFor(logging.INFO):
            self._log(event)
        self._pass(self._observe, event)
        self.feed.tell(event)

    @property
    def listener(self) -> Hear | None:
        """What passes the pieces of answers on; None if nobody listens."""
        return None if self._hear is None else partial(self._pass, self._hear)

    def _pass(self, to: Callable[[E], None], event: E) -> None:
        if self._gone:
            return
        try:
            to(event)
        except Exception:
            logger.exception("the observer failed and gets no more events")
            self._gone = True
        except BaseException as error:  # noqa: BLE001 - raised when the session has ended; here it would tear down its tasks
            self._gone = True
            self._interrupted(error)

    def _completed(self, event: Event) -> Event:
        match event:
            case Started():
                return structs.replace(event, notes=tuple(map(self.complete, event.notes)))
            case Noted():
                return structs.replace(event, note=self.complete(event.note))
            case Stopping():
                return structs.replace(event, reason=self.complete(event.reason))
            case Finished():
                return Finished(summary=with_reason(event.summary, self.complete))
            case _:
                return event

    def _log(self, event: Event) -> None:
        match event:
            case Started():
                self._run = event.run
                for note in event.notes:
                    self._say(note)
                before = f", {event.restored:,} of them done or failed before" if event.restored else ""
                each = f" ({event.answers:,} answers)" if event.answers is not None else ""
                self._say(f"started: {event.rows:,} rows{each} of {event.input}{before}")
            case Noted():
                self._say(event.note)
            case Progress():
                self._lanes(event)
            case Stopping():
                self._say(f"stopping: {event.reason}; {event.in_flight:,} open requests, {event.grace_s:g} s to finish")
            case Finished():
                end = event.summary
                state = "finished" if end.finished else f"not finished ({end.stop_reason or 'rows are left'})"
                self._say(f"{state}: {end.done_now:,} done, {end.failed_now:,} failed in {end.elapsed_s:.1f} s")

    def _lanes(self, event: Progress) -> None:
        """Log when a lane begins to send nothing, and when it goes on."""
        now = event.pace.blocked
        for model in now.keys() - self._blocked:
            self._say(f"{model} sends nothing for now: {now[model]}")
        for model in self._blocked - now.keys():
            self._say(f"{model} goes on")
        self._blocked = set(now)

    def _say(self, words: str) -> None:
        logger.info("run %d: %s", self._run, clean(redact(words)))


def with_reason(summary: Summary, complete: Callable[[str], str]) -> Summary:
    """Return a summary with its stop reason made complete; a reason that is complete stays as it is."""
    reason = summary.stop_reason
    return summary if reason is None else structs.replace(summary, stop_reason=complete(reason))
