"""One row whole, as a person or a program names it and is told of it."""

from pathlib import Path
from typing import Any

import msgspec

from runner.errors import BAD_ROW, UsageError
from runner.inputs.prompts import system_of
from runner.model import Json, Run
from runner.origin import Files, files_in, place_of, position_of
from runner.session.opening import asked_in, texts_in
from runner.store.story import Story, story
from runner.text import clean


def found(store: Path, run: Run, name: str) -> list[Story]:
    """Return a row by its id or its line (of several files, ``b.csv:17``), once for each of its answers.

    Raises UsageError if the run has nothing about it, StoreError.
    """
    stories, position = story(store, run.id, name), position_of(name, files_in(run.settings))
    if not stories and position is not None:
        stories = story(store, run.id, str(position))
    if not stories:
        raise UsageError(f"run {run.id} has nothing about a row {clean(name)!r}; `runner export {run.id} -o -` lists the ids")
    return stories


def told(run: Run, one: Story, files: Files | None) -> dict[str, Any]:
    """Return one answer of a row, or the row, as ``show --json`` tells it. files: those that the run has read, if several."""
    (system, prompt), own = question(run, one)
    fields: dict[str, Any] = {**msgspec.to_builtins(one), "fields": own}
    if files is not None and one.line is not None:
        fields["file"], fields["line"] = place_of(one.line, files)
    return {"run": run.id, "system": system, "prompt": prompt, **fields}


def question(run: Run, one: Story) -> tuple[tuple[str | None, Json], dict[str, Json]]:
    """Return the system text and the prompt of a row, and the fields of the user's own."""
    own = dict(one.fields)
    system = system_of(own, texts_in(run.settings), run.settings) if one.error_code != BAD_ROW else None
    return (system, asked_in(run.settings)(own)), own
