"""The migrations make exactly the tables that the code believes in."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from migrating import config, migrate

from runner.config.settings import SETTINGS
from runner.errors import StoreError
from runner.store import database
from runner.store.reader import StoreReader
from runner.store.runs import answer_fingerprint
from runner.store.schema import APPLICATION_ID, HEAD, VERSION, metadata


@pytest.fixture(params=["made at once", "migrated"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "runner.db"
    (migrated if request.param == "migrated" else made)(path)
    return path


def made(path: Path) -> None:
    database.prepare(path, create=True)


def migrated(path: Path) -> None:
    """Step by step from nothing, by Alembic alone."""
    path.touch(0o600)
    database._switch_to_wal(path)
    for revision in reversed([one.revision for one in scripts().walk_revisions()]):
        migrate(path, revision)


@pytest.fixture
def connection(store: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(store)))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


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


# --- a store of version 1 ---------------------------------------------------------------------------------------------

OLD_ROWS = """
    INSERT INTO runs VALUES (1, 1e9, 1e9 + 60, '/x/p.jsonl', 'p.jsonl', '{"model": "m"}', 'f', 'd', 3, NULL, 'here', 77);
    INSERT INTO runs VALUES (2, 2e9, NULL, '/x/q.jsonl', 'q.jsonl', '{"model": "n"}', 'g', NULL, NULL, 'stopped', NULL, NULL);
    INSERT INTO items VALUES (1, 1, 'a', 1, 'done', 5, 2, 2, 'stop', NULL, NULL, NULL, '{"n": 1}', NULL, 'yes');
    INSERT INTO items VALUES (2, 1, 'b', 2, 'failed', 6, 1, 3, NULL, 'cut', 'cut!', NULL, NULL, NULL, NULL);
    INSERT INTO attempts VALUES (1, 1, 'a', 1, 1e9, 2.0, NULL, 200, 1, 9, NULL, NULL, NULL, NULL, NULL, NULL, 'cut', 'cut!');
    INSERT INTO attempts VALUES (2, 1, 'a', 2, 1e9, 2.0, 0.5, 200, 1, 90, 3, 5, 0, 1, 'm-1', 'r', NULL, NULL);
    INSERT INTO attempts VALUES (3, 1, 'b', 1, 1e9, 2.0, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 'cut', 'cut!');
"""
TABLES = ("runs", "items", "attempts")
HOUR = ("cache_write_1h_tokens", "cache_1h_bound")


def without_fingerprints(tables: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """A way down and up computes them again, and those of the rows above are made up."""
    return {**tables, "runs": [{**row, "fingerprint": None} for row in tables["runs"]]}


def kept(path: Path) -> dict[str, list[dict[str, object]]]:
    """All rows, by column."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")] for table in TABLES}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    path.touch(0o600)
    migrate(path, "0001")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_ROWS)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert "pace" not in [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
    return path


@pytest.mark.parametrize("create", [True, False], ids=["a run", "a reader"])
def test_an_old_store_is_brought_up_to_date_and_keeps_every_row(old: Path, create: bool) -> None:
    before = kept(old)
    database.prepare(old, create=create)
    after = kept(old)
    added = ("pace", "identical", "input_bytes", "input_target", "look_again", "settled_head", "compared")
    # they have been begun without a look at the others, and stay so
    assert [[row.pop(name) for name in added] for row in after["runs"]] == [[*[None] * (len(added) - 1), 1]] * 2
    for name in ("variant_id", "cache_write_tokens", "tier", "input_bound", "output_bound", "price_id", "endpoint", *HOUR):
        assert [row.pop(name) for row in after["attempts"]] == [None] * 3
    later = ("answer_number", "same_as", "made_seed")
    assert [tuple(row.pop(name) for name in later) for row in after["items"]] == [(1, None, None)] * len(before["items"])
    # the fingerprints are those of the settings, as this version makes them
    for row in after["runs"]:
        assert row.pop("fingerprint") == answer_fingerprint(json.loads(str(row["settings"])))
    for row in before["runs"]:
        row.pop("fingerprint")
    assert after == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert old.stat().st_mode & 0o777 == 0o600
    database.prepare(old, create=create)


def test_what_an_old_store_held_is_found_again(old: Path) -> None:
    with StoreReader(old) as reader:
        one, two = reader.runs()
        assert (one.done, one.failed, one.rows, one.finished_at, one.settings) == (1, 1, 3, 1e9 + 60, {"model": "m"})
        assert (two.done, two.stop_reason, two.pace) == (0, "stopped", None)
        a, b = reader.results(1)
        assert (a.id, a.metadata, a.text, a.output_tokens, a.attempts) == ("a", {"n": 1}, "yes", 5, 2)
        assert (b.id, b.error_code, b.attempts) == ("b", "cut", 1)
        books = reader.totals(1)
    assert (books.attempts, books.retries, books.deciding) == (3, {"cut": 1}, {"cut": 1})
    assert (books.unsent, books.perhaps_billed) == (1, 1)


def test_a_migrated_store_has_the_schema_of_a_new_one(old: Path, store: Path) -> None:
    database.prepare(old, create=True)
    with closing(sqlite3.connect(old)) as left, closing(sqlite3.connect(store)) as right:
        for table in TABLES:
            query = f"PRAGMA table_info({table})"
            assert left.execute(query).fetchall() == right.execute(query).fetchall()


def test_the_second_version_can_be_taken_back(old: Path) -> None:
    before = kept(old)
    database.prepare(old, create=True)
    migrate(old, "0001")
    assert without_fingerprints(kept(old)) == without_fingerprints(before)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    database.prepare(old, create=True)
    assert [row["pace"] for row in kept(old)["runs"]] == [None, None]


def test_a_store_that_was_taken_back_finds_its_runs_by_all_their_settings(old: Path) -> None:
    """Also by those that are younger than the version to which it was taken back."""
    settings = json.dumps({setting.name: f"its {setting.name}" for setting in SETTINGS if setting.answer})
    fingerprint = answer_fingerprint(json.loads(settings))
    database.prepare(old, create=True)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE runs SET settings = ?, fingerprint = ?", (settings, fingerprint))
        connection.commit()
    migrate(old, "0001")
    database.prepare(old, create=True)
    assert [row["fingerprint"] for row in kept(old)["runs"]] == [fingerprint] * 2


def test_the_third_version_can_be_taken_back(old: Path) -> None:
    migrate(old, "0002")
    before, objects = kept(old), everything(old)
    database.prepare(old, create=True)
    assert {"overview", "answers", "failures", "spend"} == {name for name, kind in everything(old) if kind == "view"}
    migrate(old, "0002")
    assert without_fingerprints(kept(old)) == without_fingerprints(before)
    assert everything(old) == objects
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_the_views_of_an_old_store_show_what_was_asked_at_once(old: Path) -> None:
    migrate(old, "0004")
    objects = everything(old)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE items SET metadata = json_object('prompt', 'why ' || key)")
        connection.commit()
    database.prepare(old, create=False)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT prompt, template, text, reused_from FROM answers").fetchall() == [
            ("why a", None, "yes", None)
        ]
        assert connection.execute("SELECT prompt, template, error FROM failures").fetchall() == [("why b", None, "cut!")]
        # no later session of a run that was begun by an older version compares its rows
        assert connection.execute("SELECT compared FROM runs").fetchall() == [(1,), (1,)]
    migrate(old, "0004")
    assert everything(old) == objects


MONEY_ROWS = """
    INSERT INTO prices VALUES (1, 1, 'm', 'standard', 1000000, 4000000, 100000, 1250000, 7000000, 2000000,
        NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO prices VALUES (2, 1, 'm', 'priority', 1000000, 4000000, 100000, 1250000, 4000000, 2000000,
        2000000, 8000000, 200000, 2500000, 8000000, 4000000);
    INSERT INTO reservations VALUES (1, 1, 'c', 1, 1e9, 200, 10, 1, NULL, 50, 1);
    INSERT INTO reservations VALUES (2, 1, '', 2, 1e9, 64, 8, 1, NULL, NULL, 4);
    INSERT INTO samples VALUES (1, '{"rows": 3}');
    INSERT INTO items VALUES (8, 1, 'a' || char(64976) || '2', 1, 'done', 5, 1, 8, 'stop', NULL, NULL, NULL, NULL, NULL, 'no', 2,
        NULL, 77);
    INSERT INTO items VALUES (9, 1, 'd', 3, 'done', 5, 0, NULL, 'stop', NULL, NULL, NULL, NULL, NULL, 'yes', 1, 'a', NULL);
    INSERT INTO reused SELECT id, 1, key, 2, 'z', 1e9, 2.0, 0.5, 3, 5, 0, 1, 'm-1', 'r' FROM items WHERE id IN (8, 9);
    INSERT INTO attempts (id, run_id, item_key, number, started_at, duration_s, status, sent, bytes_received, input_tokens,
        output_tokens, cache_write_tokens, cache_write_1h_tokens, price_id)
        VALUES (8, 1, 'a' || char(64976) || '2', 1, 1e9, 2.0, 200, 1, 90, 100, 5, 50, 20, 1);
    INSERT INTO attempts (id, run_id, item_key, number, started_at, duration_s, status, sent, bytes_received, input_tokens,
        output_tokens, reasoning_tokens, error_code, price_id)
        VALUES (9, 1, 'b', 9, 1e9, 2.0, 200, 1, 90, 10, 5, 0, 'malformed', 2);
    UPDATE attempts SET price_id = 1, input_bound = 300, output_bound = 10, cache_1h_bound = 300 WHERE id = 1;
"""


def test_a_store_with_money_and_further_answers_can_be_taken_back_and_brought_up_again(old: Path) -> None:
    """What was paid stays on the books of an older version, also for answers that it does not know."""
    before = kept(old)
    database.prepare(old, create=True)
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(MONEY_ROWS)
        assert connection.execute("SELECT round(1e12 * sum(cost)), round(1e12 * sum(cost_perhaps)) FROM spend").fetchone() == (
            50 * 1e6 + 30 * 1.25e6 + 20 * 2e6 + 5 * 4e6 + 10 * 1e6 + 5 * 4e6,
            10 * 1e6
            + 5 * 4e6
            + (300 * 2e6 + 10 * 7e6)
            + 5 * 3e6
            + (150 * 1.25e6 + 50 * 2e6 + 10 * 7e6)
            + (64 * 1.25e6 + 8 * 7e6),
        )
    migrate(old, "0008")
    with closing(sqlite3.connect(old)) as connection:
        # a version that knows one price has on its books what the dearer tier may have cost, and nothing that was open together
        assert connection.execute("SELECT round(1e12 * sum(cost)), round(1e12 * sum(cost_perhaps)) FROM spend").fetchone() == (
            50 * 1e6 + 30 * 1.25e6 + 20 * 2e6 + 5 * 4e6 + 10 * 2e6 + 5 * 8e6,
            (300 * 2e6 + 10 * 7e6) + 5 * 3e6 + (150 * 1.25e6 + 50 * 2e6 + 10 * 7e6),
        )
    migrate(old, "0007")
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT input_bound, output_bound, price_id FROM reservations").fetchall() == [(200, 10, 1)]
        assert connection.execute("SELECT model, cache_write, reasoning FROM prices").fetchall() == [
            ("m", 1250000, 7000000),
            ("m", 2500000, 8000000),
        ]
        # the hour is forgotten, and so are open requests
        assert connection.execute("SELECT round(1e12 * sum(cost)) FROM spend").fetchone() == (
            50 * 1e6 + 50 * 1.25e6 + 5 * 4e6 + 10 * 2e6 + 5 * 8e6,
        )
    migrate(old, "0006")
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT key FROM items ORDER BY id").fetchall() == [("a",), ("b",), ("d",)]
        assert connection.execute("SELECT item_key FROM reused").fetchall() == [("d",)]
        assert connection.execute("SELECT drawn FROM samples").fetchall() == [('{"rows": 3}',)]
        assert connection.execute("SELECT count(*), sum(output_tokens) FROM attempts WHERE run_id = 1").fetchone() == (5, 15)
    migrate(old, "0001")
    left = kept(old)
    assert [row for row in left["items"] if row["id"] != 9] == before["items"]
    assert [row for row in left["attempts"] if row["id"] not in (8, 9)] == before["attempts"]
    database.prepare(old, create=True)
    with closing(sqlite3.connect(old)) as connection:
        for name in ("prices", "reservations", "samples"):
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,)
        # nothing tells any more what was paid, and this is not 0
        assert connection.execute("SELECT sum(cost), sum(unpriced) FROM spend").fetchone() == (None, 4)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def laid_out(path: Path) -> dict[str, object]:
    """What SQLite itself says of a store, whatever way its tables were written down."""
    with closing(sqlite3.connect(path)) as connection:

        def rows(query: str) -> list[tuple[object, ...]]:
            return sorted(connection.execute(query).fetchall(), key=repr)

        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        indexes = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]
        looks: dict[str, object] = {
            pragma: rows(f"PRAGMA {pragma}") for pragma in ("application_id", "user_version", "journal_mode")
        }
        looks |= {f"{look} {name}": rows(f"PRAGMA {look}({name})") for name in names for look in TABLE_LOOKS}
        # indexes may have been made in any order
        looks |= {f"index_list {name}": rows(f"SELECT name, origin, partial FROM pragma_index_list('{name}')") for name in names}
        looks |= {f"index_xinfo {name}": rows(f"PRAGMA index_xinfo({name})") for name in indexes}
        looks["version"] = rows("SELECT * FROM alembic_version")
        looks["rows"] = [rows(f"SELECT count(*) FROM {name}") for name in names if name != "alembic_version"]
        return looks


TABLE_LOOKS = ("table_list", "table_xinfo", "foreign_key_list")


def written(sql: str | None) -> list[str]:
    """The parts of a CREATE, in any order and spacing: a column that was added later stands behind the constraints.

    A table that was made anew has its name in quotes.
    """
    return sorted(re.sub(r"\s+", " ", part).strip(" ()") for part in re.split(r",|CREATE TABLE \"?\w+\"? \(", sql or ""))


def test_what_was_sent_at_the_prices_of_an_old_store_costs_the_same(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    made(path)
    migrate(path, "0007")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (id, created_at, input, input_relative, settings, fingerprint) VALUES (1, 1e9, 'x', 'x', '{}', 'f')"
        )
        connection.execute(
            "INSERT INTO prices (id, run_id, model, tier, input, output, cached_input, cache_write, reasoning)"
            " VALUES (1, 1, 'm', 'standard', 2, 5, 1, 3, 5)"
        )
        connection.execute(
            "INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, sent, bytes_received, status, input_tokens,"
            " output_tokens, cache_write_tokens, price_id) VALUES (1, 'a', 1, 1e9, 1.0, 1, 9, 200, 10, 5, 4, 1)"
        )
    database.prepare(path, create=False)
    with StoreReader(path) as reader:
        money = reader.money(1)
    assert (money.spent, money.perhaps, money.unpriced) == (6 * 2 + 4 * 3 + 5 * 5, 0, 0)


def test_a_store_that_is_made_at_once_is_a_migrated_one(tmp_path: Path) -> None:
    one, other = tmp_path / "made.db", tmp_path / "migrated.db"
    made(one)
    migrated(other)
    assert laid_out(one) == laid_out(other)
    left, right = everything(one), everything(other)
    assert left.keys() == right.keys()
    for which, sql in left.items():
        if which[1] == "table":
            assert written(sql) == written(right[which])
        else:
            assert sql == right[which]


def test_a_new_store_needs_no_alembic(tmp_path: Path) -> None:
    code = "import pathlib, sys; from runner.store import database; database.prepare(pathlib.Path(sys.argv[1]), create=True)"
    command = [sys.executable, "-c", f"{code}; print('alembic' in sys.modules)", str(tmp_path / "new.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_store_that_another_process_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    made(path)
    before = everything(path)
    database._fill(path)
    assert everything(path) == before


def everything(path: Path) -> dict[tuple[str, str], str]:
    """What makes up a schema: (name, kind) -> SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return {(name, kind): sql for name, kind, sql in connection.execute("SELECT name, type, sql FROM sqlite_master")}


@pytest.mark.parametrize("table", TABLES)
def test_a_migrated_store_asks_its_indexes_as_a_new_one_does(old: Path, store: Path, table: str) -> None:
    database.prepare(old, create=True)
    query = f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}' ORDER BY name"
    with closing(sqlite3.connect(old)) as left, closing(sqlite3.connect(store)) as right:
        assert left.execute(query).fetchall() == right.execute(query).fetchall()


def test_the_index_of_the_attempts_holds_failed_ones_only(connection: sa.Connection) -> None:
    """Alembic compares no WHERE of an index."""
    (made,) = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'ix_attempts_run_id_item_key'").scalars()
    assert made.endswith("WHERE error_code IS NOT NULL")
    ours = next(one for one in metadata.tables["attempts"].indexes if one.name == "ix_attempts_run_id_item_key")
    assert str(ours.dialect_options["sqlite"]["where"]) == "attempts.error_code IS NOT NULL"


def test_a_migration_waits_for_a_writer_and_is_whole_or_absent(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with closing(sqlite3.connect(old, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            database.prepare(old, create=True)
        writer.execute("ROLLBACK")
        assert writer.execute("PRAGMA user_version").fetchone() == (1,)
    database.prepare(old, create=True)
