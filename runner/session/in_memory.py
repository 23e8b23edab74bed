"""Writes rows that a program has in memory to a copy, as JSON lines, and says what they were."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from anyio.lowlevel import checkpoint

from runner.config.job import Job
from runner.errors import UsageError
from runner.inputs import objects, spool, tables
from runner.inputs.cells import Settings
from runner.inputs.choosing import Rows as ChosenRows
from runner.inputs.json_rows import lines_of
from runner.inputs.keys import whole
from runner.inputs.spool import Copy
from runner.session.missing import without_prompt
from runner.session.opening import choosing, texts_of

_BLOCK = 1 << 20
"""Bytes that are written at once."""
_TURN = 256
"""Rows after which an event loop does something else."""
_ASKS = ("prompt", "messages", "body")
"""Fields by which a row has something to ask; ``body`` is that of a batch API."""


def word_for(source: object) -> str:
    """Return what a source is called before its rows are counted."""
    return {"list": "the list", "tuple": "the list", "generator": "the generator"}.get(type(source).__name__, "the source")


class Rows:
    """Writes the rows of a source to a copy.

    limit: rows that the run will use. A list is written whole, so that a later run without the limit continues this one. What has
    no length may have no end, so nothing behind these rows is taken of it. Which rows a sample has shows at the end alone.
    """

    def __init__(self, source: Any, job: Job, copy: Copy, limit: int | None = None) -> None:
        texts, source = texts_of(job), tables.plain(source)
        self._asked = texts.names if texts is not None else None
        self._source, self._copy = source, copy
        own = tables.name_of_column(source)
        self._table = tables.table_of(source, own if own is not None and own in (self._asked or ()) else "prompt")
        names = self._table.names if self._table is not None else ()
        self._settings = Settings(names, as_data=not job.row_settings)
        self._block = bytearray()
        self._number = 0
        self._most = None if job.sample is not None or hasattr(source, "__len__") else limit
        self._choose = choosing(job) if job.where is not None and self._most is not None else None
        # rows that the run will use
        self._used = 0
        self._only_texts = True
        # the first row, until one has something to ask
        self._first: dict[str, Any] | None = None
        self._asks = texts is not None

    def take(self) -> None:
        """Take all rows. Raises UsageError for a row that is none, StoreError if the disk is full."""
        for row in self._rows():
            self._add(row)
            if self._used == self._most:
                return

    async def take_async(self) -> None:
        """Do what ``take`` does, and let others have their turn."""
        if isinstance(self._source, AsyncIterable):
            async for row in self._source:
                self._add(row)
                if self._used == self._most:
                    return
            return
        for row in self._rows():
            self._add(row)
            if self._used == self._most:
                return
            if self._number % _TURN == 0:
                await checkpoint()

    def _rows(self) -> Iterable[Any]:
        rows: Iterable[Any] = self._source if self._table is None else self._table.rows
        return rows

    def finish(self) -> tuple[Path, bool]:
        """Finish the copy; return its path, and True if it is new. Raises UsageError if there is nothing to send."""
        if not self._number:
            again = "" if isinstance(self._source, list | tuple) or self._table is not None else "; was it read before?"
            raise UsageError(f"{word_for(self._source)} has no rows, so there is nothing to send{again}")
        if not self._asks and self._first is not None:
            raise without_prompt(self._called(), self._first, _in_python, '[{"messages": [...]}]')
        self._copy.write(self._block)
        kind = self._kind()
        wide = f"x{len(self._table.names)}" if self._table is not None and kind != "column" else ""
        return self._copy.finish(f"{kind}-{self._number}{wide}-")

    def _add(self, row: Any) -> None:
        self._number += 1
        try:
            fields = self._fields(row) if self._table is None else self._cells(row, self._table.names)
        except objects.UnfitError as error:
            raise objects.refusal(self._number, error) from error
        except RecursionError:
            raise UsageError(f"row {self._number:,} is nested too deeply") from None
        if not self._asks:
            self._asks = any(name in fields for name in _ASKS)
            self._first = self._first or fields
        begin = len(self._block)
        objects.add(self._block, fields, self._number)
        self._used += self._choose is None or self._is_chosen(self._block[begin:], self._choose)
        if len(self._block) >= _BLOCK:
            self._copy.write(self._block)
            self._block.clear()

    def _is_chosen(self, line: bytearray, choose: Callable[[ChosenRows], ChosenRows]) -> bool:
        """Return True if the run will use a row, as it will be read. Raises UsageError where the condition cannot be told."""
        return next(choose(lines_of(BytesIO(line), lambda: False, self._number - 1)), None) is not None

    def _fields(self, row: Any) -> dict[str, Any]:
        if isinstance(row, str):
            return {"prompt": objects.plain(row)}
        self._only_texts = False
        if not isinstance(row, Mapping) and not (hasattr(row, "keys") and hasattr(row, "__getitem__")):
            about = ""
            if isinstance(row, list):
                about = '; messages of a chat go into a dict: {"messages": [...]}'
            elif isinstance(row, tuple):
                about = "; make it a dict, whose keys are the names of its fields, or pass the table that it comes from"
            raise UsageError(f"row {self._number:,} is a value of type {type(row).__name__}; a row is a text or a dict{about}")
        fields: dict[str, Any] = objects.plain(dict(row))
        return fields

    def _cells(self, cells: Iterable[Any], names: Iterable[str]) -> dict[str, Any]:
        values = ((name, objects.plain(cell, (name,))) for name, cell in zip(names, cells, strict=True))
        fields = {name: whole(value) if isinstance(value, float) else value for name, value in values}
        self._settings.read(fields)
        return fields

    def _kind(self) -> str:
        if self._table is not None:
            return self._table.kind
        if type(self._source).__module__.partition(".")[0] == "datasets":
            return "dataset"
        if not isinstance(self._source, list | tuple):
            return "iterator"
        return "texts" if self._only_texts else "rows"

    def _called(self) -> str:
        columns = str(len(self._table.names)) if self._table is not None else None
        return spool.in_words(self._kind(), self._number, columns)


def _in_python(template: str) -> str:
    return f"prompt={template!r}"
