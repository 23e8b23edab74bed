"""Observers for a terminal, a log file and a program: events in, a tqdm bar, plain lines or JSON lines out."""

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import IO, Any, Self

import msgspec
from tqdm import tqdm

from runner import report
from runner.events import Event, Finished, Progress, Saved, Started, Stopping
from runner.model import Outcome
from runner.text import clean

LINE_S = 5.0
"""Without a terminal: a line this often."""


class View:
    """Tells a person, or a program, what happens. A context manager; ``tell`` is the observer."""

    def __init__(self, db: str) -> None:
        self._db = db
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def tell(self, event: Event) -> None:
        """Take one event. A reader of our output that has gone does not end the run: its results are in the store."""
        if self._broken:
            return
        try:
            self.show(event)
        except OSError:
            # a closed pipe, a terminal that is gone, a full disk under a log file
            self._broken = True

    def show(self, event: Event) -> None:
        """Show one event; the quiet view shows none."""

    def close(self) -> None:
        """Put the screen in order."""


class _Text(View, ABC):
    def show(self, event: Event) -> None:
        match event:
            case Started():
                for note in event.notes:
                    self.say(clean(note))
                self.say(report.headline(event))
            case Progress():
                self.progress(event)
            case Stopping() if event.in_flight:
                self.say(report.stopping(event))
            case Finished():
                self.close()
                self.say(report.summary(event.summary, self._db))
            case _:
                pass

    def say(self, text: str) -> None:
        print(text, flush=True)

    @abstractmethod
    def progress(self, event: Progress) -> None:
        """Show where the session stands."""


class Lines(_Text):
    """Plain lines on standard error, one every few seconds."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self._next = time.monotonic() + LINE_S

    def progress(self, event: Progress) -> None:
        """Print a line when the last one is old enough."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_S
            print(report.line(event), file=sys.stderr, flush=True)


class Bar(_Text):
    """A tqdm bar; rows of earlier sessions are its beginning, never its speed."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self._bar: tqdm[Any] | None = None
        # its helper thread would only redraw a bar that our ticks redraw anyway
        tqdm.monitor_interval = 0

    def say(self, text: str) -> None:
        """Print above the bar."""
        if self._bar is not None:
            self._bar.clear()
        super().say(text)
        if self._bar is not None:
            self._bar.refresh()

    def progress(self, event: Progress) -> None:
        """Redraw the bar."""
        if self._bar is None:
            self._bar = tqdm(
                total=event.rows,
                initial=event.restored,
                unit=" items",
                # the whole session's rate, not the last second's
                smoothing=0,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]{postfix}",
            )
        self._bar.n = event.restored + event.done + event.failed
        self._bar.set_postfix_str(report.postfix(event), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonLines(View):
    """Events as JSON lines on standard output; an item's text is left to the export."""

    def __init__(self, db: str, out: IO[str] | None = None) -> None:
        super().__init__(db)
        self._out = out or sys.stdout

    def show(self, event: Event) -> None:
        """Print one event."""
        if isinstance(event, Saved):
            for outcome in event.outcomes:
                self._print("item", _brief(outcome))
        elif isinstance(event, Finished):
            self._print("finished", msgspec.to_builtins(event.summary))
        else:
            self._print(type(event).__name__.lower(), msgspec.to_builtins(event))
        self._out.flush()

    def _print(self, name: str, fields: dict[str, Any]) -> None:
        self._out.write(msgspec.json.encode({"event": name, **fields}).decode() + "\n")


def _brief(outcome: Outcome) -> dict[str, Any]:
    completion = outcome.completion
    usage = completion.usage if completion is not None else None
    return {
        "id": outcome.key,
        "status": outcome.status,
        "finish_reason": completion.finish_reason if completion is not None else None,
        "error_code": outcome.error_code,
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "attempts": outcome.attempts,
    }


def choose(db: str, *, quiet: bool, as_json: bool) -> View:
    """Choose the view that fits the options and the terminal."""
    if as_json:
        return JsonLines(db)
    if quiet:
        return View(db)
    return Bar(db) if sys.stderr.isatty() else Lines(db)
