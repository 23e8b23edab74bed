"""Reads what ``runner`` advises to type next: the command, and how many rows its words say that it sends."""

import re
import shlex
from typing import NamedTuple

_LINE = re.compile(r"^(next|also): (runner .*?)(?: +\((.*)\))?$", re.MULTILINE)
_WORDS = re.compile(r"\n +\((.*)\)")


class Advised(NamedTuple):
    """One line of advice. arguments: of ``runner``. rows: how many it says it sends, at most; 0: it says it sends nothing."""

    arguments: tuple[str, ...]
    words: str
    rows: int


def advised(out: str) -> list[Advised]:
    """Return every line of advice of an output."""
    found = []
    for match in _LINE.finditer(out):
        words = match[3] or (after[1] if (after := _WORDS.match(out, match.end())) else "")
        number = re.search(r"sends (?:the other )?([\d,]+) (?:failed )?rows?", words)
        rows = int(number[1].replace(",", "")) if number else "sends the last row" in words
        found.append(Advised(tuple(shlex.split(match[2])[1:]), words, int(rows)))
    return found
