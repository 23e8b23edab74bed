"""The migrations make exactly the tables that the code believes in."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from runner import database
from runner.schema import APPLICATION_ID, HEAD, VERSION, metadata


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "runner.db"
    database.prepare(path, create=True)
    return path


@pytest.fixture
def connection(store: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(store)))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(database.scripts()).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def test_the_migrated_schema_is_the_schema(connection: sa.Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, metadata) == []


def test_names_of_constraints_follow_the_convention(connection: sa.Connection) -> None:
    """Alembic compares no check constraints and no names of keys."""
    found = sa.inspect(connection)
    for table in metadata.sorted_tables:
        names = [found.get_pk_constraint(table.name)["name"]]
        names += [one["name"] for one in found.get_foreign_keys(table.name)]
        names += [one["name"] for one in found.get_unique_constraints(table.name)]
        names += [one["name"] for one in found.get_check_constraints(table.name)]
        assert sorted(map(str, names)) == sorted(str(one.name) for one in table.constraints)
        assert sorted(str(one["name"]) for one in found.get_indexes(table.name)) == sorted(str(one.name) for one in table.indexes)


def test_primary_keys_and_checks_are_the_same(connection: sa.Connection) -> None:
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as fresh:
        ours, theirs = sa.inspect(fresh), sa.inspect(connection)
        for table in metadata.sorted_tables:
            assert ours.get_pk_constraint(table.name) == theirs.get_pk_constraint(table.name)
            assert ours.get_check_constraints(table.name) == theirs.get_check_constraints(table.name)
            # two types are never equal, their names are
            assert str(ours.get_columns(table.name)) == str(theirs.get_columns(table.name))
    engine.dispose()


def test_head_is_the_newest_migration(connection: sa.Connection) -> None:
    assert scripts().get_heads() == [HEAD]
    assert MigrationContext.configure(connection).get_current_revision() == HEAD


def test_every_migration_raises_the_version_by_one() -> None:
    assert len(list(scripts().walk_revisions())) == VERSION


def test_the_header_says_whose_file_it_is_and_how_new(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert APPLICATION_ID.to_bytes(4, "big") == b"PRNR"


def test_a_path_with_a_percent_sign_can_be_migrated(tmp_path: Path) -> None:
    folder = tmp_path / "50 %(here)s"
    folder.mkdir()
    database.prepare(folder / "ru%nner?.db", create=True)
    assert [one.name for one in folder.iterdir()] == ["ru%nner?.db"]
