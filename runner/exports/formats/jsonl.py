"""JSON Lines, the lossless export: one object per line, in the order of the columns.

There are two exceptions: NaN and infinities become null, and a lone surrogate becomes U+FFFD. C1 controls and bidi marks are
written as escapes, which a parser reads as the same characters.
"""

from collections.abc import Iterable, Sequence
from typing import IO

import msgspec

from runner.text import encodable, encodable_tree, json_text

_encode = msgspec.json.Encoder().encode


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str]) -> int:
    """Write all records, with other non-ASCII characters unescaped; return the number of records."""
    names = [encodable(column) for column in columns]
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007 - the last count is the result
        out.write(_line(dict(zip(names, record, strict=True))))
    return count


def _line(fields: dict[str, object]) -> str:
    try:
        return f"{json_text(_encode(fields))}\n"
    except UnicodeEncodeError:
        return f"{json_text(_encode(encodable_tree(fields)))}\n"
