"""What the tools of an agent tell of runs: the JSON of the commands, as objects, with a limit where there may be much."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from runner import api
from runner.answer_shape import fields_in
from runner.config.settings import SETTINGS
from runner.errors import UsageError
from runner.exports import answer_fields
from runner.model import Result, Run
from runner.origin import files_in
from runner.session import in_json, mending, only, spelling
from runner.session.called import number_of
from runner.session.opening import asked_in
from runner.store.reader import StoreReader
from runner.store.result_rows import located
from runner.text import encodable_tree

MOST_IDS = 100
"""Ids of a cause that are told."""
MOST_ROWS, MOST_BYTES = 1_000, 200_000
"""Of a page of results."""
_LONGEST = 2_000
"""Characters of a text that is cut because the whole would be larger than a page."""
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
_WHOLE = 2_000_000
"""Bytes of a row that is shown whole."""


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return encodable_tree(msgspec.to_builtins(value))


def brief(run: Run) -> dict[str, Any]:
    """Return a run as JSON, of its settings those alone that are not as by default: most calls need no others."""
    told: dict[str, Any] = plain(run)
    settings = {name: value for name, value in told["settings"].items() if value != _DEFAULTS.get(name)}
    return {**told, "settings": settings}


def run_of(store: Path, named: int | str | None, *, counted: bool = True) -> Run:
    """Return a run by its number or its name, by default the newest. Raises UsageError, StoreError."""
    number = number_of(named, store)
    with StoreReader(store) as reader:
        return spelling.told(reader.run(number, counted=counted), str(store))


def runs(store: Path, limit: int) -> dict[str, Any]:
    """Return the newest runs, the oldest of them first, as ``list --json``; and how many older ones there are."""
    every = api.runs(db=store) if store.exists() else []
    newest = every[-_between("limit", limit, MOST_ROWS) :]
    return {"runs": [brief(run) for run in newest], "older": len(every) - len(newest)}


def status(store: Path, named: int | str | None) -> dict[str, Any]:
    """Return a run in full, as ``status --json``."""
    run, books = api.status(named, db=store)
    told: dict[str, Any] = plain(in_json.status(run, books))
    return told


def errors(store: Path, named: int | str | None) -> dict[str, Any]:
    """Return what went wrong by cause, as ``errors --json``, with the first ids of each."""
    with api.errors(number_of(named, store), db=store) as found:
        causes: list[dict[str, Any]] = []
        for cause in (*found.failed, *found.answered):
            ids: list[str] = []
            for one in found.reader.ids(cause):
                if len(ids) == MOST_IDS:
                    break
                ids.append(one)
            causes.append({**mending.told(cause, found, str(store)), "ids": ids})
        return {"run": found.run.id, "causes": plain(causes)}


def show(store: Path, named: int | str | None, row: str) -> dict[str, Any]:
    """Return one row with its attempts, as ``show --json``: a list of its answers."""
    run = run_of(store, named, counted=False)
    rows = plain([in_json.row(run, one, files_in(run.settings)) for one in in_json.stories(store, run, row)])
    if len(msgspec.json.encode(rows)) > _WHOLE:
        raise UsageError(f"the row is larger than {_WHOLE // 1_000_000} MB; `export` writes it to a file")
    return {"run": run.id, "answers": rows}


def results(
    store: Path,
    named: int | str | None,
    *,
    chosen: Sequence[str] = (),
    after: str | None = None,
    limit: int = 20,
    most_bytes: int = 20_000,
    prompts: bool = False,
) -> dict[str, Any]:
    """Return a page of the finished rows of a run in input order, and where the next one begins.

    chosen: names of rows, as ``only`` of an export. after: ``next`` of the page before. most_bytes: of the page as JSON; a row
    that is larger by itself comes with its texts cut.
    """
    limit, most_bytes = _between("limit", limit, MOST_ROWS), _between("max_bytes", most_bytes, MOST_BYTES)
    position, skipped = _place(after)
    run = run_of(store, named, counted=False)
    fields, files, asked = fields_in(run.settings), files_in(run.settings), asked_in(run.settings)
    rows: list[dict[str, Any]] = []
    size, following, at = 2, None, (position, 0)
    with StoreReader(store) as reader, reader.snapshot():
        which = structs.replace(only.selection(chosen, "input", reader, run), position=position)
        # without the prompts, their fields are taken from the row's own all the same
        for result in reader.results(run.id, asked, None, which):
            at = (result.line, at[1] + 1 if result.line == at[0] else 1)
            if at[0] == position and at[1] <= skipped:
                continue
            row = _row(located(result, files), fields, prompts=prompts)
            length = len(msgspec.json.encode(row)) + 1
            if rows and (len(rows) == limit or size + length > most_bytes):
                following = f"{at[0]}-{at[1] - 1}"
                break
            if size + length > most_bytes:
                row = _cut(row)
                length = len(msgspec.json.encode(row)) + 1
            rows.append(row)
            size += length
    return {"run": run.id, "rows": rows, "next": following}


def _between(name: str, value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise UsageError(f"{name} is a number from 1 to {most:,}, not {value}")
    return value


def _place(after: str | None) -> tuple[int, int]:
    """Return the position with which a page begins, and how many results of it are left out."""
    if after is None:
        return 0, 0
    position, dash, skipped = after.partition("-")
    if not (dash and position.isdecimal() and skipped.isdecimal() and len(after) < 40):
        raise UsageError("after is the value of next of the page before, such as 120-1")
    return int(position), int(skipped)


def _row(result: Result, fields: Any, *, prompts: bool) -> dict[str, Any]:
    told = plain(structs.asdict(result))
    told["fields"] = told.pop("metadata")
    if not prompts:
        del told["prompt"]
    if fields and result.status == "done":
        told["answer"] = plain(dict(zip(fields, answer_fields.values(result.text, fields), strict=True)))
    # what most rows do not have tells nothing
    return {name: value for name, value in told.items() if value is not None and value != {}} | {"cut": False}


def _cut(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the beginnings of its texts, and without what may be large."""
    kept = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
    return {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in kept.items()} | {"cut": True}
