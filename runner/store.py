"""The checkpoint: SQLAlchemy async Core on aiosqlite. One writer; a commit returns when its rows survive a power cut.

Only what has an outcome, or was sent, has a row: there is no "pending" in the database, hence nothing to clean up after a crash.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.connection import Connection
from runner.errors import RunLockedError
from runner.lock import RunLock
from runner.model import Attempt, Entry, Outcome, Pace, Settled
from runner.prompts import BAD_ROW
from runner.schema import attempts, items, runs

_ITEM = insert(items)
_SAVE_ITEM = _ITEM.on_conflict_do_update(
    index_elements=["run_id", "key"],
    set_={column.name: _ITEM.excluded[column.name] for column in items.columns if column.name not in ("id", "run_id", "key")},
    # a success is never overwritten
    where=items.c.status != "done",
)
_SAVE_ATTEMPT = sa.insert(attempts)
_LAST_ATTEMPT = sa.select(sa.func.coalesce(sa.func.max(attempts.c.id), 0))

_SETTLED = (
    f"SELECT key, status, position, fingerprint, attempts, error_code IS '{BAD_ROW}' FROM items"  # noqa: S608 - our own words
    " WHERE run_id = ? AND key IN ({})"
)
# of an item that is not done all attempts have failed, and only those are in the index
_FAILED_BEFORE = "run_id = ? AND item_key IN ({}) AND error_code IS NOT NULL"
_TRIED = f"SELECT item_key, max(number) FROM attempts WHERE {_FAILED_BEFORE} GROUP BY item_key"  # noqa: S608 - as above


class Known(Struct, frozen=True, kw_only=True):
    """What a run holds: outcomes by kind, and whether anything was ever sent."""

    done: int
    # without the broken rows
    failed: int
    broken: int
    attempted: bool


class RunStore:
    """One run of one store, owned by this process. Make it with ``RunStore.own``; an async context manager."""

    def __init__(self, path: Path, run_id: int, lock: RunLock) -> None:
        self.path, self.run_id = path, run_id
        self._lock = lock
        self._writer = Connection(path, write=True)
        self._reader = Connection(path, write=False)
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
            # finished again when this session has found it so; a killed one may have left its pace
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "finished_at": None, "stop_reason": None, "pace": None}
            await self._note(owner)
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

    async def begin(self, *, rows: int, digest: str, identical: int | None = None) -> None:
        """Note what the input holds now. identical: rows without an id beyond the first of their kind."""
        await self._note({"rows": rows, "input_digest": digest, "identical": identical})

    async def note_pace(self, pace: Pace) -> None:
        """Note what the session is doing, for a process that looks on: one small commit, in turn with the saves.

        Saves and their attempts are not touched, whether it succeeds or not. Raises StoreError, as ``save`` does.
        """
        await self._note({"pace": msgspec.json.encode(pace).decode()})

    async def known(self) -> Known:
        """Count what the run holds."""
        mine = items.c.run_id == self.run_id
        # by the index alone; the rows themselves are read for the failed ones only
        by_status = sa.select(items.c.status, sa.func.count()).where(mine).group_by(items.c.status)
        broken_rows = sa.select(sa.func.count()).where(mine, items.c.status == "failed", items.c.error_code == BAD_ROW)
        counts: dict[str, int] = dict(await self._reader.fetch(by_status))
        ((broken,),) = await self._reader.fetch(broken_rows)
        some = sa.select(attempts.c.id).where(attempts.c.run_id == self.run_id, attempts.c.error_code.is_not(None)).limit(1)
        return Known(
            done=counts.get("done", 0),
            failed=counts.get("failed", 0) - broken,
            broken=broken,
            attempted="done" in counts or bool(await self._reader.fetch(some)),
        )

    async def forget_broken(self, first: int, last: int | None, keep: Sequence[str]) -> None:
        """Drop the broken rows that stood on these lines and are no longer there; they cost nothing. last: None to the end."""
        where = [items.c.run_id == self.run_id, items.c.position >= first, items.c.error_code == BAD_ROW]
        if last is not None:
            where.append(items.c.position <= last)
        if await self._reader.fetch(sa.select(items.c.id).where(*where, items.c.key.not_in(keep)).limit(1)):
            await self._writer.execute(sa.delete(items).where(*where, items.c.key.not_in(keep)))

    async def settled(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Look keys up; those the store knows nothing of are left out."""
        # by hand, for a million finished rows are asked before the first new request
        rows = await self._reader.rows(_SETTLED.format(_places(keys)), (self.run_id, *keys))
        found = {key: Settled(*rest) for key, *rest in rows}
        open_keys = [key for key in keys if (one := found.get(key)) is None or one.status != "done"]
        if open_keys:
            query = _TRIED.format(_places(open_keys))
            for key, number in await self._reader.rows(query, (self.run_id, *open_keys)):
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

    async def finish(self, *, complete: bool, stop_reason: str | None) -> None:
        """Note how the session ended; ``complete``: every row of the input has an outcome."""
        await self._note({"stop_reason": stop_reason, "finished_at": time.time() if complete else None, "pace": None})

    async def _note(self, values: Mapping[str, Any]) -> None:
        """Change the row of the run, in a transaction of its own."""
        await self._writer.execute(sa.update(runs).where(runs.c.id == self.run_id).values(**values))


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


def _places(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _json(value: Mapping[str, Any]) -> str | None:
    return msgspec.json.encode(value).decode() if value else None
