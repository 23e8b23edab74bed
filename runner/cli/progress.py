"""Observers for a terminal, a log file and a program: events in, a tqdm bar, plain lines or JSON lines out."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self

import msgspec
from tqdm import tqdm

from runner.cli import output
from runner.cli.tqdm_internals import disp_len
from runner.events import Event, Finished, Progress, Saved, Started, Stopping
from runner.model import Outcome
from runner.text import clean

LINE_S = 5.0
"""Without a terminal: a line this often."""
_BAR_COLUMNS = 10
# from wide to narrow, each with the rank of the phrases that must fit beside it
_LAYOUTS = (
    ("{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]{postfix}", 2),
    ("{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}", 2),
    ("{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}", 1),
    ("{percentage:3.0f}% {n_fmt}/{total_fmt}{postfix}", 0),
    ("{percentage:3.0f}%{postfix}", -1),
)


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
                self.say(output.headline(event))
            case Progress():
                self.progress(event)
            case Stopping() if event.in_flight:
                self.say(output.stopping(event))
            case Finished():
                self.close()
                self.say(output.summary(event.summary, self._db))
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
            print(line(event), file=sys.stderr, flush=True)


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
            # the whole session's rate, not the last second's
            self._bar = tqdm(total=event.rows, initial=event.restored, unit=" items", smoothing=0, leave=False, bar_format=" ")
        bar = self._bar
        bar.n = event.restored + event.done + event.failed
        # measured here and not by tqdm, so that the words are chosen for the width that is drawn
        bar.ncols = columns = _columns()
        bar.bar_format, words = _fitted(bar, phrases(event), columns, still=_still(event))
        bar.set_postfix_str(words, refresh=False)
        bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def line(event: Progress) -> str:
    """Give progress as a plain line."""
    now = event.done + event.failed
    rate = now / event.elapsed_s if event.elapsed_s > 0 else 0.0
    left = event.rows - event.restored - now
    remaining = f", {output.clock(left / rate)} left" if rate > 0 and left > 0 and not _still(event) else ""
    words = ", ".join(words for _, words in phrases(event))
    return f"{event.restored + now:,} of {event.rows:,}: {words}, {rate:.1f} items/s{remaining}"


def _still(event: Progress) -> bool:
    """Nothing goes out or is out, so nobody knows how long it will take."""
    return event.in_flight == 0 and any(lane.blocked for lane in event.pace.lanes)


def phrases(event: Progress) -> list[tuple[int, str]]:
    """Say how the session goes on: (rank, words) in the order of reading; rank 0, why things wait, matters most."""
    rate = event.output_tokens / event.elapsed_s if event.elapsed_s > 0 else 0.0
    lanes = event.pace.lanes
    ceilings = [lane.ceiling for lane in lanes]
    # lanes share the ceiling
    in_flight, slots = sum(lane.in_flight for lane in lanes), min(sum(lane.slots for lane in lanes), max(ceilings, default=0))
    found = [
        (4, f"{event.done:,} done"),
        (1 if event.failed else 6, f"{event.failed:,} failed"),
        (2, f"{in_flight:,} of {slots:,} in flight" if lanes else f"{event.in_flight:,} in flight"),
        (5, f"{rate:,.0f} tokens/s"),
    ]
    for lane in lanes:
        if lane.waiting:
            name = f"{clean(lane.model, 30)}: " if len(lanes) > 1 else ""
            # one reason is worth more than the places of all
            found.append((min(1, sum(rank == 0 for rank, _ in found)), name + clean(lane.waiting)))
    if event.pace.retrying:
        found.append((3, clean(event.pace.retrying)))
    return found


def _columns() -> int:
    """Measure the terminal; the last column stays free, for some terminals go to the next line behind it."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # a terminal that does not know its width says 0
    return max(1, (columns or 80) - 1)


def _fitted(bar: "tqdm[Any]", found: Sequence[tuple[int, str]], columns: int, *, still: bool) -> tuple[str, str]:
    """Choose the widest layout beside which all that matters has room, and the words behind it."""
    layout, room = "", 0
    for full, rank in _LAYOUTS:
        layout = full.replace("<{remaining}", "") if still else full
        without = {**bar.format_dict, "bar_format": layout.replace("{bar}", ""), "postfix": "", "ncols": None}
        taken = disp_len(tqdm.format_meter(**without)) + (_BAR_COLUMNS if "{bar}" in layout else 0)
        # tqdm puts a comma and a space before the words
        room = columns - taken - 2
        needed = ", ".join(words for of, words in found if of <= rank)
        if disp_len(needed) <= room:
            break
    return layout, _kept(found, room)


def _kept(found: Sequence[tuple[int, str]], columns: int) -> str:
    """Join the phrases that have room, those that matter most; only the reason why things wait is cut short."""
    left = list(found)
    while left:
        words = ", ".join(words for _, words in left)
        if disp_len(words) <= columns:
            return words
        # among equals the last one goes
        least = max(reversed(left), key=lambda phrase: phrase[0])
        if least[0] == 0:
            return clean(words, columns)
        left.remove(least)
    return ""


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
        "kept": outcome.kept,
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
