"""Reads a store at any time, also while a run writes: runs, errors, results.

Synchronous, because commands that only read need no event loop.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner import database
from runner.errors import StoreError, UsageError
from runner.events import Quantiles
from runner.lock import held
from runner.model import Json, Result, Run
from runner.prompts import BAD_ROW
from runner.schema import attempts, items, runs

_BATCH = 2_000
_RESULT = (
    items.c.key,
    items.c.metadata,
    items.c.status,
    items.c.text,
    items.c.finish_reason,
    items.c.error_code,
    items.c.error,
    attempts.c.served_model,
    attempts.c.input_tokens,
    attempts.c.output_tokens,
    attempts.c.cached_tokens,
    attempts.c.reasoning_tokens,
    items.c.attempts,
    attempts.c.time_to_first_token_s,
    attempts.c.duration_s,
)


class ErrorGroup(Struct, frozen=True, kw_only=True):
    """The failed items of a run that share a cause."""

    code: str
    count: int
    # the key and the words of the first of them
    example_id: str
    example: str


class Books(Struct, frozen=True, kw_only=True):
    """What a run sent, over all sessions."""

    attempts: int
    # attempts that ended in an error, by its code
    failed_attempts: Mapping[str, int]
    # of failed attempts: sent, usage unknown, so perhaps billed
    perhaps_billed: int
    # None: no attempt reported any
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    # of failed attempts, where known
    wasted_input_tokens: int | None
    wasted_output_tokens: int | None
    time_to_first_token: Quantiles
    duration: Quantiles
    finish_reasons: Mapping[str, int]


class StoreReader:
    """A context manager over a store that exists; raises UsageError where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        database.prepare(path, create=False)
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=database.address(path), query={"uri": "true"}))
        database.on_connect(self._engine, synchronous="FULL", write=False)
        self._held: sa.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._engine.dispose()

    def runs(self) -> list[Run]:
        """Give all runs, oldest first."""
        rows = self._fetch(sa.select(runs).order_by(runs.c.id))
        counted = self._fetch(sa.select(items.c.run_id, items.c.status, sa.func.count()).group_by(items.c.run_id, items.c.status))
        counts = {(run_id, status): count for run_id, status, count in counted}
        broken = dict(
            self._fetch(
                sa.select(items.c.run_id, sa.func.count())
                .where(items.c.status == "failed", items.c.error_code == BAD_ROW)
                .group_by(items.c.run_id)
            )
        )
        return [
            Run(
                id=row.id,
                created_at=row.created_at,
                finished_at=row.finished_at,
                settings=msgspec.json.decode(row.settings),
                input=self._input(row.input, row.input_relative),
                rows=row.rows,
                done=counts.get((row.id, "done"), 0),
                failed=counts.get((row.id, "failed"), 0),
                broken=broken.get(row.id, 0),
                active=held(self.path, row.id),
                stop_reason=row.stop_reason,
            )
            for row in rows
        ]

    def _input(self, absolute: str, relative: str) -> str:
        """Find the input also when store and input have moved together."""
        moved = (self.path.parent / relative).resolve()
        return str(moved) if not Path(absolute).exists() and moved.exists() else absolute

    def run(self, run_id: int | None = None) -> Run:
        """Give one run, the newest without a number. Raises UsageError when it does not exist."""
        found = self.runs()
        if not found:
            raise UsageError(f"there is no run in {self.path}; start one with `runner run FILE`")
        if run_id is None:
            return found[-1]
        for run in found:
            if run.id == run_id:
                return run
        raise UsageError(f"there is no run {run_id} in {self.path}; `runner list` shows them")

    def errors(self, run_id: int) -> list[ErrorGroup]:
        """Give the failed items of a run by cause, the most frequent first."""
        first = sa.func.min(items.c.position)
        # a provider's own name for it stands before the colon; the head of a broken row is its line
        head = sa.func.substr(items.c.error, 1, sa.func.instr(items.c.error, ": "))
        cause = sa.case((items.c.error_code == BAD_ROW, ""), else_=head)
        statement = (
            sa.select(items.c.error_code, sa.func.count(), items.c.key, items.c.error, first)
            .where(items.c.run_id == run_id, items.c.status == "failed")
            .group_by(items.c.error_code, cause)
            .order_by(sa.func.count().desc())
        )
        # SQLite gives the other columns of the row that holds the minimum
        return [
            ErrorGroup(code=code or "unknown", count=count, example_id=key, example=error or "")
            for code, count, key, error, _ in self._fetch(statement)
        ]

    def books(self, run_id: int) -> Books:
        """Add up everything a run sent."""
        ours = attempts.c.run_id == run_id
        failed = sa.and_(ours, attempts.c.error_code.is_not(None))
        by_code = self._fetch(sa.select(attempts.c.error_code, sa.func.count()).where(failed).group_by(attempts.c.error_code))
        tokens = [
            attempts.c.input_tokens,
            attempts.c.output_tokens,
            attempts.c.cached_tokens,
            attempts.c.reasoning_tokens,
        ]
        (total,) = self._fetch(sa.select(sa.func.count(), *map(sa.func.sum, tokens)).where(ours))
        unknown = (
            failed,
            attempts.c.sent,
            attempts.c.output_tokens.is_(None),
            attempts.c.status.is_(None) | (attempts.c.status == 200),
        )
        (lost,) = self._fetch(sa.select(sa.func.count()).where(*unknown))
        (wasted,) = self._fetch(sa.select(*map(sa.func.sum, tokens[:2])).where(failed))
        reasons = self._fetch(
            sa.select(items.c.finish_reason, sa.func.count())
            .where(items.c.run_id == run_id, items.c.status == "done")
            .group_by(items.c.finish_reason)
        )
        return Books(
            attempts=total[0],
            failed_attempts=dict(sorted(((code, count) for code, count in by_code), key=lambda pair: -pair[1])),
            perhaps_billed=lost[0],
            input_tokens=total[1],
            output_tokens=total[2],
            cached_tokens=total[3],
            reasoning_tokens=total[4],
            wasted_input_tokens=wasted[0],
            wasted_output_tokens=wasted[1],
            time_to_first_token=self._quantiles(run_id, attempts.c.time_to_first_token_s),
            duration=self._quantiles(run_id, attempts.c.duration_s),
            finish_reasons={reason or "": count for reason, count in reasons},
        )

    def results(self, run_id: int) -> Iterator[Result]:
        """Give the settled rows of a run in input order."""
        statement = (
            sa.select(*_RESULT)
            .select_from(items.outerjoin(attempts, items.c.attempt_id == attempts.c.id))
            .where(items.c.run_id == run_id)
            .order_by(items.c.position, items.c.id)
        )
        for key, extra, *rest in self._stream(statement):
            fields: dict[str, Json] = msgspec.json.decode(extra) if extra is not None else {}
            own = fields.pop("id", key)
            yield Result(own, fields, *rest)

    def metadata_names(self, run_id: int) -> list[str]:
        """Give the names of the rows' further fields, in the order in which they first appear."""
        statement = (
            sa.select(items.c.metadata)
            .where(items.c.run_id == run_id, items.c.metadata.is_not(None))
            .order_by(items.c.position, items.c.id)
        )
        names: dict[str, None] = {}
        for (fields,) in self._stream(statement):
            names.update(dict.fromkeys(msgspec.json.decode(fields)))
        names.pop("id", None)
        return list(names)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the store from here on, whatever a run writes meanwhile."""
        with self._explained(), self._engine.connect() as connection:
            self._held = connection
            try:
                yield
            finally:
                self._held = None

    def _quantiles(self, run_id: int, column: sa.Column[float]) -> Quantiles:
        where = (attempts.c.run_id == run_id, attempts.c.error_code.is_(None), column.is_not(None))
        ((count,),) = self._fetch(sa.select(sa.func.count()).where(*where))

        def at(share: float) -> float | None:
            if not count:
                return None
            place = min(count - 1, int(share * count))
            ((value,),) = self._fetch(sa.select(column).where(*where).order_by(column).limit(1).offset(place))
            return float(value)

        return Quantiles(p50=at(0.5), p95=at(0.95))

    def _fetch(self, statement: sa.Select[Any]) -> list[Any]:
        return list(self._stream(statement))

    def _stream(self, statement: sa.Select[Any]) -> Iterator[Any]:
        with self._explained(), nullcontext(self._held) if self._held is not None else self._engine.connect() as connection:
            yield from connection.execute(statement, execution_options={"yield_per": _BATCH})

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise StoreError(f"the store {self.path} cannot be read: {database.reason(error)}") from error
