"""The checkpoint: SQLAlchemy async Core on aiosqlite. One writer; a commit returns when its rows survive a power cut.

Only what has an outcome, or was sent, has a row: there is no "pending" in the database, hence nothing to clean up after a crash.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runner import database
from runner.errors import RunLockedError, StoreError
from runner.lock import RunLock
from runner.model import Attempt, Entry, Outcome, Settled
from runner.prompts import BAD_ROW
from runner.schema import attempts, items, runs

LIMIT_S = 60.0
"""How long a transaction may take: a disk that is slower than this is dead."""

T = TypeVar("T")

_ITEM = insert(items)
_SAVE_ITEM = _ITEM.on_conflict_do_update(
    index_elements=["run_id", "key"],
    set_={column.name: _ITEM.excluded[column.name] for column in items.columns if column.name not in ("id", "run_id", "key")},
    # a success is never overwritten
    where=items.c.status != "done",
)
_SAVE_ATTEMPT = sa.insert(attempts)
_LAST_ATTEMPT = sa.select(sa.func.coalesce(sa.func.max(attempts.c.id), 0))


class RunStore:
    """One run of one store, owned by this process. Make it with ``RunStore.own``; an async context manager."""

    def __init__(self, path: Path, run_id: int, lock: RunLock) -> None:
        self.path, self.run_id = path, run_id
        self._lock = lock
        self._writer = _Connection(path, write=True)
        self._reader = _Connection(path, write=False)
        # the newest attempt known to be on the disk; None when the last commit's fate is unknown
        self._last_attempt: int | None = None
        self._unsure = False

    @classmethod
    def own(cls, path: Path, run_id: int) -> "RunStore":
        """Take the run's lock. Raises RunLockedError, naming the owner, when another process works on it."""
        lock = RunLock(path, run_id)
        # `status` holds it for an instant when it looks
        if not lock.acquire(timeout_s=1.0):
            raise RunLockedError(f"run {run_id} of {path} is being worked on{_owner(path, run_id)}; wait for it, or stop it")
        return cls(path, run_id, lock)

    async def __aenter__(self) -> Self:
        try:
            # finished again when this session has found it so
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "finished_at": None, "stop_reason": None}
            # a broken line costs nothing and is found again, or not, when the input is read
            broken = (items.c.run_id == self.run_id, items.c.error_code == BAD_ROW)
            await self._writer.execute(
                sa.update(runs).where(runs.c.id == self.run_id).values(**owner), sa.delete(items).where(*broken)
            )
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            await self._writer.close()
            await self._reader.close()
        finally:
            self._lock.release()

    async def known(self) -> dict[str, int]:
        """Count what the run holds: items by status, and ``attempts``."""
        statement = sa.select(items.c.status, sa.func.count()).where(items.c.run_id == self.run_id).group_by(items.c.status)
        found = {"done": 0, "failed": 0, **dict(await self._reader.fetch(statement))}
        some = sa.select(attempts.c.id).where(attempts.c.run_id == self.run_id).limit(1)
        found["attempts"] = len(await self._reader.fetch(some))
        return found

    async def settled(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Look keys up; those the store knows nothing of are left out."""
        columns = (items.c.key, items.c.status, items.c.position, items.c.fingerprint, items.c.attempts)
        rows = await self._reader.fetch(sa.select(*columns).where(items.c.run_id == self.run_id, items.c.key.in_(keys)))
        found = {
            key: Settled(status=status, position=position, fingerprint=fingerprint, attempts=count)
            for key, status, position, fingerprint, count in rows
        }
        open_keys = [key for key in keys if key not in found or found[key].status == "failed"]
        if open_keys:
            where = (attempts.c.run_id == self.run_id, attempts.c.item_key.in_(open_keys))
            count = sa.func.max(attempts.c.number)
            statement = sa.select(attempts.c.item_key, count).where(*where).group_by(attempts.c.item_key)
            for key, number in await self._reader.fetch(statement):
                before = found.get(key) or Settled(status=None, position=None, fingerprint=None, attempts=0)
                found[key] = msgspec.structs.replace(before, attempts=max(number, before.attempts))
        return found

    async def reposition(self, moved: Sequence[tuple[str, int]]) -> None:
        """Note the new places of rows that have moved in the input: (key, position)."""
        statement = (
            sa.update(items)
            .where(items.c.run_id == self.run_id, items.c.key == sa.bindparam("moved"))
            .values(position=sa.bindparam("place"))
        )

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement, [{"moved": key, "place": position} for key, position in moved])

        await self._writer.transaction(write)

    async def save(self, entries: Sequence[Entry]) -> None:
        """Write all entries in one transaction; on return they survive a power cut."""
        self._last_attempt = await self._writer.transaction(lambda connection: self._write(connection, entries))
        self._unsure = False

    async def _write(self, connection: AsyncConnection, entries: Sequence[Entry]) -> int:
        """Write entries; return the number of the last attempt."""
        if self._unsure and self._last_attempt is not None:
            # the last commit may or may not have happened: what it wrote is in this batch again
            ours = (attempts.c.run_id == self.run_id, attempts.c.id > self._last_attempt)
            theirs = (items.c.run_id == self.run_id, items.c.attempt_id > self._last_attempt)
            await connection.execute(sa.delete(attempts).where(*ours))
            await connection.execute(sa.delete(items).where(*theirs))
        last = int((await connection.execute(_LAST_ATTEMPT)).scalar_one())
        if not self._unsure:
            self._last_attempt, self._unsure = last, True
        sent, settled = _rows(self.run_id, entries, last)
        if sent:
            await connection.execute(_SAVE_ATTEMPT, sent)
        if settled:
            await connection.execute(_SAVE_ITEM, settled)
        return last + len(sent)

    async def finish(self, *, rows: int, digest: str, complete: bool, stop_reason: str | None) -> None:
        """Note what the input held and how the session ended; ``complete``: every row of the input has an outcome."""
        values: dict[str, Any] = {"rows": rows, "stop_reason": stop_reason}
        values["finished_at"] = time.time() if complete else None
        if complete:
            values["input_digest"] = digest
        await self._writer.execute(sa.update(runs).where(runs.c.id == self.run_id).values(**values))


class _Connection:
    """One connection, opened on first use and thrown away after an error, whose transactions take turns.

    A transaction is not cancelled: cut off in the middle, SQLite's thread would go on with it and keep the file locked. One
    that takes longer than ``LIMIT_S`` is left to its fate.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path, self._write = path, write
        self._turn = anyio.Lock()
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None
        self._file: tuple[int, int] | None = None

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work and commit. Raises StoreError."""
        with anyio.move_on_after(LIMIT_S, shield=True):
            async with self._turn:
                try:
                    connection = await self._open()
                    self._check_file()
                    await connection.begin()
                    result = await work(connection)
                    await connection.commit()
                    return result
                except anyio.get_cancelled_exc_class():
                    self._engine = self._connection = None
                    raise
                except (sa.exc.DBAPIError, OSError) as error:
                    await self.close()
                    verb = "written" if self._write else "read"
                    raise StoreError(f"the store {self._path} cannot be {verb}: {database.reason(error)}") from error
                except BaseException:
                    await self.close()
                    raise
        raise StoreError(f"the store {self._path} does not answer: no transaction within {LIMIT_S:g} s")

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Read all rows of a statement."""

        async def read(connection: AsyncConnection) -> list[Any]:
            result = await connection.execute(statement)
            return list(result)

        return await self.transaction(read)

    async def execute(self, *statements: sa.Executable) -> None:
        """Do several statements in one transaction."""

        async def write(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.execute(statement)

        await self.transaction(write)

    async def _open(self) -> AsyncConnection:
        if self._connection is None:
            url = sa.URL.create("sqlite+aiosqlite", database=str(self._path))
            self._engine = create_async_engine(url, poolclass=sa.NullPool)
            database.on_connect(self._engine.sync_engine, synchronous="FULL", write=self._write)
            self._connection = await self._engine.connect()
            self._file = _identity(self._path)
        return self._connection

    def _check_file(self) -> None:
        """Notice a store that was deleted or replaced: SQLite would go on writing into a file that nobody can find."""
        if _identity(self._path) != self._file:
            raise StoreError(f"the store {self._path} was deleted or replaced while it was in use")

    async def close(self) -> None:
        """Close, rolling back what is open; after an error the connection's state is not to be trusted."""
        connection, engine = self._connection, self._engine
        self._connection = self._engine = None
        with anyio.move_on_after(LIMIT_S, shield=True):
            if connection is not None:
                # a connection that cannot even roll back is gone all the same, and the first error is the one to tell
                with suppress(sa.exc.DBAPIError):
                    await connection.close()
            if engine is not None:
                await engine.dispose()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _owner(path: Path, run_id: int) -> str:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    try:
        with engine.connect() as connection:
            row = connection.execute(sa.select(runs.c.pid, runs.c.host).where(runs.c.id == run_id)).first()
    except sa.exc.DBAPIError:
        # the lock is what is to be told; its owner is only a help
        return ""
    finally:
        engine.dispose()
    return f" by process {row.pid} on {row.host}" if row is not None and row.pid is not None else ""


def _rows(run_id: int, entries: Sequence[Entry], last: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give the rows of attempts and items; attempts are numbered on from ``last``."""
    sent: list[dict[str, Any]] = []
    settled: list[dict[str, Any]] = []
    for entry in entries:
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is not None:
            last += 1
            sent.append(_attempt_row(run_id, last, attempt))
        if isinstance(entry, Outcome):
            settled.append(_item_row(run_id, entry, last if attempt is not None else None))
    return sent, settled


def _attempt_row(run_id: int, id_: int, attempt: Attempt) -> dict[str, Any]:
    usage = attempt.usage
    return {
        "id": id_,
        "run_id": run_id,
        "item_key": attempt.key,
        "number": attempt.number,
        "started_at": attempt.started_at,
        "duration_s": attempt.duration_s,
        "time_to_first_token_s": attempt.time_to_first_token_s,
        "status": attempt.status,
        "sent": attempt.sent,
        "bytes_received": attempt.bytes_received,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "served_model": attempt.served_model,
        "response_id": attempt.response_id,
        "error_code": attempt.error_code,
        "error": attempt.error,
    }


def _item_row(run_id: int, outcome: Outcome, attempt_id: int | None) -> dict[str, Any]:
    completion = outcome.completion
    return {
        "run_id": run_id,
        "key": outcome.key,
        "position": outcome.position,
        "status": outcome.status,
        "fingerprint": outcome.fingerprint,
        "attempts": outcome.attempts,
        "attempt_id": attempt_id,
        "finish_reason": completion.finish_reason if completion else None,
        "error_code": outcome.error_code,
        "error": outcome.error,
        "notes": ",".join(completion.notes) or None if completion else None,
        "metadata": _json(outcome.metadata),
        "extra": _json(completion.extra) if completion else None,
        "text": completion.text if completion else None,
    }


def _json(value: Mapping[str, Any]) -> str | None:
    return msgspec.json.encode(value).decode() if value else None
