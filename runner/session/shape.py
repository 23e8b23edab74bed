"""Refuses an input whose rows lie in another shape: messages of a chat in place of rows, one object with all rows, columns."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from runner.errors import UsageError
from runner.inputs import spool
from runner.inputs.choosing import Rows
from runner.inputs.json_rows import TOO_LONG
from runner.inputs.keys import NEVER_ABSENT
from runner.inputs.options import ReadOptions
from runner.model import Json, Row
from runner.text import shell_word

CHAT = '{"messages": [{"role": "user", "content": "..."}, ...]}'
"""How the row of a chat is written in a file."""
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_ASKS = ("prompt", "messages", "body")
"""Fields by which a row has something to ask, where there is no template."""
_FIRST = 10
"""Rows that are looked at."""
_DEEPEST = 3
"""Objects inside of each other in which rows are looked for."""
_NAME = rb'\s*\{\s*("(?:[^"\\]|\\.)*")\s*:\s*'
# how an object begins that is too long to be read
_LONG_LIST, _LONG_COLUMNS = re.compile(_NAME + rb"\[\s*\{"), re.compile(_NAME + rb'\{\s*"0"\s*:')
_PANDAS = 'pandas writes rows with df.to_json("rows.jsonl", orient="records", lines=True)'


def refuse(path: Path, read: Callable[[], Rows], options: ReadOptions) -> None:
    """Raise UsageError if the first rows show that each is a message of a chat, or that there is one row which holds all rows.

    What is asked for is not refused: such a row has no prompt, and lacks what the template names. Only where the columns are
    those of pandas for certain, the template may name them: all cells of a column would go into one request.
    """
    # what a plug-in returns may have no close()
    rows = iter(read())
    first = next(rows, None)
    if first is None:
        return
    if _asks(first, options.asked):
        if _has_index(first.fields or {}) and next(rows, None) is None:
            raise _of_columns(path)
        return
    if options.asked is None and _is_message(first) and all(map(_is_message, islice(rows, _FIRST))):
        raise of_messages(spool.display_name(path), lambda template: f"--prompt {shell_word(template)}", CHAT)
    if next(rows, None) is None:
        refuse_one(path, first)


def _asks(row: Row, asked: frozenset[str] | None) -> bool:
    fields = row.fields or {}
    if asked is None:
        return not fields.keys().isdisjoint(_ASKS)
    return not asked - NEVER_ABSENT or not asked.isdisjoint(fields)


def refuse_one(path: Path, row: Row) -> None:
    """Raise UsageError if the only row of a file holds rows itself, or columns."""
    texts = [name for name, value in (row.fields or {}).items() if _are_texts(value)]
    if texts and row.fields is not None and list(row.fields) == texts[:1] and spool.MEMORY not in path.name:
        way = f"`jq {shell_word(_step(texts[0]))}` takes that list out"
        raise UsageError(f"{spool.display_name(path)} is one JSON object, and its prompts are in {_step(texts[0])}: {way}")
    where = _place_of_rows(row)
    if where is not None:
        way = "pass that list" if spool.MEMORY in path.name else f"`jq -c {shell_word(f'{where}[]')}` makes JSON lines of them"
        raise UsageError(f"{spool.display_name(path)} is one JSON object, and its rows are in {where}: {way}")
    if _has_columns(row.fields) if row.fields is not None else _is_too_long(row) and _LONG_COLUMNS.match(row.raw):
        raise _of_columns(path)


def _is_too_long(row: Row) -> bool:
    return row.fault is not None and row.fault.startswith(TOO_LONG)


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _of_columns(path: Path) -> UsageError:
    return UsageError(f"{spool.display_name(path)} holds columns in place of rows; {_PANDAS}")


def _place_of_rows(row: Row) -> str | None:
    """Return where the rows are in an object, as jq says it: in a list of objects, the least deep, then the longest."""
    if row.fields is not None:
        return min(_lists(row.fields, ""), default=(0, 0, None))[2]
    match = _LONG_LIST.match(row.raw) if _is_too_long(row) else None
    return _step(match[1].decode(errors="replace")[1:-1]) if match is not None else None


def _lists(value: Json, at: str, depth: int = 0) -> Iterator[tuple[int, int, str | None]]:
    """Yield the lists of objects in an object: how deep they are, their length as a negative number, and where they are."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield depth, -len(value), at
    if isinstance(value, dict) and depth < _DEEPEST:
        for name, inner in value.items():
            yield from _lists(inner, at + _step(name), depth + 1)


def _step(name: str) -> str:
    return f".{name}" if name.isascii() and name.isidentifier() else f".[{json.dumps(name, ensure_ascii=False)}]"


def _has_columns(fields: Mapping[str, Json]) -> bool:
    """Return True for columns in any of the forms in which pandas writes them: objects with the same names, lists, split."""
    values = list(fields.values())
    if not values:
        return False
    if fields.keys() >= {"columns", "index", "data"}:
        return all(isinstance(value, list) for value in values)
    if all(isinstance(value, dict) for value in values):
        return _has_index(fields) or (len(values) > 1 and all(value and value.keys() == values[0].keys() for value in values))
    return all(isinstance(value, list) and len(value) == len(values[0]) > 1 for value in values)


def _has_index(fields: Mapping[str, Json]) -> bool:
    """Return True for columns as pandas writes them by default: an object for each, with the numbers of the rows as names."""
    values = list(fields.values())
    if not all(isinstance(value, dict) and value for value in values):
        return False
    names = list(map(str, range(len(values[0])))) if values else []
    return bool(names) and all(list(value) == names for value in values)


def _is_message(row: Row) -> bool:
    return row.fields is not None and is_message(row.fields)


def is_message(fields: Mapping[str, Json]) -> bool:
    """Return True for a message of a chat, which has nothing to ask as a row."""
    return fields.get("role") in _ROLES and "content" in fields and fields.keys().isdisjoint(_ASKS)


def of_messages(called: str, spelled: Callable[[str], str], one: str) -> UsageError:
    """Return the sentence about rows that are messages. one: how the row of a chat is written."""
    return UsageError(
        f"{called} has a message of a chat in each row (role, content), but a row is a request of its own: a chat is one row, "
        f"{one}. {spelled('{{ content }}')} asks each message by itself"
    )
