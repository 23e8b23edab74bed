"""The view ``answers_json``: the answers of all runs with a schema, with a column for each of their fields.

Its columns depend on the runs of a store, so it is made anew when a run with other fields begins. A store without such a run has
no such view.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from runner.answer_shape import fields_of
from runner.model import Json
from runner.store import database
from runner.store.views import KEY

NAME = "answers_json"
_FIRST = ("run_id", "position", "key", "answer_number")
_MOST = 1_500
"""Columns at most: SQLite allows 2,000."""


async def refresh(connection: AsyncConnection) -> None:
    """Make the view as the runs of the store need it, in the transaction of a connection."""
    found = await connection.exec_driver_sql("SELECT settings FROM runs ORDER BY id")
    wanted = statement(settings for (text,) in found if (settings := database.settings_of(text)) is not None)
    now = await connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ?", (NAME,))
    if now.scalar() != wanted:
        await connection.exec_driver_sql(f"DROP VIEW IF EXISTS {NAME}")
        await connection.exec_driver_sql(wanted)


def statement(settings: Iterable[Mapping[str, Json]]) -> str:
    """Return what creates the view. settings: those of all runs."""
    # by column, in small letters, since SQL does not tell them from capital ones: its name, and what extracts each field in it
    columns = dict[str, tuple[str, list[str]]]()
    for schema in (one["schema"] for one in settings if isinstance(one.get("schema"), dict)):
        own = set[str]()
        for name, kind in fields_of(schema).items():
            # no JSON path of SQLite can spell these
            if '"' in name or "\\" in name or "\0" in name:
                continue
            column = f"answer_{name}" if name.lower() in _FIRST or name.lower() in own else name
            if column.lower() in own:
                # a field has that name already
                continue
            own.add(column.lower())
            _, values = columns.setdefault(column.lower(), (column, []))
            value = _extracted(name, whole=kind == "int")
            if value not in values:
                values.append(value)
    made = "".join(f',\n       {_first_of(values)} AS "{name}"' for name, values in [*columns.values()][:_MOST])
    return (
        f"CREATE VIEW {NAME} AS\nSELECT i.run_id, i.position, {KEY}, i.answer_number{made}\n"
        "FROM items i JOIN runs r ON r.id = i.run_id\n"
        "WHERE i.status = 'done' AND json_type(CASE WHEN json_valid(r.settings) THEN r.settings END, '$.schema') = 'object'"
    )


def _first_of(values: list[str]) -> str:
    """Return the first of some values that a row has: runs may spell a field in other letters."""
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"


def _extracted(name: str, *, whole: bool) -> str:
    """Return the value of a field. whole: it holds whole numbers, and 3.0 is 3."""
    path = f'$."{name}"'.replace("'", "''")
    value = f"json_extract(CASE WHEN json_valid(i.text) THEN i.text END, '{path}')"
    if whole:
        # a number beyond 64 bits is not the same as one that is cut to them
        cut = f"CAST({value} AS INTEGER)"
        value = f"CASE WHEN typeof({value}) = 'real' AND {value} = {cut} THEN {cut} ELSE {value} END"
    return value
