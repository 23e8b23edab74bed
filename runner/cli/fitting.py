"""Lines that are longer than a terminal is wide: they break between words, and go on below the words that they began with."""

import os
import re
import sys
from typing import IO

import click

from runner.text import columns_of

_LABEL = re.compile(r"  \S.{0,12}?\s{2,}(?=\S)| +")
"""What stands before the words of a line: a label in its own column, or blanks."""
_NEVER = ("next: ", "also: ", "      (")
"""Beginnings of lines that are left as they are: a command is copied in one piece."""
_WORD = re.compile(r"(?:`[^`]*`|\S)+")
_LEAST = 40
"""Columns of a terminal in which breaking lines is of use."""


def fitted(text: str, stream: IO[str]) -> str:
    """Return a text for a stream: unchanged, unless that is a terminal and a line is too long for it."""
    columns = width_of(stream)
    return text if columns is None else "\n".join(broken(line, columns) for line in text.split("\n"))


def say(text: str, *, error: bool = False, as_it_is: bool = False) -> None:
    """Print a text. as_it_is: it is for a program."""
    out = sys.stderr if error else sys.stdout
    click.echo(text if as_it_is else fitted(text, out), err=error)


def broken(line: str, columns: int) -> str:
    """Return a line in as many lines as it needs. A long word stays whole, and so does a command in backquotes."""
    if columns_of(line) <= columns or line.startswith(_NEVER):
        return line
    label = _LABEL.match(line)
    begun = label.group() if label is not None else ""
    lines, now, empty = [], begun, True
    for word in _WORD.findall(line[len(begun) :]):
        if not empty and columns_of(f"{now} {word}") > columns:
            lines.append(now)
            now, empty = " " * (columns_of(begun) or 2), True
        now, empty = f"{now}{'' if empty else ' '}{word}", False
    return "\n".join([*lines, now])


def width_of(stream: IO[str]) -> int | None:
    """Return the width in which lines are to fit; None for what is no terminal, or does not know its width."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return None
    # some terminals start a new line after their last column
    return columns - 1 if columns > _LEAST else None
