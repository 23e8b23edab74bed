"""docs/reference/store.md: its queries run, and it leaves no table, view or column out."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.store import database
from runner.store.schema import HEAD, VERSION

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "store.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
ROWS = """
    INSERT INTO runs VALUES (1, 1e9, NULL, '/x/p.jsonl', 'p.jsonl', '{"model": "m"}', 'f', 'd', 4, 'stopped', 'here', 77,
        '{"at": 1e9, "lanes": [{"model": "m", "in_flight": 1, "slots": 8, "ceiling": 64}], "retrying": null}', 0, 9, NULL,
        0, NULL, 1);
    INSERT INTO runs VALUES (2, 1e9, 1e9 + 5, '/x/q.jsonl', 'q.jsonl', '{"model": "n"}', 'g', 'e', 0, NULL, 'here', 77,
        NULL, 0, 9, NULL, 0, NULL, 1);
    INSERT INTO items VALUES (1, 1, 'a', 1, 'done', 5, 2, 2, 'stop', NULL, NULL, NULL,
        '{"topic": "sky"}', '{"reasoning": "r"}', 'blue', 1, NULL, NULL);
    INSERT INTO items VALUES (2, 1, 'b', 2, 'failed', 6, 1, 3, NULL, 'cut', 'cut!', NULL, NULL, NULL, NULL, 1, NULL, NULL);
    INSERT INTO items VALUES (3, 1, 'c', 3, 'failed', 0, 0, NULL, NULL, 'bad_row', 'line 3: no', NULL, NULL, NULL, NULL, 1, NULL,
        NULL);
    INSERT INTO attempts VALUES (1, 1, 'a', 1, 1e9, 2.0, NULL, 503, 1, 9, NULL, NULL, NULL, NULL, NULL, NULL, 'busy',
        'busy!', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO attempts VALUES (2, 1, 'a', 2, 1e9, 2.0, 0.5, 200, 1, 90, 3, 5, 0, 1, 'm-1', 'r', NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO attempts VALUES (3, 1, 'b', 1, 1e9, 3.0, NULL, NULL, 1, 7, NULL, NULL, NULL, NULL, NULL, NULL, 'cut',
        'cut!', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO attempts VALUES (4, 1, 'd', 1, 1e9, 1.0, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 'cut',
        'cut!', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO history VALUES (1, 1, 1e9, 'base_url', 'http://a/v1', 'http://b/v1');
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "runner.db"
    database.prepare(path, create=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ROWS)
        connection.row_factory = sqlite3.Row
        yield connection


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_document_gives_rows(store: sqlite3.Connection, query: str) -> None:
    assert store.execute(query).fetchall()


def test_there_are_queries() -> None:
    assert len(QUERIES) > 10


def test_every_table_view_and_column_is_explained(store: sqlite3.Connection) -> None:
    names = [row["name"] for row in store.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    assert {"runs", "items", "attempts", "overview", "answers", "failures", "spend"} <= set(names)
    for name in names:
        assert f"`{name}`" in DOCUMENT
        if name != "alembic_version":
            columns = [row["name"] for row in store.execute(f"PRAGMA table_info({name})")]
            assert [one for one in columns if f"`{one}`" not in DOCUMENT] == []


def test_the_overview(store: sqlite3.Connection) -> None:
    first, second = (dict(row) for row in store.execute("SELECT * FROM overview ORDER BY run_id"))
    assert first == {
        "run_id": 1, "begun_utc": "2001-09-09 01:46:40", "finished_utc": None, "model": "m", "input": "/x/p.jsonl", "rows": 4,
        "answers": 1, "done": 1, "failed": 2, "stop_reason": "stopped",
    }  # fmt: skip
    assert (second["finished_utc"], second["done"], second["failed"]) == ("2001-09-09 01:46:45", 0, 0)


def test_the_answers_and_the_failures(store: sqlite3.Connection) -> None:
    (answer,) = store.execute("SELECT * FROM answers")
    assert (answer["key"], answer["text"], answer["served_model"], answer["output_tokens"]) == ("a", "blue", "m-1", 5)
    assert (answer["attempts"], answer["answered_utc"]) == (2, "2001-09-09 01:46:42")
    cut, broken = store.execute("SELECT * FROM failures ORDER BY position")
    assert (cut["key"], cut["error_code"], cut["http_status"], cut["sent"]) == ("b", "cut", None, 1)
    assert cut["failed_utc"] == "2001-09-09 01:46:43"
    # nothing was sent for it
    assert (broken["key"], broken["sent"], broken["failed_utc"]) == ("c", None, None)


def test_the_views_show_what_was_asked(store: sqlite3.Connection) -> None:
    def asked(fields: str | None, settings: str) -> tuple[str | None, str | None]:
        store.execute("UPDATE items SET metadata = ? WHERE key IN ('a', 'b')", (fields,))
        store.execute("UPDATE runs SET settings = ? WHERE id = 1", (settings,))
        (answer,) = store.execute("SELECT prompt, template FROM answers")
        (failure,) = store.execute("SELECT prompt, template FROM failures WHERE key = 'b'")
        assert tuple(answer) == tuple(failure)
        return answer["prompt"], answer["template"]

    messages = '[{"role":"user","content":"hi"}]'
    assert asked('{"prompt": "why?"}', "{}") == ("why?", None)
    assert asked(f'{{"messages": {messages}}}', '{"prompt": null}') == (messages, None)
    # a template makes the prompt, and a field of that name is data
    assert asked('{"prompt": "why?", "n": 1}', '{"prompt": "Say {{ n }}"}') == (None, "Say {{ n }}")
    assert asked('{"n": 1}', f'{{"messages": {messages}}}') == (None, messages)
    # what was not kept, and what is damaged, hides nothing else
    assert [asked(fields, "{}") for fields in (None, '{"n": 1}', '{"pro')] == [(None, None)] * 3
    assert asked('{"prompt": "why?"}', "{") == ("why?", None)


def test_an_answer_that_was_taken_over_is_shown_with_what_bought_it(store: sqlite3.Connection) -> None:
    store.execute(
        "INSERT INTO items VALUES (9, 2, 'z', 1, 'done', 5, 0, NULL, 'stop', NULL, NULL, NULL, NULL, NULL, 'blue', 1, NULL, NULL)"
    )
    store.execute("INSERT INTO reused VALUES (1, 2, 'z', 1, 'a', 1e9, 2.0, 0.5, 3, 5, 0, 1, 'm-1', 'r')")
    (answer,) = store.execute("SELECT * FROM answers WHERE run_id = 2")
    assert (answer["reused_from"], answer["served_model"], answer["output_tokens"], answer["attempts"]) == (1, "m-1", 5, 0)
    assert (answer["answered_utc"], answer["time_to_first_token_s"]) == ("2001-09-09 01:46:42", 0.5)
    assert store.execute("SELECT * FROM spend WHERE run_id = 2").fetchall() == []


def test_the_spend(store: sqlite3.Connection) -> None:
    columns = "cause, served_model, attempts, unsent, perhaps_billed, input_tokens, output_tokens, bytes_received, duration_s"
    found = {row["cause"]: tuple(row)[1:] for row in store.execute(f"SELECT {columns} FROM spend WHERE run_id = 1")}
    assert found == {
        "busy": (None, 1, 0, 0, None, None, 9, 2.0),
        "cut": (None, 2, 1, 1, None, None, 7, 4.0),
        "done": ("m-1", 1, 0, 0, 3, 5, 90, 2.0),
    }


def test_the_document_names_the_version_of_the_schema() -> None:
    assert f"the version of the schema, now {VERSION}." in DOCUMENT
    assert f"\n| {VERSION} | `{HEAD}` |" in DOCUMENT


def test_the_spend_of_known_rates(store: sqlite3.Connection) -> None:
    """In dollars: what is known, what may have been billed in addition, and how many attempts have no rates."""
    store.execute(
        f"INSERT INTO prices VALUES (1, 1, 'm', 'standard', 1000000, 4000000, 100000, 1250000, 7000000, 2000000{', NULL' * 6})"
    )
    store.execute("UPDATE attempts SET price_id = 1 WHERE id = 2")
    store.execute("UPDATE attempts SET price_id = 1, input_bound = 9, output_bound = 10 WHERE id = 3")
    found = {row["cause"]: tuple(row)[1:] for row in store.execute("SELECT cause, cost, cost_perhaps, unpriced FROM spend")}
    assert found == {
        # its price was not looked up
        "busy": (None, None, 0),
        "cut": (0.0, pytest.approx(9 * 1.25e-6 + 10 * 7e-6), 0),
        # a token of the answer was reasoning
        "done": (pytest.approx(3e-6 + 4 * 4e-6 + 7e-6), 0.0, 0),
    }
    store.execute("UPDATE attempts SET price_id = 1 WHERE id = 1")
    # it was refused, which costs nothing
    assert [tuple(row) for row in store.execute("SELECT cost, cost_perhaps FROM spend WHERE cause = 'busy'")] == [(0.0, 0.0)]
    store.execute("UPDATE attempts SET output_bound = NULL")
    assert [row["cost_perhaps"] for row in store.execute("SELECT cost_perhaps FROM spend WHERE cause = 'cut'")] == [None]
    store.execute("UPDATE attempts SET price_id = NULL")
    assert store.execute("SELECT sum(cost), sum(cost_perhaps), sum(unpriced) FROM spend").fetchone()[2] == 2
