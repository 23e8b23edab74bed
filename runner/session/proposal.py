"""Proposes what to ask about a table without a column of prompts: a template that names what is most likely its text. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from statistics import median

from runner.inputs.keys import NEVER_ABSENT, WHOLE_ROW

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


def expression(name: str) -> str:
    """Return the expression by which a template or a condition names a field."""
    return name if name.isidentifier() and name not in _WORDS else f"{WHOLE_ROW}[{json.dumps(name, ensure_ascii=False)}]"


def asking(name: str) -> str:
    """Return a template that asks about a field."""
    return f"Summarize: {{{{ {expression(name)} }}}}"


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
