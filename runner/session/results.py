"""The results of a run as a Python program reads them: row by row, as a list, or as a table of another library."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from runner.answer_shape import fields_in
from runner.errors import RunnerError
from runner.event_types import Summary
from runner.exports import answer_fields, frames, html
from runner.exports.columns import columns, records
from runner.model import Result, Run
from runner.money import PICO, shown
from runner.origin import files_in
from runner.session.exporting import own_fields, parts_of
from runner.session.opening import asked_in
from runner.session.spelling import how_ended
from runner.store.former import FormerAnswer, of_run
from runner.store.reader import StoreReader
from runner.text import clean, plural

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_SHOWN = 20
"""Rows that a notebook shows."""
_OWN = 6
"""Columns of the rows' own fields that it shows, and of the fields of answers."""


class Results:
    """The finished rows of a run, done or failed, in input order. Every ``for`` reads the store anew, in constant memory.

    ``len`` counts them, and ``next`` takes one after the other. ``to_list``, ``to_pandas``, ``to_polars`` and ``to_arrow`` hold
    them all in memory, with the columns of an export: the id, the rows' own fields, the prompt, the answer, and the rest.
    """

    def __init__(self, store: Path, run: Run) -> None:
        self._store, self._run = store, run
        self._next: Iterator[Result] | None = None

    @property
    def run(self) -> int:
        """The number of the run."""
        return self._run.id

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the run, without secrets."""
        return self._run.settings

    def __iter__(self) -> Iterator[Result]:
        asked = asked_in(self._run.settings)
        with StoreReader(self._store) as reader:
            yield from reader.results(self.run, asked, files_in(self._run.settings))

    def __next__(self) -> Result:
        if self._next is None:
            self._next = iter(self)
        return next(self._next)

    def __len__(self) -> int:
        with StoreReader(self._store) as reader:
            return reader.size(self.run)

    def former(self) -> Iterator[FormerAnswer]:
        """Yield the answers that were replaced by a retry or for a changed prompt. Oldest first. Raises StoreError."""
        return of_run(self._store, self.run)

    def to_list(self) -> list[dict[str, Any]]:
        """Return a dict for each row, with the columns of an export. Raises StoreError."""
        names, rows = self._table()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def to_pandas(self) -> "pd.DataFrame":
        """Return a DataFrame of pandas; numbers stay numbers, and what is missing is NA. Raises UsageError, StoreError."""
        frame: pd.DataFrame = frames.to_pandas(frames.gathered(*self._table()))
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """Return a DataFrame of polars; lists and objects are JSON texts. Raises UsageError, StoreError."""
        frame: pl.DataFrame = frames.to_polars(frames.gathered(*self._table()))
        return frame

    def to_arrow(self) -> "pa.Table":
        """Return a table of Arrow; lists and objects are JSON texts. Raises UsageError, StoreError."""
        return frames.to_arrow(frames.gathered(*self._table()))

    def _table(self) -> tuple[list[str], Iterator[Sequence[object]]]:
        """Return the names of the columns, and the values of each row. Nobody else changes the columns in between."""
        rows = self._rows()
        names = next(rows)
        return [str(name) for name in names], rows

    def _rows(self) -> Iterator[Sequence[object]]:
        asked = asked_in(self._run.settings)
        with StoreReader(self._store) as reader, reader.snapshot():
            own = own_fields(reader, self._run)
            parts = parts_of(reader, self._run)
            found = reader.results(self.run, asked, files_in(self._run.settings))
            names, fields = columns(own, parts=parts), fields_in(self._run.settings)
            yield answer_fields.added(names, fields)
            yield from answer_fields.filled(records(found, own, parts=parts), names, fields)

    def __repr__(self) -> str:
        return f"<Results of run {self.run}: {plural(len(self), 'row')}>"

    def _repr_html_(self) -> str:
        first = list(islice(self, _SHOWN))
        own = list(dict.fromkeys(name for result in first for name in result.metadata))[:_OWN]
        failed = any(result.error is not None for result in first)
        before, behind = ["id", *columns(own)[1 : 1 + len(own)], "prompt", "text"], ["status", *(["error"] if failed else [])]
        fields = dict(islice(fields_in(self._run.settings).items(), _OWN))
        header = [*before, *answer_fields.named([*before, *behind], fields), *behind]
        rows = [
            [result.id if not isinstance(result.id, int) else str(result.id)]
            + [result.metadata.get(name) for name in own]
            + [result.prompt, result.text]
            + answer_fields.values(result.text if result.status == "done" else None, fields)
            + [result.status]
            + ([result.error] if failed else [])
            for result in first
        ]
        number = len(self)
        shown = f"the first {len(first)} of {plural(number, 'row')}" if number > len(first) else plural(number, "row")
        return html.table(header, rows, f"run {self.run}: {shown}")


class RunSummary(Summary, frozen=True, kw_only=True):
    """How a session of a run ended, as the Python API returns it: the summary, and the way to the results."""

    # the store, an absolute path
    store: str

    def results(self) -> Results:
        """Return the finished rows of the run. Raises UsageError if the run was deleted since, StoreError."""
        return results_of(Path(self.store), self.run)

    def __str__(self) -> str:
        return f"{how_ended(self)}; {clean(self.stop_reason)}" if self.stop_reason else how_ended(self)

    def __repr__(self) -> str:
        return f"<RunSummary: {self}>"

    def _repr_html_(self) -> str:
        done, failed = self.settled_rows
        pairs: list[tuple[str, object]] = [("done", done), ("failed", failed), ("left", self.left), ("rows", self.rows)]
        pairs += [("attempts of this session", self.attempts_now), ("input tokens", self.input_tokens)]
        cost = None if self.cost is None else shown(round(self.cost * PICO))
        pairs += [("output tokens", self.output_tokens), ("cost of the run", cost), ("time", f"{self.elapsed_s:,.1f} s")]
        # a run that was deleted since has none
        with suppress(RunnerError):
            fields = [*fields_in(self.results().settings)]
            pairs += [("fields of the answers", ", ".join(fields))] if fields else []
        pairs += [(f"failed: {code}", number) for code, number in sorted(self.causes.items())[:_SHOWN]]
        return html.table((), [pair for pair in pairs if pair[1] is not None], str(self))


def with_results(summary: Summary, store: Path) -> RunSummary:
    """Return a summary with the way to the results."""
    return RunSummary(**structs.asdict(summary), store=str(store))


def results_of(store: Path, run_id: int | None) -> Results:
    """Return the results of a run, by default of the newest. Raises UsageError if it does not exist, StoreError."""
    with StoreReader(store) as reader:
        return Results(store, reader.run(run_id, counted=False))
