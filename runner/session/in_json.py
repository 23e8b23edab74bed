"""What commands print with ``--json`` about a run and its rows, as values. The API of the page tells the same."""

from pathlib import Path
from typing import Any

import msgspec

from runner.errors import BAD_ROW, UsageError
from runner.inputs.prompts import system_of
from runner.model import Json, Run
from runner.origin import Files, files_in, place_of, position_of
from runner.session.opening import asked_in, texts_in
from runner.store import early
from runner.store.story import Story, UsualOf, story
from runner.store.totals import Totals
from runner.text import clean


def status(run: Run, books: Totals) -> dict[str, Any]:
    """Return one run in full, as ``runner status`` tells it."""
    sent = msgspec.to_builtins(books)
    # where the time went, and what was asked, is beside what was sent, not part of it
    beside = {name: sent.pop(name) for name in ("time", "steered")}
    return {"run": run, "books": sent, **beside}


def stories(store: Path, run: Run, key: str, usual: UsualOf = early.usual) -> list[Story]:
    """Return a row by its id, or by its line, once for each of its answers. Raises UsageError if nothing is known of it.

    usual: as for ``story``.
    """
    found, position = story(store, run.id, key, usual), position_of(key, files_in(run.settings))
    if not found and position is not None:
        found = story(store, run.id, str(position), usual)
    if not found:
        named = clean(key)
        raise UsageError(f"run {run.id} has nothing about a row {named!r}; `runner export {run.id} -o -` lists the ids")
    return found


def row(run: Run, found: Story, files: Files | None) -> dict[str, Any]:
    """Return one answer of a row, or the row, as ``runner show`` tells it. files: those that the run has read, if several."""
    (system, prompt), own = question(run, found)
    told = {"run": run.id, "system": system, "prompt": prompt, **msgspec.to_builtins(found), "fields": own}
    if files is not None and found.line is not None:
        told["file"], told["line"] = place_of(found.line, files)
    return told


def question(run: Run, found: Story) -> tuple[tuple[str | None, Json], dict[str, Json]]:
    """Return the system text and the prompt of a row, and the fields of the user's own."""
    own = dict(found.fields)
    system = system_of(own, texts_in(run.settings), run.settings) if found.error_code != BAD_ROW else None
    return (system, asked_in(run.settings)(own)), own
