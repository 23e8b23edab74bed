"""Answers whose whole numbers are written as 3.0 or 3e0, which JSON Schema takes as whole numbers too."""

import json
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
from processes import rows
from test_policy import answer, bench

from runner import api

TEXTS = ('{"n": 3.0, "share": 3.0, "maybe": 5e0}', '{"n": 9007199254740993, "share": 2, "maybe": null}')


def test_they_are_whole_numbers_wherever_fields_are_columns(tmp_path: Path) -> None:
    with bench(tmp_path, [answer("openai", "stream", text) for text in TEXTS], 2) as desk:
        assert desk.run(fields="n: int, share: float, maybe: int?", concurrency=1).done == 2
        store = desk.store
    api.export([tmp_path / f"out.{ending}" for ending in ("parquet", "sqlite", "jsonl")], db=store)
    table = pq.read_table(tmp_path / "out.parquet")
    assert [str(table.schema.field(name).type) for name in ("n", "share", "maybe")] == ["int64", "double", "int64"]
    assert table.column("n").to_pylist() == [3, 9007199254740993]
    assert table.column("maybe").to_pylist() == [5, None]
    connection = sqlite3.connect(tmp_path / "out.sqlite")
    wanted = [(3, "integer", "real"), (9007199254740993, "integer", "real")]
    assert connection.execute("SELECT n, typeof(n), typeof(share) FROM answers").fetchall() == wanted
    connection.close()
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["n"], type(line["n"]), line["text"]) for line in found] == [
        (3, int, TEXTS[0]),
        (9007199254740993, int, TEXTS[1]),
    ]
    view = "SELECT n, typeof(n), maybe, typeof(share) FROM answers_json ORDER BY position"
    assert rows(store, view) == [(3, "integer", 5, "real"), (9007199254740993, "integer", None, "integer")]
    assert str(api.results(db=store).to_arrow().schema.field("n").type) == "int64"
