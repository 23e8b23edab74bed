"""SQL that is compiled once in a process of the tests, and not once in each engine.

SQLAlchemy keeps what it has compiled with the engine. A program has one or two; a process of the tests has thousands, one for
each store, and would spend a seventh of its time on the same thirty statements.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_MANY = 5_000
_COMPILED: dict[Any, Any] = {}


def install() -> None:
    """Let all engines of this process have one cache. It has the dialect in its keys; those of one kind are the same here."""
    for kind in (SQLiteDialect_aiosqlite, SQLiteDialect_pysqlite):
        kind.__eq__ = _same_kind  # type: ignore[method-assign,assignment]
        kind.__hash__ = _hash_of_kind  # type: ignore[method-assign,assignment]
    sa.event.listen(sa.Engine, "engine_connect", _share)


def _same_kind(one: object, other: object) -> bool:
    return type(one) is type(other)


def _hash_of_kind(one: object) -> int:
    return hash(type(one))


def _share(connection: sa.Connection) -> None:
    if len(_COMPILED) > _MANY:
        _COMPILED.clear()
    connection.execution_options(compiled_cache=_COMPILED)
