"""Reads runs, errors and results from a store, even while a run writes to it.

Synchronous, because commands that only read need no event loop.
"""

import os.path
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa

from runner import origin
from runner.errors import BAD_ROW, UsageError
from runner.model import Result, Run
from runner.money import Money
from runner.origin import Files
from runner.pace import Pace
from runner.several import answers_in
from runner.store import database, labelling, result_rows, totals
from runner.store.counts import further
from runner.store.lock import held
from runner.store.result_rows import ORDER, Asked, Decided, fields_of, located, result_of
from runner.store.reuse import numbers_taken_over
from runner.store.schema import attempts, items, runs, sessions
from runner.store.selection import EVERY, Selection, has_endpoints, has_further, ordered
from runner.store.spending import OF_KILLED, held_of, is_priced, money_of, number_billed, rates_of, tokens_of
from runner.store.totals import Totals

_NEWEST = 100
"""Failed attempts among which the one that stopped a session is looked for: those that were open then came after it."""
_REFUSED, REACHED = " (every row was refused for ", "the budget of "
"""Words of the stop of a run whose rows the server no longer took (the attempt has the code), or that has reached its budget."""
_BEYOND = "beyond"
"""Beside the statuses: the outcomes that are no longer wanted."""
_BATCH = 50
"""Rows read from the driver at once: few enough that long answers do not fill the memory."""
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


class StoreReader:
    """A context manager over an existing store. Raises UsageError if there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        database.prepare(path, create=False)
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=database.address(path), query={"uri": "true"}))
        database.on_connect(self._engine, synchronous="FULL", write=False)
        self._snapshot: sa.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._engine.dispose()

    def runs(self, *, counted: bool = True) -> list[Run]:
        """Return all runs, oldest first. counted: False leaves the numbers of their rows at 0; counting a million takes 0.4 s."""
        rows = self._fetch(sa.select(runs).order_by(runs.c.id))
        for row in rows:
            database.refuse_damaged(self.path, row)
        # the results can be read without them
        settings = {row.id: database.settings_of(row.settings) or {} for row in rows}
        counts, causes = self._counts(settings) if counted else ({}, {})
        called, taken_over = labelling.labels_in(self._fetch), Counter[int]()
        for run_id, number, count in self._fetch(numbers_taken_over()) if counted else ():
            taken_over[run_id] += count if number <= answers_in(settings[run_id]) else 0
        return [
            Run(
                id=row.id,
                created_at=row.created_at,
                finished_at=row.finished_at,
                settings=settings[row.id],
                input=self._input(row.input, row.input_relative),
                rows=row.rows,
                done=counts.get((row.id, "done"), 0),
                failed=counts.get((row.id, "failed"), 0),
                reused=taken_over[row.id],
                answers=answers_in(settings[row.id]),
                beyond=counts.get((row.id, _BEYOND), 0),
                broken=causes.get(row.id, {}).get(BAD_ROW, 0),
                causes=causes.get(row.id, {}),
                active=active,
                stop_reason=row.stop_reason,
                # a killed session leaves its last pace in the store
                pace=_pace(row.pace) if active else None,
                **called.get(row.id, {}),
            )
            for row, active in ((row, held(self.path, row.id)) for row in rows)
        ]

    def _counts(self, settings: Mapping[int, Mapping[str, Any]]) -> tuple[dict[tuple[int, str], int], dict[int, dict[str, int]]]:
        """Return the number of rows for each run and status, and that of the failed rows of each run by error code.

        Answers that a run wants no longer, by its settings, count by themselves.
        """
        by_status = sa.select(items.c.run_id, items.c.status, sa.func.count()).group_by(items.c.run_id, items.c.status)
        counts = {(run_id, status): count for run_id, status, count in self._fetch(by_status)}
        # the index tells which rows have failed, so that only those are read
        by_code = sa.select(items.c.run_id, items.c.error_code, sa.func.count()).where(items.c.status == "failed")
        causes: dict[int, dict[str, int]] = {}
        for run_id, code, count in self._fetch(by_code.group_by(items.c.run_id, items.c.error_code)):
            causes.setdefault(run_id, {})[code or "unknown"] = count
        for run_id, number, status, code, count in self._fetch(further()):
            if number > answers_in(settings.get(run_id, {})):
                counts[run_id, status] -= count
                counts[run_id, _BEYOND] = counts.get((run_id, _BEYOND), 0) + count
                if status == "failed":
                    causes[run_id][code or "unknown"] -= count
        return counts, {run_id: {code: count for code, count in of.items() if count} for run_id, of in causes.items()}

    def _input(self, absolute: str, relative: str) -> str:
        """Return the path of the input, also if store and input have been moved or copied together.

        Where the store is not where it was, the file that lies to it as the input did belongs to it: the other may be the
        original, of which this is the copy.
        """
        beside = origin.moved(absolute, relative, lambda path: os.path.normpath(self.path.parent / path))
        return beside if Path(beside) != Path(absolute) and origin.exists(beside) else absolute

    def run(self, run_id: int | None = None, *, counted: bool = True) -> Run:
        """Return a run, by default the newest that is not made of prompts asked on the live page. counted: as for ``runs``.

        Raises UsageError if it does not exist.
        """
        every = self.runs(counted=counted)
        if not every:
            raise UsageError(f"there is no run in {self.path}; start one with `runner run FILE`")
        if run_id is None:
            # whoever asks a prompt beside a run means the run all the same
            run_id = next((run.id for run in reversed(every) if not origin.is_of_page(run.input)), every[-1].id)
        for run in every:
            if run_id == run.id:
                return msgspec.structs.replace(run, stop_code=self._stop_code(run))
        raise UsageError(f"there is no run {run_id} in {self.path}; `runner list` shows the runs")

    def _stop_code(self, run: Run) -> str | None:
        """Return the error code that stopped the last session: that of the newest failed attempt whose words are its reason."""
        if run.stop_reason is None:
            return None
        if _REFUSED in run.stop_reason:
            return "refused"
        failed = (attempts.c.run_id == run.id, attempts.c.error_code.is_not(None))
        newest = sa.select(attempts.c.error_code, attempts.c.error).where(*failed).order_by(attempts.c.id.desc()).limit(_NEWEST)
        said = ((code, (words or "").rstrip(".")) for code, words in self._fetch(newest))
        reached = "budget" if run.stop_reason.startswith(REACHED) else None
        return next((code for code, words in said if words and run.stop_reason.startswith(words)), reached)

    def totals(self, run_id: int) -> Totals:
        """Add up everything that a run sent."""
        with nullcontext() if self._snapshot is not None else self.snapshot():
            return totals.add_up(self._fetch, run_id, active=held(self.path, run_id))

    def money(self, run_id: int) -> Money:
        """Add up what a run has cost."""
        with nullcontext() if self._snapshot is not None else self.snapshot():
            rates, ended = self._fetch(rates_of(run_id)), not held(self.path, run_id)
            if is_priced(rates):
                return money_of(rates, self._fetch(tokens_of(run_id, ended=ended)))
            left = money_of([], self._fetch(held_of(run_id, ended=ended)))
            return left.plus(Money(unpriced=self._fetch(number_billed(run_id))[0][0]))

    def money_after(self, run_id: int, attempt: int) -> Money:
        """Add up what sessions under a budget have cost: the attempts behind one, and what is reserved for single requests."""
        groups = self._fetch(tokens_of(run_id, after=attempt))
        return money_of(self._fetch(rates_of(run_id)), [group for group in groups if group.open != OF_KILLED])

    def last_attempt(self, run_id: int) -> int:
        """Return the number of the newest attempt of a run; 0 if there is none."""
        return self._fetch(sa.select(sa.func.max(attempts.c.id)).where(attempts.c.run_id == run_id))[0][0] or 0

    def sessions_after(self, run_id: int, at: float) -> int:
        """Count the sessions of a run that have begun behind a time."""
        mine = sa.and_(sessions.c.run_id == run_id, sessions.c.began_at > at)
        return int(self._fetch(sa.select(sa.func.count()).where(mine))[0][0])

    def killed(self, run_id: int) -> Money:
        """Add up what requests may have cost that were open when a session without a budget was killed. They are in no row."""
        with nullcontext() if self._snapshot is not None else self.snapshot():
            left = self._fetch(held_of(run_id, ended=not held(self.path, run_id)))
            return money_of(self._fetch(rates_of(run_id)), [group for group in left if group.open == OF_KILLED])

    def shares(self, run_id: int) -> tuple[bool, bool, bool]:
        """Return whether a run has further answers of rows, rows that share an answer, and attempts at several endpoints."""
        copies = sa.exists().where(items.c.run_id == run_id, items.c.same_as.is_not(None))
        columns: list[Any] = [has_further(run_id), copies, has_endpoints(run_id)]
        ((further_answers, has_copies, endpoints),) = self._fetch(sa.select(*columns))
        return bool(further_answers), bool(has_copies), bool(endpoints)

    def size(self, run_id: int, chosen: Selection = EVERY) -> int:
        """Return how many results a run has, also of answers that are no longer wanted. Raises UsageError for no such run."""
        mine = items.c.run_id == self.run(run_id, counted=False).id
        number: int = self._fetch(sa.select(sa.func.count()).where(mine, chosen.where))[0][0]
        return number

    def results(
        self, run_id: int, asked: Asked | None = None, files: Files | None = None, chosen: Selection = EVERY
    ) -> Iterator[Result]:
        """Yield the chosen results of a run, by default all in input order. files: those that it has read, if several.

        asked: returns what a row asked, given its stored fields, and takes from them what is no field of the user's own. None:
        nobody wants to know.
        """
        with self._decoded():
            for values in self._tuples(ordered(self._fetch, run_id, result_rows.select_results, chosen)):
                yield located(result_of(values, asked), files)

    def decided(
        self, run_id: int, asked: Callable[[int | None], Asked], files: Files | None, chosen: Selection = EVERY
    ) -> Iterator[tuple[Result, Decided]]:
        """Yield the results of a run as ``results`` does, each with the attempt that decided it.

        asked: returns for a variant (``Decided``) what ``results`` is given.
        """
        with self._decoded():
            for values in self._tuples(ordered(self._fetch, run_id, result_rows.select_decided, chosen)):
                *columns, ended_at, status, name, variant, seed = values
                found = result_of(columns, asked(variant))
                yield located(found, files), Decided(ended_at, status, name, variant, seed)

    def fields(self, run_id: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the id and the stored fields of each row that has a result, in input order."""
        statement = sa.select(items.c.key, items.c.metadata).where(items.c.run_id == run_id).order_by(*ORDER)
        with self._decoded():
            for key, metadata in self._tuples(statement):
                yield fields_of(key, metadata)

    def metadata_names(self, run_id: int, besides: Collection[str] = ()) -> list[str]:
        """Return the names of the rows' own fields, in the order in which they first appear. besides: names to leave out."""
        where = (items.c.run_id == run_id, items.c.metadata.is_not(None))
        names: dict[str, None] = {}
        with self._decoded():
            for (fields,) in self._tuples(sa.select(items.c.metadata).where(*where).order_by(*ORDER)):
                for name in _DECODE(fields):
                    names.setdefault(name)
        return [name for name in names if name != "id" and name not in besides]

    def finish_reasons(self, run_id: int) -> list[str]:
        """Return the finish reasons of the answers of a run, as they are stored; also of those that count as failures."""
        answered = (items.c.run_id == run_id, items.c.finish_reason.is_not(None))
        return [reason for (reason,) in self._fetch(sa.select(items.c.finish_reason).where(*answered).distinct())]

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read one state of the store inside the context, whatever a run writes in the meantime. Yields what reads it."""
        with self._explained(), self._engine.connect() as connection, connection.begin():
            self._snapshot = connection
            try:
                yield connection
            finally:
                self._snapshot = None

    def _connected(self) -> AbstractContextManager[sa.Connection]:
        return nullcontext(self._snapshot) if self._snapshot is not None else self._engine.connect()

    def _fetch(self, statement: sa.Select[Any]) -> list[Any]:
        with self._explained(), self._connected() as connection:
            return list(connection.execute(statement))

    fetch = _fetch  # for what adds up more

    def _tuples(self, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        """Stream a result through the driver, in constant memory. SQLAlchemy's own rows would take twice as long."""
        query = str(statement.compile(self._engine, compile_kwargs={"literal_binds": True}))
        with self._explained(), self._connected() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            # the cursor is not closed here: if an export is cut short, the connection has been closed before
            cursor = driver.execute(query)
            while rows := cursor.fetchmany(_BATCH):
                yield from rows

    @contextmanager
    def _decoded(self) -> Iterator[None]:
        """Turn what the JSON of a row raises into an error of the store."""
        try:
            yield
        except database.DAMAGE as error:
            raise database.store_error(self.path, "read", error) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise database.store_error(self.path, "read", error) from error


def _pace(text: str | None) -> Pace | None:
    """Decode the pace that a session stored. Return None for what cannot be decoded, such as that of another version."""
    try:
        return msgspec.json.decode(text, type=Pace) if text is not None else None
    except (msgspec.MsgspecError, RecursionError, TypeError):
        return None
