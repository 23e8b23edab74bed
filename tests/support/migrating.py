"""The way through the versions of the store: up or down to any of them, as the store itself goes up to the newest."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext

from runner.store import database


def config() -> Config:
    """Give Alembic the project's migrations."""
    made = Config()
    made.set_main_option("script_location", str(database.scripts()).replace("%", "%%"))
    return made


def migrate(path: Path, revision: str) -> None:
    """Bring a store to a version, with all its rows."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    database.on_connect(engine, synchronous="FULL", write=True)
    given = config()
    with engine.begin() as connection:
        given.attributes["connection"] = connection
        now = MigrationContext.configure(connection).get_current_revision() or ""
        (command.downgrade if revision < now else command.upgrade)(given, revision)
    engine.dispose()
