"""Reads the ids of rows from a file, and finds them among those of a run."""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runner import databases
from runner.errors import UsageError
from runner.inputs.keys import whole
from runner.inputs.options import ReadOptions
from runner.model import Json, Row, Run
from runner.session import part
from runner.several import key_of, keys_of
from runner.store.samples import settled_keys
from runner.text import clean, plural

_OPENED = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls", ".ods", ".gz", ".zst", ".bz2", ".xz")
"""Endings of files that are read as prompt files are; any other has an id a line, or the rows of an export."""
_SPOKEN = re.compile(r"(.+) \(answer ([0-9]{1,9})\)", re.DOTALL)
"""An answer of a row as messages name it (``several.spoken``)."""
_SHOWN = 5


def read(file: str) -> list[str]:
    """Return the ids in a file, or on standard input (``-``). One may be that of a single answer, as ``several.spoken`` has it.

    Raises UsageError for a file that cannot be read, or has no ids.
    """
    path = Path(file)
    if file != "-" and not path.exists():
        raise UsageError(f"there is no file of ids {_name(file)}")
    if file != "-" and path.suffix.lower() in _OPENED:
        found = list(_of_rows(map(_fields, part.opened(path, ReadOptions()).read())))
    else:
        found = list(_of_text(_text(path, file)))
    if not found:
        raise UsageError(f"{_name(file)} has no ids: one on each line, or a column or field named id")
    return found


def _text(path: Path, file: str) -> str:
    if file == "-":
        data = sys.stdin.buffer.read()
    else:
        if databases.is_used(path):
            raise UsageError(f"{_name(file)} is a store, not a file of ids")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{_name(file)} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{_name(file)} is not UTF-8 (byte {error.start + 1:,})") from error


def _of_text(text: str) -> Iterator[str]:
    """Yield the ids of lines, of JSON objects, one a line, or of a table of texts that has a column named id."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith("{"):
        yield from _of_rows(map(_object, lines))
        return
    top = lines[0] if lines else ""
    delimiter = next((one for one in (",", ";", "\t") if one in top and "id" in top.split(one)), None)
    if delimiter is not None:
        yield from _of_rows(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        return
    yield from lines[1:] if top == "id" else lines


def _fields(row: Row) -> Mapping[str, Json]:
    if row.fields is None:
        raise UsageError(f"{row.place} {row.line} of the file of ids cannot be read: {row.fault}")
    return row.fields


def _object(line: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"a line of ids begins with {{ and is no JSON object: {clean(line, 60)}") from error


def _of_rows(rows: Iterable[Any]) -> Iterator[str]:
    for fields in rows:
        own = as_text(fields.get("id"))
        if own is not None:
            number = fields.get("answer_number")
            yield own if number is None else f"{own} (answer {as_text(number)})"


def as_text(own: Json) -> str | None:
    """Return an id as the key of its row has it; None for what is none."""
    number = whole(own)
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    return own if isinstance(own, str) and own else None


def found(ids: Iterable[str], store: Path, run: Run, file: Path | None) -> tuple[str, ...]:
    """Return the keys of all answers of the rows with these ids. file: where the ids are from; None: a program.

    Raises UsageError if the run has no result of one.
    """
    wanted = {one: keys_of([one], run.answers) for one in ids}
    known = settled_keys(store, run.id, (key for keys in wanted.values() for key in keys)).keys()
    for one, keys in wanted.items():
        spoken = _SPOKEN.fullmatch(one)
        if spoken is not None and known.isdisjoint(keys):
            wanted[one] = [key_of(spoken[1], int(spoken[2]))]
    known = settled_keys(store, run.id, (key for keys in wanted.values() for key in keys)).keys()
    missing = [one for one, keys in wanted.items() if known.isdisjoint(keys)]
    if missing:
        first = ", ".join(repr(clean(one, 40)) for one in missing[:_SHOWN])
        more, of = ", ..." if len(missing) > _SHOWN else "", f" in {_name(str(file))}" if file is not None else ""
        raise UsageError(
            f"run {run.id} has no result for {len(missing):,} of {plural(len(wanted), 'id')}{of}: {first}{more}; "
            "nothing was sent. "
            f"`runner export {run.id} -o -` lists the ids, and `runner resume {run.id}` sends rows that have no result yet"
        )
    return tuple(key for keys in wanted.values() for key in keys if key in known)


def _name(file: str) -> str:
    return "standard input" if file == "-" else clean(file)
