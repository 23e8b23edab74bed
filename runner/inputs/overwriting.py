"""Keeps an export from replacing what cannot be made again: a store, or a file with prompts."""

import os.path
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from runner import databases
from runner.errors import UsageError
from runner.inputs.formats import jsonl, openai_batch

_ROWS = 100
"""Rows of a file that are looked at."""
_PROMPTS = {"prompt", "messages"}
_EXPORTED = {
    *("id", "text", "status", "finish_reason", "error_code", "error", "served_model", "attempts"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "time_to_first_token_s", "duration_s"),
}
"""Columns that the exports of all versions have. Later ones have more, and each may leave out the prompt."""
EXPORTED_DATABASE = 0x50524E45
"""The number of the application in the header of a database that an export wrote. "PRNE" in ASCII."""
MANIFEST = ".manifest.json"
"""What the name of a manifest has behind that of its export."""
_MANIFEST_BEGINS = re.compile(rb'\s*\{\s*"manifest"\s*:')
_HEAD_BYTES = 72
_JOURNALS = ("-journal", "-wal")


def refuse_own(output: str | Path, store: Path, read: Mapping[int, Sequence[str]]) -> None:
    """Raise UsageError if the output would overwrite the store, one of its files, or a prompt file.

    read: the prompt files of each run of the store, by the run's number.
    """
    target = Path(output).resolve()
    if target == store or (target.parent == store.parent and target.name.startswith(f"{store.name}-")):
        raise UsageError(f"{output} belongs to the store {store}; name another file")
    for run, paths in read.items():
        if is_among(target, paths):
            raise UsageError(f"{output} is {'the' if len(paths) == 1 else 'a'} prompt file of run {run}; name another file")
    held = None
    if target.is_file():
        application = databases.application(target)
        held = _held(target) if application is None else _database(target, application)
    if held is not None:
        raise UsageError(f"{output} holds {held}, which the export would replace; name another file, or remove this one first")


def is_exported(names: Collection[str]) -> bool:
    """Return True if fields have the names of an export's columns, whichever version wrote it."""
    return _EXPORTED.issubset(names)


def is_beside_inputs(path: Path) -> bool:
    """Return True for a file of an export that holds no rows for a run: a database, or a manifest."""
    application = databases.application(path)
    if application is not None:
        return application == EXPORTED_DATABASE
    return path.name.endswith(MANIFEST) and _MANIFEST_BEGINS.match(_head(path)) is not None


def is_among(target: Path, paths: Iterable[str]) -> bool:
    """Return True if a file, by its resolved path, is one of these."""
    there = target.exists()
    return any(target == Path(path) or (there and os.path.exists(path) and target.samefile(path)) for path in paths)  # noqa: PTH110 - raises nothing


def _database(path: Path, application: int) -> str | None:
    """Return what a database holds that no export replaces, in words; None if it is an earlier export.

    What a program that was killed has left beside an earlier export would be taken for a part of the new one.
    """
    if application != EXPORTED_DATABASE:
        return "a database that is no export"
    beside = (path.with_name(f"{path.name}{ending}") for ending in _JOURNALS)
    left = next((one.name for one in beside if one.exists() and one.stat().st_size), None)
    return None if left is None else f"changes of another program (in {left})"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _held(path: Path) -> str | None:
    """Return what a file holds that no export replaces, in words; None if it holds nothing of that kind."""
    try:
        return openai_batch.holds(path) or ("prompts" if _holds_prompts(path) else None)
    except UsageError:
        # CSV, or whatever else is no prompt file
        return None


def _holds_prompts(path: Path) -> bool:
    """Return True if the first row that tells it is a prompt, and not a line of an earlier export. Raises UsageError."""
    with closing(jsonl.read(path)) as rows:
        for row in islice(rows, _ROWS):
            names = row.fields or {}
            if is_exported(names):
                return False
            if not _PROMPTS.isdisjoint(names):
                return True
    return False
