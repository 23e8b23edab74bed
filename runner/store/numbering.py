"""The numbers of the files of a run: rows keep their files when others come before them, leave the input, or change places."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from runner import origin
from runner.origin import LINES, Files, Shift
from runner.store import database
from runner.store.changes import Changes
from runner.store.schema import batch_rows, items, runs

_ASIDE = 10**7
"""A number that no file has: the rows of one file are put aside before others get its number."""


async def settings_with_files(connection: AsyncConnection, run_id: int, changes: Changes) -> tuple[str, bool]:
    """Return the settings of a run with its files as they are now; give its rows the new numbers of theirs.

    The second value is True if that has changed rows.
    """
    stored = (await connection.execute(sa.select(runs.c.settings).where(runs.c.id == run_id))).scalar() or "{}"
    before = origin.files_in(database.settings_of(stored) or {})
    files, shifts = changes.files, list[Shift]()
    assert files is not None
    if not changes.taken_over:
        files, shifts = origin.renumbered(_paths(before, changes.single), files)
        await _shift(connection, run_id, shifts)
    settings: dict[str, Any] = msgspec.json.decode(changes.columns.get("settings") or stored)
    return msgspec.json.encode({**settings, origin.STORED: files.stored()}).decode(), bool(shifts)


def _paths(before: Files | None, single: str | None) -> Sequence[str]:
    if before is not None:
        return before.numbered
    return (single,) if single is not None else ()


async def _shift(connection: AsyncConnection, run_id: int, shifts: Sequence[Shift]) -> None:
    for table in (items, batch_rows):
        await _shift_in(table, connection, run_id, shifts)


async def _shift_in(table: sa.Table, connection: AsyncConnection, run_id: int, shifts: Sequence[Shift]) -> None:
    position = table.c.position
    for shift in shifts:
        of_files = position.between(shift.first * LINES, (shift.last + 1) * LINES - 1)
        moved = sa.update(table).where(table.c.run_id == run_id, of_files)
        await connection.execute(moved.values(position=position + (shift.by + _ASIDE) * LINES))
    if shifts:
        aside = sa.update(table).where(table.c.run_id == run_id, position >= (_ASIDE // 2) * LINES)
        await connection.execute(aside.values(position=position - _ASIDE * LINES))
