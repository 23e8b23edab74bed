"""Small tables for notebooks. Every text is foreign: it is escaped, made harmless and cut. Nothing is loaded from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from runner.text import clean, encodable_tree

_WIDTH = 200
"""Columns of a text that are shown."""
_CELL = 'style="text-align: left; vertical-align: top; max-width: 40em; overflow-wrap: anywhere"'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """Return a table. caption: a sentence below it."""
    head = "".join(f"<th {_CELL}>{shown(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td {_CELL}>{shown(cell)}</td>' for cell in row)}</tr>" for row in rows)
    begin = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f"<table>{begin}<tbody>{body}</tbody></table><p>{shown(caption)}</p>"


def shown(value: object) -> str:
    """Return a value as text that is safe in HTML, in one line."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 2**63 else "a large number"
    if not isinstance(value, str):
        value = msgspec.json.encode(encodable_tree(value)).decode()
    return escape(clean(value, _WIDTH))
