"""Shows a session of a Python program to a person who looks: in a terminal or a notebook, elsewhere only if that is asked for.

A terminal has the three lines of the command on standard error, where nothing mixes with what the program prints. A notebook
has one output per session that is replaced twice a second, as plain text: it looks the same in Jupyter, VS Code and Colab,
stays in the saved notebook, and needs no widgets. Everywhere else nothing is shown: in a script whose standard error is a file
or a pipe, in threads beside the main one, in processes of a pool. With ``progress=True`` such a program writes a line every few
seconds.
"""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex

from runner.event_types import Event, Finished, Noted, Progress, Started, Stopping
from runner.interfaces import Observer
from runner.progress import screen, words
from runner.progress.terminal import ThreeLines, is_live
from runner.session import spelling
from runner.text import clean, redact

LINE_S = 5.0
"""Without a terminal, a line is written at most this often, in seconds."""
_COLUMNS = 88
"""Width of the lines in a notebook: it fits beside the file list of Jupyter and VS Code."""


@contextmanager
def watched(progress: bool | None, observe: Observer | None) -> Iterator[Observer | None]:
    """Yield the observer of a session, which also shows it. progress: True and False decide; None looks whether a person does.

    An observer of the program's own shows what it wants, so that with one None means False.
    """
    view = _view(progress, alone=observe is None)
    if view is None:
        yield observe
        return
    try:
        yield _both(view.tell, observe)
    finally:
        view.end()


def _both(first: Observer, second: Observer | None) -> Observer:
    if second is None:
        return first

    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell


def _view(progress: bool | None, *, alone: bool) -> "_View | None":
    if progress is False or (progress is None and not (alone and _is_in_front())):
        return None
    if (shell := _notebook()) is not None:
        return _Notebook(shell)
    if is_live():
        return _Terminal()
    return _Lines() if progress and sys.stderr is not None else None


def _is_in_front() -> bool:
    """Return False in a thread beside the main one and in a process of a pool: of many sessions at once none is looked at."""
    processes = sys.modules.get("multiprocessing.process")
    child = processes is not None and processes.parent_process() is not None
    return not child and threading.current_thread() is threading.main_thread()


def _notebook() -> object | None:
    """Return the shell of the notebook that this program is; None if it is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


class _View(ABC):
    """Shows events. What cannot be shown, such as in a terminal that was closed, ends the showing and not the run."""

    def __init__(self) -> None:
        self._lost = False

    def tell(self, event: Event) -> None:
        """Show one event."""
        self._try(lambda: self._show(event))

    def end(self) -> None:
        """Remove what is only temporary."""
        self._try(self._close)

    def _try(self, call: Callable[[], None]) -> None:
        if self._lost:
            return
        try:
            call()
        except Exception:  # noqa: BLE001 - of whatever stands behind standard error or a notebook
            self._lost = True

    def _show(self, event: Event) -> None:
        match event:
            case Started():
                for note in event.notes:
                    self._say(clean(note))
                self._say(words.headline(event))
            case Noted():
                self._say(clean(event.note))
            case Progress():
                self._progress(event)
            case Stopping(code=None):
                # an error is raised, with the same words
                wait = words.waiting(event, "interrupt again")
                reason = clean(redact(event.reason))
                self._say(f"{reason.rstrip('.')}; {wait}" if wait else reason)
            case Finished(summary=end):
                self._close()
                self._say(spelling.how_ended(end))
            case _:
                pass

    @abstractmethod
    def _say(self, text: str) -> None:
        """Show a line that stays."""

    @abstractmethod
    def _progress(self, event: Progress) -> None:
        """Show how far the session is."""

    @abstractmethod
    def _close(self) -> None:
        """Remove what is only temporary."""


class _Lines(_View):
    """Writes plain lines on standard error, one every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._due = time.monotonic() + LINE_S

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _progress(self, event: Progress) -> None:
        if (now := time.monotonic()) >= self._due:
            self._due = now + LINE_S
            self._say(words.line(event))

    def _close(self) -> None:
        """Every line stays."""


class _Terminal(_View):
    """Keeps three lines up to date, and says everything else above them."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = ThreeLines()

    def _say(self, text: str) -> None:
        self._lines.remove()
        print(text, file=sys.stderr, flush=True)

    def _progress(self, event: Progress) -> None:
        self._lines.draw(event)

    def _close(self) -> None:
        self._lines.remove()


class _Notebook(_View):
    """Keeps one output of a cell up to date: what was said, and the three lines below it."""

    def __init__(self, shell: object) -> None:
        super().__init__()
        self._id = token_hex(8)
        self._publish = shell.display_pub.publish  # type: ignore[attr-defined]
        self._said: list[str] = []
        self._shown = False

    def _say(self, text: str) -> None:
        self._said.append(text)
        self._update([])

    def _progress(self, event: Progress) -> None:
        self._update(screen.lines(event, screen.Look(_COLUMNS)))

    def _close(self) -> None:
        if self._shown:
            self._update([])

    def _update(self, lines: list[str]) -> None:
        text = "\n".join([*self._said, *(line.rstrip() for line in lines)])
        self._publish(data={"text/plain": text}, metadata={}, transient={"display_id": self._id}, update=self._shown)
        self._shown = True
