"""Reads a store at any time, also while a run writes: runs, errors, results.

Synchronous, because commands that only read need no event loop.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner import database
from runner.errors import UsageError
from runner.events import Quantiles
from runner.lock import held
from runner.model import Json, Pace, Result, Run
from runner.prompts import BAD_ROW
from runner.schema import attempts, items, runs

_BATCH = 2_000
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_RESULT = (
    *(items.c[name] for name in ("key", "metadata", "status", "text", "finish_reason", "error_code", "error")),
    *(attempts.c[name] for name in ("served_model", *_TOKENS)),
    items.c.attempts,
    attempts.c.time_to_first_token_s,
    attempts.c.duration_s,
)
# what became of a failed attempt's item
_RETRIED, _DECIDED, _OPEN = "retried", "decided", "open"


class ErrorGroup(Struct, frozen=True, kw_only=True):
    """The failed items of a run that share a cause."""

    code: str
    count: int
    # the key and the words of the first of them
    example_id: str
    example: str


class Books(Struct, frozen=True, kw_only=True):
    """What a run sent, over all sessions.

    A retry is an attempt that was not the first of its item; its cause is the error of the attempt before it. So a failed
    attempt counts once: in ``retries``, when another attempt of its item was written after it; in ``deciding``, when it
    is its item's last and the item has failed; in neither, while the row is open.
    """

    attempts: int
    # attempts that ended in an error, by its code, the most frequent first; likewise below
    failed_attempts: Mapping[str, int]
    # of failed attempts: followed by another one
    retries: Mapping[str, int]
    # of failed attempts: the last word on a failed row
    deciding: Mapping[str, int]
    # of failed attempts: never reached the server, so not billed
    unsent: int
    # of failed attempts: usage unknown, but a plain refusal by HTTP status
    refused: int
    # of failed attempts: sent, usage unknown and no plain refusal, so perhaps billed
    perhaps_billed: int
    # None: no attempt reported any
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    # of failed attempts, where known
    wasted_input_tokens: int | None
    wasted_output_tokens: int | None
    # of failed attempts: body bytes after decompression
    wasted_bytes: int
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
        bad = (items.c.status == "failed", items.c.error_code == BAD_ROW)
        broken = dict(self._fetch(sa.select(items.c.run_id, sa.func.count()).where(*bad).group_by(items.c.run_id)))
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
                active=active,
                stop_reason=row.stop_reason,
                # a killed session leaves its last one behind
                pace=_pace(row.pace) if active else None,
            )
            for row, active in ((row, held(self.path, row.id)) for row in rows)
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
        with nullcontext() if self._held is not None else self.snapshot():
            groups = self._fetch(_sums(run_id))
            first_token = self._quantiles(run_id, attempts.c.time_to_first_token_s, sum(row.first_tokens for row in groups))
            duration = self._quantiles(run_id, attempts.c.duration_s, sum(row.count for row in groups if row.code is None))
            finish, done = items.c.finish_reason, (items.c.run_id == run_id, items.c.status == "done")
            reasons = self._fetch(sa.select(finish, sa.func.count()).where(*done).group_by(finish))
        failed = [row for row in groups if row.code is not None]
        return Books(
            attempts=sum(row.count for row in groups),
            failed_attempts=_by_code(failed),
            retries=_by_code(row for row in failed if row.fate == _RETRIED),
            deciding=_by_code(row for row in failed if row.fate == _DECIDED),
            unsent=sum(row.unsent for row in failed),
            refused=sum(row.refused for row in failed),
            perhaps_billed=sum(row.perhaps_billed for row in failed),
            **{name: _known(getattr(row, name) for row in groups) for name in _TOKENS},
            wasted_input_tokens=_known(row.input_tokens for row in failed),
            wasted_output_tokens=_known(row.output_tokens for row in failed),
            wasted_bytes=sum(row.bytes_received for row in failed),
            time_to_first_token=first_token,
            duration=duration,
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
        where = (items.c.run_id == run_id, items.c.metadata.is_not(None))
        statement = sa.select(items.c.metadata).where(*where).order_by(items.c.position, items.c.id)
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

    def _quantiles(self, run_id: int, column: sa.Column[float], count: int) -> Quantiles:
        """Give the quantiles of a column of the ``count`` attempts that succeeded and have it."""
        if not count:
            return Quantiles(p50=None, p95=None)
        places = [1 + min(count - 1, int(share * count)) for share in (0.5, 0.95)]
        place = sa.func.row_number().over(order_by=column).label("place")
        where = (_of_run(run_id), attempts.c.error_code.is_(None), column.is_not(None))
        ranked = sa.select(place, column.label("value")).where(*where).subquery()
        found = dict(self._fetch(sa.select(ranked).where(ranked.c.place.in_(places))))
        return Quantiles(p50=found[places[0]], p95=found[places[1]])

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
            raise database.trouble(self.path, "read", error) from error


def _of_run(run_id: int) -> sa.ColumnElement[bool]:
    """Select the attempts of a run in the order of the table; their index, whose order is the keys', is several times slower."""
    edges = (sa.func.min(attempts.c.id), sa.func.max(attempts.c.id))
    first, last = (sa.select(edge).where(attempts.c.run_id == run_id).scalar_subquery() for edge in edges)
    # the zero keeps SQLite from that index
    return sa.and_(attempts.c.id.between(first, last), attempts.c.run_id + 0 == run_id)


def _sums(run_id: int) -> sa.Select[Any]:
    """Add the attempts of a run up by error code and by what came of them, in one pass over the table."""
    later, code = attempts.alias("later").c, attempts.c.error_code
    same = (later.run_id == attempts.c.run_id, later.item_key == attempts.c.item_key)
    its = (items.c.run_id == attempts.c.run_id, items.c.key == attempts.c.item_key)
    # of the id alone, which the index holds: with all columns each row would be looked up, too
    followed = sa.exists(later.id).where(*same, later.id > attempts.c.id)
    settled = sa.exists().where(*its, items.c.status == "failed")
    fate = sa.case((code.is_(None), None), (followed, _RETRIED), (settled, _DECIDED), else_=_OPEN)
    silent = attempts.c.sent & attempts.c.output_tokens.is_(None)
    refused = attempts.c.status.is_not(None) & (attempts.c.status != 200)
    count = sa.func.count()
    columns = (
        code.label("code"),
        fate.label("fate"),
        count.label("count"),
        count.filter(~attempts.c.sent).label("unsent"),
        count.filter(silent, refused).label("refused"),
        count.filter(silent, ~refused).label("perhaps_billed"),
        count.filter(code.is_(None), attempts.c.time_to_first_token_s.is_not(None)).label("first_tokens"),
        *(sa.func.sum(attempts.c[name]).label(name) for name in (*_TOKENS, "bytes_received")),
    )
    return sa.select(*columns).where(_of_run(run_id)).group_by("code", "fate")


def _by_code(groups: Iterable[Any]) -> dict[str, int]:
    """Count groups of attempts by error code, the most frequent first."""
    counts: Counter[str] = Counter()
    for row in groups:
        counts[row.code] += row.count
    return dict(counts.most_common())


def _known(numbers: Iterable[int | None]) -> int | None:
    """Add up what is known; None when nothing is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _pace(text: str | None) -> Pace | None:
    """Decode what a session noted; what cannot be decoded, another version's for one, is not worth an error."""
    try:
        return msgspec.json.decode(text, type=Pace) if text is not None else None
    except msgspec.MsgspecError:
        return None
