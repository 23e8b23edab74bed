"""The checkpoint: SQLAlchemy async Core on aiosqlite. One writer; a commit returns when its rows survive a power cut.

Only what has an outcome, or was sent, has a row: there is no "pending" in the database, hence nothing to clean up after a crash.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.errors import BAD_ROW, RunLockedError
from runner.model import Entry, Pace, Settled
from runner.store.connection import Connection
from runner.store.lock import RunLock
from runner.store.schema import attempts, items, runs
from runner.store.statements import FORGET_ATTEMPTS, FORGET_ITEMS, KEEP_ITEM, LAST_ATTEMPT, SAVE_ATTEMPT, SAVE_ITEM, rows

_SETTLED = (
    f"SELECT key, status, position, fingerprint, attempts, error_code IS '{BAD_ROW}' FROM items"  # noqa: S608 - our own words
    " WHERE run_id = ? AND key IN ({})"
)
_BETWEEN = (
    "SELECT position, key, fingerprint FROM items WHERE run_id = ? AND position BETWEEN ? AND ? {}"  # noqa: S608 - as above
    f"AND error_code IS NOT '{BAD_ROW}' ORDER BY position"
)
_DONE_ONLY = "AND status = 'done' "
# an item's answer has its number in its row; the index holds the other attempts
_FAILED_BEFORE = "run_id = ? AND item_key IN ({}) AND error_code IS NOT NULL"
_TRIED = f"SELECT item_key, max(number) FROM attempts WHERE {_FAILED_BEFORE} GROUP BY item_key"  # noqa: S608 - as above


class RunCounts(Struct, frozen=True, kw_only=True):
    """What a run holds: outcomes by kind, and whether anything was ever sent."""

    done: int
    # without the broken rows
    failed: int
    broken: int
    attempted: bool


class RunStore:
    """One run of one store, owned by this process. Make it with ``RunStore.own``; an async context manager."""

    def __init__(self, path: Path, run_id: int, lock: RunLock, *, durability: str = "full") -> None:
        self.path, self.run_id = path, run_id
        self._lock = lock
        self._writer = Connection(path, write=True, synchronous=durability.upper())
        self._reader = Connection(path, write=False)
        # the newest attempt known to be on the disk; None when the last commit's fate is unknown
        self._last_attempt: int | None = None
        self._unsure = False

    @classmethod
    def own(cls, path: Path, run_id: int, *, durability: str = "full") -> "RunStore":
        """Take the run's lock. Raises RunLockedError, naming the owner, when another process works on it."""
        lock = RunLock(path, run_id)
        # `status` holds it for an instant when it looks
        if not lock.acquire(timeout_s=1.0):
            raise RunLockedError(f"run {run_id} of {path} is being worked on{_owner(path, run_id)}; wait for it, or stop it")
        return cls(path, run_id, lock, durability=durability)

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

        Saves and their attempts are not touched, whether it succeeds or not. Nothing is noted while one waits for the store.
        Raises StoreError, as ``save`` does.
        """
        if not self._writer.stuck:
            await self._note({"pace": msgspec.json.encode(pace).decode()})

    async def counts(self) -> RunCounts:
        """Count what the run holds."""
        mine = items.c.run_id == self.run_id
        # by the index alone; the rows themselves are read for the failed ones only
        by_status = sa.select(items.c.status, sa.func.count()).where(mine).group_by(items.c.status)
        broken_rows = sa.select(sa.func.count()).where(mine, items.c.status == "failed", items.c.error_code == BAD_ROW)
        counts: dict[str, int] = dict(await self._reader.fetch(by_status))
        ((broken,),) = await self._reader.fetch(broken_rows)
        some = sa.select(attempts.c.id).where(attempts.c.run_id == self.run_id, attempts.c.error_code.is_not(None)).limit(1)
        return RunCounts(
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
        known = await self._reader.rows(_SETTLED.format(_places(keys)), (self.run_id, *keys))
        found = {key: Settled(*rest) for key, *rest in known}
        open_keys = [key for key in keys if (one := found.get(key)) is None or one.status != "done"]
        if open_keys:
            for key, number in (await self.tried(open_keys)).items():
                before = found.get(key) or Settled(status=None, position=None, fingerprint=None, attempts=0)
                found[key] = msgspec.structs.replace(before, attempts=max(number, before.attempts))
        return found

    async def settled_between(self, first: int, last: int, *, failed_too: bool) -> Sequence[tuple[int, str, int]]:
        """Give the settled rows that stand on these lines, in their order: (position, key, fingerprint)."""
        return await self._reader.rows(_BETWEEN.format("" if failed_too else _DONE_ONLY), (self.run_id, first, last))

    async def tried(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Give the number of the last failed attempt of keys that have one; ``settled`` leaves those of done rows out."""
        return dict(await self._reader.rows(_TRIED.format(_places(keys)), (self.run_id, *keys)))

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
        """Write all entries in one transaction; on return they survive a kill, and a power cut with full durability."""
        begun: list[int] = []
        try:
            self._last_attempt = await self._writer.in_one_turn(lambda driver: self._write(driver, entries, begun))
        except BaseException:
            if begun and not self._unsure:
                self._last_attempt, self._unsure = begun[0], True
            raise
        self._unsure = False

    def _write(self, driver: sqlite3.Connection, entries: Sequence[Entry], begun: list[int]) -> int:
        """Write entries; return the number of the last attempt. Runs in the driver's thread: it changes nothing but ``begun``.

        begun: gets the number of the last attempt before, as soon as something may be written.
        """
        if self._unsure and self._last_attempt is not None:
            # the last commit may or may not have happened: what it wrote is in this batch again
            for forget in (FORGET_ATTEMPTS, FORGET_ITEMS):
                driver.execute(forget, (self.run_id, self._last_attempt))
        ((last,),) = driver.execute(LAST_ATTEMPT)
        begun.append(last)
        found = rows(self.run_id, entries, last)
        for statement, values in ((SAVE_ATTEMPT, found.sent), (SAVE_ITEM, found.settled), (KEEP_ITEM, found.kept)):
            driver.executemany(statement, values)
        return int(last) + len(found.sent)

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


def _places(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
