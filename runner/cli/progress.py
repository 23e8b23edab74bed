"""Observers for a terminal, a log file and a program: they print events as a tqdm bar, as plain lines or as JSON lines."""

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
from runner.events import Event, Finished, Noted, Progress, Saved, Started, Stopping
from runner.model import Outcome
from runner.text import clean, json_text

LINE_S = 5.0
"""Without a terminal, a progress line is printed at most this often, in seconds."""
_BAR_COLUMNS = 10
# layouts from wide to narrow; each with the highest rank of a phrase that must fit next to it
_LAYOUTS = (
    ("{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]{postfix}", 2),
    ("{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}", 2),
    ("{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}", 1),
    ("{percentage:3.0f}% {n_fmt}/{total_fmt}{postfix}", 0),
    ("{percentage:3.0f}%{postfix}", -1),
)


class View:
    """Shows a session to a person or a program. A context manager; its method ``tell`` is the observer."""

    def __init__(self, db: str) -> None:
        self._db = db
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def tell(self, event: Event) -> None:
        """Show one event. A failed write ends the output, not the run, because the results are in the store."""
        if self._broken:
            return
        try:
            self.show(event)
        except OSError:
            # a closed pipe, a terminal that was closed, a log file on a full disk
            self._broken = True

    def show(self, event: Event) -> None:
        """Show one event. The base class, used for --quiet, shows nothing."""

    def close(self) -> None:
        """Remove from the screen what is only temporary."""


class _Text(View, ABC):
    def show(self, event: Event) -> None:
        match event:
            case Started():
                for note in event.notes:
                    self.say(clean(note))
                self.say(output.headline(event))
            case Noted():
                self.say(clean(event.note))
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
        """Show how far the session is."""


class Lines(_Text):
    """Prints plain lines on standard error, one every few seconds."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self._next = time.monotonic() + LINE_S

    def progress(self, event: Progress) -> None:
        """Print a line if the last one is at least ``LINE_S`` old."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_S
            print(line(event), file=sys.stderr, flush=True)


class Bar(_Text):
    """Draws a tqdm bar. Rows of earlier sessions count as progress, but not towards the rate."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self._bar: tqdm[Any] | None = None
        # tqdm's monitor thread would only redraw a bar that every Progress event redraws anyway
        tqdm.monitor_interval = 0

    def say(self, text: str) -> None:
        """Print text above the bar."""
        if self._bar is not None:
            self._bar.clear()
        super().say(text)
        if self._bar is not None:
            self._bar.refresh()

    def progress(self, event: Progress) -> None:
        """Redraw the bar."""
        if self._bar is None:
            # smoothing=0: the rate is that of the whole session, not of the last second
            self._bar = tqdm(total=event.rows, initial=event.restored, unit=" rows", smoothing=0, leave=False, bar_format=" ")
        bar = self._bar
        bar.n = event.restored + event.done + event.failed
        # measured here and not by tqdm, so that the phrases are chosen for the width that is drawn
        bar.ncols = columns = _columns()
        bar.bar_format, words = _fitted(bar, phrases(event), columns, still=_still(event))
        bar.set_postfix_str(words, refresh=False)
        bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def line(event: Progress) -> str:
    """Return progress as a plain line."""
    settled = event.done + event.failed
    rate = settled / event.elapsed_s if event.elapsed_s > 0 else 0.0
    left = event.rows - event.restored - settled
    remaining = f", {output.clock(left / rate)} left" if rate > 0 and left > 0 and not _still(event) else ""
    words = ", ".join(words for _, words in phrases(event))
    return f"{event.restored + settled:,} of {event.rows:,}: {words}, {rate:.1f} rows/s{remaining}"


def _still(event: Progress) -> bool:
    """Return True if no request is open and none may be sent, so that the time left is unknown."""
    return event.in_flight == 0 and any(lane.blocked for lane in event.pace.lanes)


def phrases(event: Progress) -> list[tuple[int, str]]:
    """Return the phrases of a progress line in reading order, each with a rank. Rank 0, the reason for a wait, matters most."""
    rate = event.output_tokens / event.elapsed_s if event.elapsed_s > 0 else 0.0
    lanes = event.pace.lanes
    ceilings = [lane.ceiling for lane in lanes]
    # the lanes of a session share one ceiling
    in_flight, slots = sum(lane.in_flight for lane in lanes), min(sum(lane.slots for lane in lanes), max(ceilings, default=0))
    ranked = [
        (4, f"{event.done:,} done"),
        (1 if event.failed else 6, f"{event.failed:,} failed"),
        (2, f"{in_flight:,} of {slots:,} in flight" if lanes else f"{event.in_flight:,} in flight"),
        (5, f"{rate:,.0f} tokens/s"),
    ]
    for lane in lanes:
        if lane.waiting:
            name = f"{clean(lane.model, 30)}: " if len(lanes) > 1 else ""
            # the first reason has rank 0; every further one has to make room for it
            ranked.append((min(1, sum(rank == 0 for rank, _ in ranked)), name + clean(lane.waiting)))
    if event.pace.retrying:
        ranked.append((3, clean(event.pace.retrying)))
    return ranked


def _columns() -> int:
    """Return the width of the terminal less one column: some terminals start a new line after the last one."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # a terminal that does not know its width reports 0
    return max(1, (columns or 80) - 1)


def _fitted(bar: "tqdm[Any]", ranked: Sequence[tuple[int, str]], columns: int, *, still: bool) -> tuple[str, str]:
    """Return the widest layout that leaves room for the phrases it requires, and the words that follow the bar."""
    layout, room = "", 0
    for full, rank in _LAYOUTS:
        layout = full.replace("<{remaining}", "") if still else full
        barless = {**bar.format_dict, "bar_format": layout.replace("{bar}", ""), "postfix": "", "ncols": None}
        taken = disp_len(tqdm.format_meter(**barless)) + (_BAR_COLUMNS if "{bar}" in layout else 0)
        # 2: tqdm puts a comma and a space before the words
        room = columns - taken - 2
        needed = ", ".join(words for importance, words in ranked if importance <= rank)
        if disp_len(needed) <= room:
            break
    return layout, _kept(ranked, room)


def _kept(ranked: Sequence[tuple[int, str]], columns: int) -> str:
    """Join as many phrases as fit, dropping the least important ones. Only the reason for a wait may be cut short."""
    left = list(ranked)
    while left:
        words = ", ".join(words for _, words in left)
        if disp_len(words) <= columns:
            return words
        # of several with the same rank, the last one is dropped
        least = max(reversed(left), key=lambda phrase: phrase[0])
        if least[0] == 0:
            return clean(words, columns)
        left.remove(least)
    return ""


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

    def _print(self, name: str, fields: dict[str, Any]) -> None:
        self._out.write(json_text(msgspec.json.encode({"event": name, **fields})) + "\n")


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
    """Return the view for the options and for what standard error is."""
    if as_json:
        return JsonLines(db)
    if quiet:
        return View(db)
    return Bar(db) if sys.stderr.isatty() else Lines(db)
