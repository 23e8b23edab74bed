"""Small tables for notebooks. Every text is foreign: it is escaped, made harmless and cut. Nothing is loaded from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape, unescape

import msgspec

from runner.text import clean, encodable_tree

_WIDTH = 200
"""Columns of a text that are shown."""
_SHORT = 24
"""Characters that stay in one line: a key, a number, a status."""
_CELL = "text-align: left; vertical-align: top; max-width: 40em; "
_ONE_LINE, _LINES = "white-space: nowrap", "min-width: 12em; overflow-wrap: anywhere"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """Return a table. caption: a sentence below it."""
    head = "".join(_cell("th", name) for name in header)
    body = "".join(f"<tr>{''.join(_cell('td', cell) for cell in row)}</tr>" for row in rows)
    begin = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f"<table>{begin}<tbody>{body}</tbody></table><p>{shown(caption)}</p>"


def _cell(tag: str, value: object) -> str:
    text = shown(value)
    return f'<{tag} style="{_CELL}{_ONE_LINE if len(unescape(text)) <= _SHORT else _LINES}">{text}</{tag}>'


def shown(value: object) -> str:
    """Return a value as text that is safe in HTML, in one line."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 2**63 else "a large number"
    if not isinstance(value, str):
        value = msgspec.json.encode(encodable_tree(value)).decode()
    return escape(clean(value, _WIDTH))
