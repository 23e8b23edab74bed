"""Refuses an input that lacks a column without which its rows cannot be asked, or told apart."""

from collections.abc import Callable, Mapping
from pathlib import Path

from runner.errors import UsageError
from runner.inputs import spool
from runner.inputs.choosing import Rows, listed
from runner.inputs.options import ReadOptions
from runner.media import MEDIA_FIELDS, MediaField
from runner.model import Json, Row
from runner.session.proposal import asking, likely_texts
from runner.session.shape import CHAT, is_message, of_messages
from runner.text import shell_word


def refuse_columns(path: Path, read: Callable[[], Rows], options: ReadOptions, *, is_table: bool) -> None:
    """Raise UsageError if the first row shows that a column is missing without which no row can be asked or told apart."""
    if options.id_column != "id":
        _refuse_absent_id(path, read, options)
    if options.asked is None and is_table:
        _refuse_without_prompt(path, read)


def _refuse_without_prompt(path: Path, read: Callable[[], Rows]) -> None:
    """Raise UsageError for a table without a column of prompts: a template is missing, or the column has another name."""
    first = next((row.fields for row in read() if row.fields is not None), None)
    if first is None or not {"prompt", "messages"}.isdisjoint(first):
        return
    raise without_prompt(spool.display_name(path), first, lambda template: f"--prompt {shell_word(template)}")


def without_prompt(called: str, first: Mapping[str, Json], spelled: Callable[[str], str], one: str = CHAT) -> UsageError:
    """Return the sentence about a table without a column of prompts.

    called: the table, for messages. first: its first row. spelled: makes of a template what a user writes to have it. one: how
    the row of a chat is written.
    """
    if not first:
        return UsageError(f"{called} has no column prompt, nor any other: its rows have no fields, so there is nothing to ask")
    if is_message(first):
        return of_messages(called, spelled, one)
    name = likely_texts({column: [str(value)] for column, value in first.items()})[0]
    return UsageError(
        f"{called} has no column prompt; its columns: {listed(first)}. A template says what to ask, e.g. {spelled(asking(name))}"
    )


def refuse_media(path: Path, read: Callable[[], Rows], named: Mapping[str, MediaField]) -> None:
    """Raise UsageError if no row has a field that the job says names its files: they would be asked about without these."""
    wanted = set(named) - set(MEDIA_FIELDS)
    if not wanted:
        return
    first: Row | None = None
    for row in read():
        first = first or (row if row.fields is not None else None)
        wanted.difference_update(row.fields or ())
        if not wanted:
            return
    if first is not None:
        option = "--images" if named[min(wanted)] else "--files"
        fields = listed(first.fields or ())
        raise UsageError(
            f"no row of {spool.display_name(path)} has the field {min(wanted)!r} ({option}); its first row has: {fields}"
        )


def _refuse_absent_id(path: Path, read: Callable[[], Rows], options: ReadOptions) -> None:
    """Raise UsageError if the first row lacks the field that is to be the id: then its name is probably wrong.

    Also if the template names a field ``id`` that is another one.
    """
    name = options.id_column
    first = next((row for row in read() if row.fields is not None), None)
    if first is not None and "id_2" in (first.fields or ()) and "id" in (options.asked or ()):
        raise UsageError(
            f"the template names id, but {name!r} is the id here (--id-column); the field id of the rows is called id_2"
        )
    if first is not None and first.fields is not None and name not in first.fields:
        fields = listed(first.fields)
        raise UsageError(
            f"{spool.display_name(path)} has no field {name!r} for the id (--id-column); its first row has: {fields}"
        )
