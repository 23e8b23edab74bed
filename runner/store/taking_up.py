"""How a session takes up its run: what it changes about the run is written when it begins, and nothing is left if it does not."""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from runner import origin
from runner.errors import UsageError
from runner.store import database, fields_view, retrying
from runner.store.changes import Changes, entries
from runner.store.numbering import settings_with_files
from runner.store.reserving import book_killed
from runner.store.schema import history, items, prices, reused, runs, variants

_NO_VARIANT = 0
"""Stands for answer settings that are not stored yet: no entry of variants has this number."""
_RESTORED = ("host", "pid", "pace", "compared")
"""Columns of the run that a session changes before it begins."""
_GROWING = (items, reused, prices)
"""Tables to which a session adds before it begins: the answers that it takes over, and prices that are known now."""


class TakingUp:
    """The change from a run between two sessions to one with a session. Each method is part of a transaction.

    changes: what the session changes about the run. created_at: when the run was created; None: that is not checked.
    """

    def __init__(self, path: Path, run_id: int, changes: Changes, created_at: float | None) -> None:
        self._path, self._run_id = path, run_id
        self._changes, self._created_at = changes, created_at
        # the entry of variants for the answer settings of the session; None: those of the run
        self.variant: int | None = None
        # the retry that begins with the session; None: there is none, or it goes on with the last one
        self.retry: int | None = None
        # what has got a price in the session, by table, as (former entry of prices, number in the table)
        self.repriced: Mapping[sa.Table, Sequence[tuple[int, int]]] = {}
        # the run before: columns of its entry, and its newest entry in each of _GROWING; later ones have greater numbers
        self._columns: Mapping[str, Any] = {}
        self._last: Sequence[int] = ()

    async def own(self, connection: AsyncConnection) -> None:
        """Write who works on the run, and book what a killed session has left. Raises UsageError if the run is gone."""
        mine = [runs.c.id == self._run_id]
        if self._created_at is not None:
            # the number of a run whose first session did not begin is given again
            mine.append(runs.c.created_at == self._created_at)
        before = (await connection.execute(sa.select(*(runs.c[name] for name in _RESTORED)).where(*mine))).first()
        if before is None:
            # `runner delete` was quicker: it held the lock before
            raise UsageError(f"run {self._run_id} of {self._path} was deleted")
        self._columns = dict(zip(_RESTORED, before, strict=True))
        newest = (sa.select(sa.func.max(table.c.id)).where(table.c.run_id == self._run_id) for table in _GROWING)
        self._last = [(await connection.execute(query)).scalar() or 0 for query in newest]
        # clear a pace that a killed session may have left
        await self._set(connection, {"host": socket.gethostname(), "pid": os.getpid(), "pace": None})
        await book_killed(connection, self._run_id)
        await retrying.forget_unbegun(connection, self._run_id)
        if self._changes.variant is not None:
            same = sa.select(variants.c.id).where(*(variants.c[name] == value for name, value in self._mine().items()))
            self.variant = (await connection.execute(same)).scalar() or _NO_VARIANT

    async def begin(self, connection: AsyncConnection) -> bool:
        """Write what the session changes about the run. Return True if its rows are on other lines now."""
        self.repriced, moved = {}, False
        # the session confirms at its end that the run is finished
        values = {**self._changes.columns, "finished_at": None, "stop_reason": None}
        if self._changes.files is not None:
            values["settings"], moved = await settings_with_files(connection, self._run_id, self._changes)
        elif "settings" in values:
            values["settings"] = await self._with_files(connection, values["settings"])
        await self._set(connection, values)
        for entry in entries(self._run_id, self._changes.noted):
            await connection.execute(sa.insert(history).values(**entry))
        now = (await connection.execute(sa.select(runs.c.settings).where(runs.c.id == self._run_id))).scalar()
        if (database.settings_of(now or "") or {}).get("schema") is not None:
            await fields_view.refresh(connection)
        if self.retry is not None:
            await retrying.begin(connection, self._run_id, self.retry)
        if self.variant == _NO_VARIANT:
            added = await connection.execute(sa.insert(variants).values(**self._mine()))
            self.variant = int((added.inserted_primary_key or (0,))[0])
        return moved

    async def undo(self, connection: AsyncConnection, *, created: bool) -> None:
        """Leave the run as it was. created: by this session, so that there is none any more."""
        await retrying.forget_unbegun(connection, self._run_id)
        for table, repriced in self.repriced.items():
            old = sa.update(table).where(table.c.id == sa.bindparam("which")).values(price_id=sa.bindparam("former"))
            if repriced:
                await connection.execute(old, [{"which": which, "former": former} for former, which in repriced])
        for table, last in zip(_GROWING, self._last, strict=True):
            await connection.execute(sa.delete(table).where(table.c.run_id == self._run_id, table.c.id > last))
        if created:
            await connection.execute(sa.delete(runs).where(runs.c.id == self._run_id))
        else:
            await self._set(connection, self._columns)

    async def _set(self, connection: AsyncConnection, values: Mapping[str, Any]) -> None:
        await connection.execute(sa.update(runs).where(runs.c.id == self._run_id).values(**values))

    async def _with_files(self, connection: AsyncConnection, settings: str) -> str:
        """Return new settings with the files that the run has: they change in a session that reads others."""
        stored = (await connection.execute(sa.select(runs.c.settings).where(runs.c.id == self._run_id))).scalar() or "{}"
        files = (database.settings_of(stored) or {}).get(origin.STORED)
        if files is None:
            return settings
        now: dict[str, Any] = msgspec.json.decode(settings)
        return msgspec.json.encode({**now, origin.STORED: files}).decode()

    def _mine(self) -> dict[str, Any]:
        return {"run_id": self._run_id, "settings": msgspec.json.encode(self._changes.variant, order="sorted").decode()}
