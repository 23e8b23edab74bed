"""Keeps three lines at the end of a terminal up to date, on standard error."""

import os
import sys

from runner.event_types import Progress
from runner.progress import screen

_HEIGHT = 3


def is_live() -> bool:
    """Return True if standard error is a terminal that can move its cursor."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class ThreeLines:
    """The three lines. Whoever prints something else takes them away first; they come back with the next progress."""

    def __init__(self) -> None:
        self._shown = False
        self._columns = 0

    def draw(self, event: Progress) -> None:
        """Draw the lines again. Raises OSError."""
        columns, rows = _size()
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        look = screen.Look(columns, colour="NO_COLOR" not in os.environ, ascii_only=not encoding.lower().startswith("utf"))
        drawn = screen.lines(event, look)[: max(1, min(_HEIGHT, rows - 1))]
        if self._shown and columns < self._columns:
            # a terminal that has become narrower has wrapped the old lines
            self.remove()
        self._columns = columns
        up = f"\x1b[{len(drawn) - 1}A" if len(drawn) > 1 else ""
        sys.stderr.write("\r" + "\n".join(f"{text}\x1b[K" for text in drawn) + up + "\r")
        sys.stderr.flush()
        self._shown = True

    def remove(self) -> None:
        """Remove the lines. Raises OSError."""
        if self._shown:
            sys.stderr.write("\r\x1b[J")
            sys.stderr.flush()
            self._shown = False


def _size() -> tuple[int, int]:
    """Return columns and rows of the terminal; one column less, since some terminals start a new line after the last one."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns = rows = 0
    # a terminal that does not know its size reports 0
    return max(1, (columns or 80) - 1), rows or 24
