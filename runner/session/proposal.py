"""Proposes what to ask about a table without a column of prompts: a template that names what is most likely its text. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from runner.inputs.attachments import sources_in
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.keys import NEVER_ABSENT, WHOLE_ROW
from runner.inputs.sources import kind_of
from runner.model import Json

# what Jinja reads as something else than the name of a field
_OF_JINJA = frozenset(
    (
        "and", "elif", "else", "endif", "false", "False", "if", "in", "is", "none", "None", "not", "or", "true", "True",
        "caller", "kwargs", "loop", "self", "super", "varargs",
    )
)  # fmt: skip
_WORDS = _OF_JINJA | NEVER_ABSENT - {WHOLE_ROW}
"""Names that mean something else in a template, or would in a row that lacks the field, which would then be no broken row."""
_BLANK = re.compile(r"\s")
_MOST_CELLS = 0.8
"""Share of the cells of a column that must be files, at least."""


def expression(name: str) -> str:
    """Return the expression by which a template or a condition names a field."""
    return name if name.isidentifier() and name not in _WORDS else f"{WHOLE_ROW}[{json.dumps(name, ensure_ascii=False)}]"


def asking(name: str) -> str:
    """Return a template that asks about a field."""
    return f"Summarize: {{{{ {expression(name)} }}}}"


class MediaColumns(NamedTuple):
    """Columns that name or hold files: pictures alone, and files of any kind."""

    images: list[str]
    files: list[str]

    @property
    def prompt(self) -> str:
        """A prompt for rows that have nothing but files."""
        return "What is in this picture?" if self.images else "Summarize this file."


def media_columns(columns: Mapping[str, Sequence[Json]]) -> MediaColumns:
    """Return the columns most of whose cells are paths, URLs or data URIs of files that can be sent.

    columns: some cells of each.
    """
    found = MediaColumns([], [])
    for name, cells in columns.items():
        kinds = [_kinds(name, cell) for cell in cells]
        sent = [kind for kind in kinds if kind and "" not in kind]
        if len(sent) > len(kinds) * _MOST_CELLS:
            (found.images if all(kind == {"image"} for kind in sent) else found.files).append(name)
    return found


def _kinds(name: str, cell: Json) -> set[str]:
    """Return the kinds of files that a cell names; an empty kind if something else is in it."""
    try:
        return {kind_of(source) for source in sources_in(name, cell)}
    except RowFaultError:
        return {""}


def likely_texts(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of columns, the most likely text first: the longest cells that are more than a word or an address.

    columns: some cells of each column. The column ``id`` comes last.
    """

    def rank(name: str) -> tuple[bool, bool, float]:
        cells = columns[name]
        # many languages have no blanks between their words
        prose = sum(not cell.isascii() or _BLANK.search(cell.strip()) is not None for cell in cells)
        return name != "id", prose * 2 > len(cells), median(map(len, cells)) if cells else 0.0

    return sorted(columns, key=rank, reverse=True)
