"""``python tests/support/terminal_picture.py`` draws the picture of the README anew: a real session in a real terminal, as SVG.

The same command is run twice against the simulator: stopped by Ctrl-C, then continued; the second time it is seen while it works.
Nothing is changed in it, but that the temporary folder in which it happens is called ``~``.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from html import escape, unescape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyte
from processes import HANG_S, runner, simulator

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "terminal.svg"
COLUMNS, LINES = 88, 26
ROWS = 1_500
COMMAND = ("run", "reviews.csv", "--max-cost", "5")
_JOB = """input = "reviews.csv"
model = "gpt-5-mini"
prompt = "What does this review say of the product? {{ review }}"
fields = "mood: good|bad|mixed, reason: str"
prices = "list"
[params]
max_tokens = 60
"""
_SIMULATED = ("--seed", "1", "--first-token-s", "0.5", "--fault", "500=0.05")
_VARIES = ("  speed ", "  time ")
"""Lines of a summary that only a session of some length has, or whose words are its own."""
_BELOW = " " * 10
_WIDTH, _HEIGHT, _AROUND = 8.0, 18.0, 14.0
"""Pixels of a character and of a line, and around the whole."""


class Piece(NamedTuple):
    """Characters of one look that stand beside each other. look: classes of the style sheet."""

    column: int
    text: str
    look: str


class Terminal:
    """A terminal that draws what a process writes."""

    def __init__(self) -> None:
        self.folder = ""
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)

    def type(self, text: str) -> None:
        """Show a line that a person has typed."""
        self._stream.feed(f"\x1b[1m$ {text}\x1b[0m\r\n".encode())

    @property
    def text(self) -> str:
        """What is seen, without the blanks at the ends of lines."""
        shown = "\n".join(line.rstrip() for line in self.screen.display).rstrip()
        return shown.replace(self.folder, "~") if self.folder else shown

    def lines(self) -> list[list[Piece]]:
        """Return what is seen, piece by piece."""
        return [list(self._pieces(number)) for number in range(len(self.text.splitlines()))]

    def _pieces(self, number: int) -> Iterator[Piece]:
        cells = [self.screen.buffer[number][column] for column in range(COLUMNS)]
        looks = [" ".join(filter(None, ("b" if cell.bold else "", "" if cell.fg == "default" else cell.fg))) for cell in cells]
        for look, places in groupby(range(COLUMNS), key=looks.__getitem__):
            columns = list(places)
            text = "".join(cells[column].data for column in columns)
            text = text.replace(self.folder, "~") if self.folder else text
            if stripped := text.strip():
                yield Piece(columns[0] + len(text) - len(text.lstrip()), stripped, look)

    def until(self, reading: int, seen: Callable[[str], bool]) -> None:
        """Show what comes from a terminal until something is seen, or nothing more can come."""
        end = time.monotonic() + HANG_S
        while not seen(self.text) and time.monotonic() < end:
            if select.select([reading], [], [], 0.05)[0]:
                try:
                    self._stream.feed(os.read(reading, 65_536))
                except OSError:
                    # the process has closed it
                    return


def percent(text: str) -> int:
    """Return how far the newest session on a screen is."""
    shown = [line.split("%")[0] for line in text.splitlines() if "%  [" in line]
    return int(shown[-1]) if shown else 0


def session(rows: int = ROWS, most: int = 256, look_at: int = 75) -> Terminal:
    """Let the two sessions happen, and return the terminal as it is in the middle of the second.

    most: requests that are open at a time. look_at: how far the second session is then, in percent.
    """
    terminal = Terminal()
    with tempfile.TemporaryDirectory() as place, simulator(*_SIMULATED) as server:
        folder = Path(place)
        (folder / "reviews.toml").write_text(f"max_concurrency = {most}\n{_JOB}")
        (folder / "reviews.csv").write_text("id,review\n" + "".join(f"r{one},Good coffee no. {one}\n" for one in range(rows)))
        env = {"OPENAI_BASE_URL": server.openai, "OPENAI_API_KEY": "none", "TERM": "xterm-256color"}
        for stop_at, stopped in ((25, True), (look_at, False)):
            terminal.type(" ".join(("runner", *COMMAND)))
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
            with closing(os.fdopen(ours, "wb", buffering=0)) as writing, runner(*COMMAND, cwd=folder, env=env, terminal=theirs):
                os.close(theirs)
                terminal.until(ours, lambda text, wanted=stop_at: percent(text) >= wanted)
                if stopped:
                    writing.write(b"\x03")
                    terminal.until(ours, lambda _: False)
    terminal.folder = str(folder)
    return terminal


def drawn(terminal: Terminal) -> str:
    """Return the picture."""
    lines = terminal.lines()
    width, height = COLUMNS * _WIDTH + 2 * _AROUND, len(lines) * _HEIGHT + 2 * _AROUND
    out = [_HEAD.format(width=width, height=height, title=escape(f"A terminal in which runner works: {' '.join(COMMAND)}"))]
    for number, pieces in enumerate(lines):
        y = _AROUND + number * _HEIGHT + 13
        for piece in pieces:
            look = f' class="{piece.look}"' if piece.look else ""
            x, length = _AROUND + piece.column * _WIDTH, len(piece.text) * _WIDTH
            # each piece has its length, whatever font there is
            out.append(f'<text x="{x:g}" y="{y:g}" textLength="{length:g}"{look}>{escape(piece.text)}</text>')
    return "\n".join([*out, "</svg>", ""])


_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"
role="img">
<title>{title}</title>
<style>
text {{ font: 13.3px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
fill: #24292f; white-space: pre }}
rect {{ fill: #f6f8fa; stroke: #d0d7de }}
.b {{ font-weight: bold }} .green {{ fill: #116329 }} .brown {{ fill: #7d4e00 }} .red {{ fill: #a40e26 }}
.cyan {{ fill: #0a5c6b }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} rect {{ fill: #161b22; stroke: #30363d }}
.green {{ fill: #56d364 }} .brown {{ fill: #e3b341 }} .red {{ fill: #ff7b72 }} .cyan {{ fill: #76e3ea }}
}}
</style>
<rect x="0.5" y="0.5" width="99.9%" height="99.7%" rx="8"/>"""


def words(text: str) -> list[str]:
    """Return the words of a screen above its last lines, without numbers and without what depends on how long a session took."""
    said, _, live = text.rpartition("%  [")
    above = (said.rpartition("\n")[0] if live else text).splitlines()
    kept: list[str] = []
    varies = False
    for line in above:
        varies = line.startswith(_VARIES) or (varies and line.startswith(_BELOW))
        kept += [] if varies else [line]
    return re.sub(r"[\d,.:]*\d", "#", "\n".join(kept)).split()


def seen(picture: str) -> str:
    """Return the text of a picture, as a terminal shows it."""
    lines: dict[str, str] = {}
    for x, height, piece in re.findall(r'<text x="([^"]*)" y="([^"]*)"[^>]*>([^<]*)</text>', picture):
        column = round((float(x) - _AROUND) / _WIDTH)
        lines[height] = lines.get(height, "").ljust(column) + unescape(piece)
    return "\n".join(lines.values())


if __name__ == "__main__":
    made = session()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(made), encoding="utf-8")
    sys.stdout.write(f"{made.text}\n")
