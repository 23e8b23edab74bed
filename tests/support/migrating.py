"""Migrates a store up or down to any version, in the way in which the store itself migrates to the newest."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext

from runner.store import database


def config() -> Config:
    """Return an Alembic configuration with the project's migrations."""
    alembic = Config()
    alembic.set_main_option("script_location", str(database.scripts()).replace("%", "%%"))
    return alembic


def migrate(path: Path, revision: str) -> None:
    """Bring a store, with all its rows, to a version."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    database.on_connect(engine, synchronous="FULL", write=True)
    alembic = config()
    with engine.begin() as connection:
        alembic.attributes["connection"] = connection
        now = MigrationContext.configure(connection).get_current_revision() or ""
        (command.downgrade if revision < now else command.upgrade)(alembic, revision)
    engine.dispose()
