"""A Markdown table for a glance, as GitHub and others show it. Every text is shown, never obeyed; long ones are shortened.

By default it has only what a glance needs; the other formats have all of it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import IO

from runner.exports.kinds import text_of
from runner.text import escaped, plural

GLANCE = ("id", "prompt", "text", "answer_number", "status", "error")
"""The columns of ours that are written unless some are chosen."""
_MOST = 200
"""Characters of a cell, without those that only escape others."""
_MARK = "\N{HORIZONTAL ELLIPSIS}"
# what begins or ends markup inside a cell. An underscore inside a word is none
_MARKUP = re.compile(r"[\\`*\[\]<|$]|~(?=~)|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
_EDGES = re.compile(r"^ +| +$")


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str], *, notes: list[str] | None = None) -> int:
    """Write a header and a line for each record; return the number of records. notes: receives a sentence about short cells."""
    table = _Table()
    out.write(table.line(columns) + "|---" * len(columns) + "|\n")
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007 - the last count is the result
        out.write(table.line(record))
    if notes is not None and table.shortened:
        cells = "1 cell is" if table.shortened == 1 else f"{table.shortened:,} cells are"
        notes.append(
            f"{cells} longer than {plural(_MOST, 'character')} and shortened, with {_MARK} at the end; "
            "the other formats have the whole texts"
        )
    return count


class _Table:
    """Makes lines of a table, and counts the cells that are shortened."""

    def __init__(self) -> None:
        self.shortened = 0

    def line(self, values: Iterable[object]) -> str:
        """Return a line with its line end."""
        return f"| {' | '.join(map(self._cell, values))} |\n"

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        text = text_of(value)
        if len(text) > _MOST:
            self.shortened += 1
            text = text[: _MOST - 1] + _MARK
        return _shown(text)


def _shown(text: str) -> str:
    """Return a text so that Markdown shows what it is, in one line."""
    text = _MARKUP.sub(r"\\\g<0>", text)
    text = _EDGES.sub(lambda spaces: "&#32;" * len(spaces[0]), text)
    text = re.sub("\r\n|\r|\n", "<br>", text).replace("\u2028", "<br>").replace("\u2029", "<br>")
    return escaped(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text))
