"""Observers for a terminal, a log file and a program: they print events as a live display, as plain lines or as JSON lines."""

import errno
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from runner.cli import ending, output
from runner.cli.fitting import fitted
from runner.event_types import WAITING, Event, Finished, Noted, Progress, Saved, Started, Stopping
from runner.model import Outcome
from runner.progress import words
from runner.progress.terminal import ThreeLines, is_live
from runner.session.naming import command, in_full
from runner.session.stopping import STOPPED_BY
from runner.several import number_of, row_of
from runner.text import clean, json_text, redact

LINE_S = 5.0
"""Without a terminal, a progress line is printed at most this often, in seconds."""
WAIT_S = 1.0
"""After an error, a wait for the open requests is worth a line only if it lasts longer than this, in seconds."""


class View:
    """Shows a session to a person or a program. A context manager; its method ``tell`` is the observer.

    told_why: the error that stopped the run has been printed, so nobody else need do so. lost: why the output ended early; None
    if it is whole, or if its reader has left. exported: the results are written to a file when the session has ended. summed: its
    summary is shown at the end. opens: makes a page of the session when it begins, and returns its url, or the error.
    """

    summed = True
    opens: Callable[[], Mapping[str, str]] | None = None
    # what drops the open requests of a session that ends
    drops = "Ctrl-C"
    # True if the session has gone on for a while when it is first shown: its notes are from then
    came_later = False

    def __init__(self, db: str, *, exported: bool = False) -> None:
        self._db, self._exported = db, exported
        self._broken = False
        self.told_why = False
        self.lost: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            self.close()

    def tell(self, event: Event) -> None:
        """Show one event. A failed write ends the output, not the run, because the results are in the store."""
        if self._broken:
            return
        try:
            self.show(event)
            if isinstance(event, Started) and self.opens is not None:
                self.page(self.opens())
        except OSError as error:
            self._broken = True
            # a log file on a full disk; not a closed pipe, nor a terminal that was closed
            if error.errno not in (errno.EPIPE, errno.EIO):
                self.lost = error

    def show(self, event: Event) -> None:
        """Show one event. The base class, used for --quiet, shows nothing."""

    def page(self, told: Mapping[str, str]) -> None:
        """Show where the page of the session is, or why there is none."""
        print(_of_page(told), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove from the screen what is only temporary."""

    def dropped(self) -> None:
        """Say how the run goes on after a third signal, which leaves no summary."""


class _Text(View, ABC):
    # the reason of the stop has been printed
    _reason_told = False
    # the run that the session works on, 0 until it has begun, and what was said at its start
    _run = 0
    _notes: tuple[str, ...] = ()
    # what the session waits for after an error, and when to print it
    _wait: tuple[str, float] | None = None

    def show(self, event: Event) -> None:
        match event:
            case Started():
                self._run, self._notes = event.run, event.notes
                notes = [f"{'earlier: ' if self.came_later else ''}{clean(note)}" for note in event.notes]
                headline = words.headline(event)
                for line in (headline, *notes) if self.came_later else (*notes, headline):
                    self.say(line)
            case Noted():
                self.say(clean(event.note))
            case Progress():
                if self._wait is not None and time.monotonic() >= self._wait[1]:
                    self.say(self._wait[0])
                    self._wait = None
                self.progress(event)
            case Stopping():
                self._stopping(event.reason, event.code, words.waiting(event, self.drops))
            case Finished(summary=end):
                self.close()
                if end.stop_reason and not end.finished and not self._reason_told:
                    self._stopping(end.stop_reason, end.stop_code, None)
                if self.summed:
                    self.say(ending.summary(end, self._db, self._notes, exported=self._exported))
            case _:
                pass

    def _stopping(self, reason: str, code: str | None, wait: str | None) -> None:
        """Print why the session ends early, and what it waits for. An error goes where errors go."""
        if reason == ending.INPUT_CHANGED or reason.startswith(WAITING):
            # the summary says it
            return
        self._reason_told = True
        said = clean(in_full(redact(reason), self._run, self._db))
        if code is None:
            said = said if reason.startswith(STOPPED_BY) else f"stopping: {said}"
            self.say(f"{said.rstrip('.')}; {wait}" if wait else said)
            return
        self.say(f"runner: {said}", error=True)
        self.told_why = True
        if wait:
            self._wait = (wait, time.monotonic() + WAIT_S)

    def page(self, told: Mapping[str, str]) -> None:
        self.say(_of_page(told))

    def dropped(self) -> None:
        if self._run:
            with suppress(OSError):
                self.say(f"what was saved is kept\nnext: {command('resume', self._run, self._db)}")

    def say(self, text: str, *, error: bool = False) -> None:
        out = sys.stderr if error else sys.stdout
        print(fitted(text, out), flush=True, file=out)

    @abstractmethod
    def progress(self, event: Progress) -> None:
        """Show how far the session is."""


class Lines(_Text):
    """Prints plain lines on standard error, one every few seconds."""

    def __init__(self, db: str, *, exported: bool = False) -> None:
        super().__init__(db, exported=exported)
        self._next = time.monotonic() + LINE_S

    def progress(self, event: Progress) -> None:
        """Print a line if the last one is at least ``LINE_S`` old."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_S
            print(f"{output.date(time.time())}  {words.line(event)}", file=sys.stderr, flush=True)


class Live(_Text):
    """Keeps three lines at the end of a terminal up to date, and prints everything else above them."""

    def __init__(self, db: str, *, exported: bool = False) -> None:
        super().__init__(db, exported=exported)
        self._lines = ThreeLines()

    def say(self, text: str, *, error: bool = False) -> None:
        """Print text above the lines; they come back with the next progress."""
        self.close()
        super().say(text, error=error)

    def progress(self, event: Progress) -> None:
        """Draw the lines again."""
        self._lines.draw(event)

    def close(self) -> None:
        """Remove the lines."""
        self._lines.remove()


class JsonLines(View):
    """Prints events as JSON lines on standard output. The text of an answer is left to the export."""

    def __init__(self, db: str, out: IO[str] | None = None) -> None:
        super().__init__(db)
        self._out = out or sys.stdout

    def show(self, event: Event) -> None:
        """Print one event as one line, or Saved as a line for each row."""
        if isinstance(event, Saved):
            for outcome in event.outcomes:
                self._print("item", _brief(outcome))
        elif isinstance(event, Finished):
            self._print("finished", msgspec.to_builtins(event.summary))
        else:
            self._print(type(event).__name__.lower(), msgspec.to_builtins(event))
        self._out.flush()

    def page(self, told: Mapping[str, str]) -> None:
        """Print where the page is, or why there is none, as one line."""
        self._print("web", {"url": None, "error": None, **told})
        self._out.flush()

    def _print(self, name: str, fields: dict[str, Any]) -> None:
        self._out.write(json_text(msgspec.json.encode({"event": name, **fields})) + "\n")


def _brief(outcome: Outcome) -> dict[str, Any]:
    completion = outcome.completion
    usage = completion.usage if completion is not None else None
    return {
        "id": row_of(outcome.key),
        "answer_number": number_of(outcome.key),
        "status": outcome.status,
        "kept": outcome.kept,
        "finish_reason": completion.finish_reason if completion is not None else None,
        "error_code": outcome.error_code,
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "attempts": outcome.attempts,
    }


def _of_page(told: Mapping[str, str]) -> str:
    """Return the line about the page of a session. The secret in the address is what opens it, so it is shown as it is."""
    return f"live view: {told['url']}" if "url" in told else f"there is no live view: {clean(told['error'])}"


def choose(db: str, *, quiet: bool, as_json: bool, exported: bool = False) -> View:
    """Return the view for the options and for what standard error is. exported: see ``View``."""
    if as_json:
        return JsonLines(db)
    if quiet:
        return View(db)
    return (Live if is_live() else Lines)(db, exported=exported)
