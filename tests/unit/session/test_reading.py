"""How much of a file is read: a settled beginning is left out, and all comes out as if it had been read."""

import gzip
import json
import random
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import UsageError
from runner.inputs import json_rows, scan
from runner.inputs.formats import jsonl
from runner.inputs.keys import keyed
from runner.session import identity, opening, reading
from runner.session.options import SessionOptions
from runner.settled import Head
from runner.store.runs import KnownRun, known_runs

OPTIONS = SessionOptions()


def lines_of(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def finished(path: Path, text: str) -> Path:
    """A finished run over a file with this text; return the store."""
    path.write_text(text)
    store = path.with_name("runner.db")
    assert runner.run(path, db=store, provider="simulator").finished
    return store


def look(store: Path, path: Path) -> tuple[identity.Given, KnownRun]:
    known = known_runs(store)
    prompts = opening.open_input(path)
    return identity.Given(store, prompts, scan.measure(prompts, identity.lengths(known)), None), known[0]


def numbered(first: int, last: int) -> list[dict[str, str]]:
    return [{"id": str(number), "prompt": f"number {number}"} for number in range(first, last)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that were read as rows."""
    lines: list[str] = []
    decode = json_rows.decode
    for module in (json_rows, jsonl):
        monkeypatch.setattr(module, "decode", lambda line: lines.append(bytes(line).decode().strip()) or decode(line))
    return lines


@pytest.mark.parametrize("packed", [False, True])
def test_behind_a_finished_beginning_only_the_new_rows_are_read(tmp_path: Path, read: list[str], packed: bool) -> None:
    path = tmp_path / "p.jsonl"
    store = finished(path, lines_of(numbered(0, 30)))
    new = lines_of(numbered(30, 32))
    path.write_text(path.read_text() + new)
    if packed:
        (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path = tmp_path / "p.jsonl.gz"
    read.clear()
    summary = runner.run(path, db=store, provider="simulator")
    assert (summary.finished, summary.rows, summary.skipped, summary.done_now) == (True, 32, 30, 2)
    assert (summary.done, summary.missing) == (32, 0)
    # the first line shows what kind of file it is
    assert set(read) == {lines_of(numbered(0, 1)).strip(), *new.strip().split("\n")}
    positions = [result.id for result in runner.results(db=store)]
    assert positions == [str(number) for number in range(32)]


def test_a_killed_session_behind_a_beginning_does_not_make_the_next_one_read_it(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "p.jsonl"
    store = finished(path, lines_of(numbered(0, 30)))
    path.write_text(path.read_text() + lines_of(numbered(30, 32)))
    # as a kill leaves it before the first answer
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE runs SET finished_at = NULL")
    read.clear()
    summary = runner.run(path, db=store, provider="simulator")
    assert (summary.finished, summary.done) == (True, 32)
    assert len(set(read)) == 3


def test_an_id_of_the_beginning_is_refused_among_the_new_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    store = finished(path, "\n" + lines_of(numbered(0, 30)))
    path.write_text(path.read_text() + lines_of([*numbered(30, 31), {"id": "7", "prompt": "again"}, *numbered(31, 32)]))
    with pytest.raises(UsageError, match=re.escape("duplicate id '7' on lines 9 and 33. Give every row")):
        runner.run(path, db=store, provider="simulator")


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_last_line_without_an_end_is_looked_at_again(tmp_path: Path, end: str) -> None:
    path = tmp_path / "p.jsonl"
    text = lines_of([{"prompt": f"number {number}"} for number in range(30)])
    store = finished(path, text.rstrip("\n"))
    # the line was longer than it seemed, or it was not
    path.write_text(text if end else text.rstrip("}\n") + ', "more": 1}\n')
    summary = runner.run(path, db=store, provider="simulator")
    assert (summary.rows, summary.done_now, summary.missing) == ((30, 0, 0) if end else (30, 1, 1))


BAD = "{broken"
# rows with ids, of which some are broken; and rows, blank lines and broken lines that may occur several times
POOL = [
    *(json.dumps({"id": f"own {number}", **({"prompt": "x"} if number % 8 else {})}) for number in range(40)),
    *(json.dumps({"prompt": f"x {number}"}) for number in range(6)),
    "",
    BAD,
]


@pytest.mark.parametrize("seed", range(12))
def test_new_rows_get_the_keys_that_a_whole_reading_gives_them(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    own = iter(draw.sample(POOL[:40], 40))
    texts = [next(own) if draw.random() < 0.5 else draw.choice(POOL[40:]) for _ in range(40)]
    path = tmp_path / "p.jsonl"
    store = finished(path, "".join(f"{text}\n" for text in texts[:25]).rstrip("\n" if draw.random() < 0.3 else ""))
    path.write_text("".join(f"{text}\n" for text in texts))
    given, run = look(store, path)
    whole = scan.scan(given.prompts)
    keys = [(key, row.line) for key, row in keyed(given.prompts.read(), whole.repeated)]
    prompts, found = reading.scan_input(given, run, OPTIONS)
    # a first line without an object may mean another kind of file
    if run.head is not None and texts[0] not in ("", BAD):
        assert found.before.rows == run.head.rows
        assert found.before.lines == run.head.lines
    read = [(key, row.line) for key, row in keyed(prompts.read(), found.repeated, found.before.identical)]
    assert read == keys[found.before.rows :]
    assert (found.rows, found.identical) == (whole.rows, whole.identical)
    summary = runner.run(path, db=store, provider="simulator")
    assert (summary.finished, summary.rows, summary.missing) == (True, whole.rows, 0)
    assert summary.done + summary.failed == whole.rows
    assert len(list(runner.results(db=store))) == whole.rows


@pytest.mark.parametrize(
    "spoil",
    [
        "edit", "delete a row", "more is new than old", "limit", "retry", "store", "no object first", "read in another way",
    ],
)  # fmt: skip
def test_the_whole_file_is_read_where_the_beginning_is_not_to_be_trusted(tmp_path: Path, spoil: str) -> None:
    path, options = tmp_path / "p.jsonl", OPTIONS
    store = finished(path, lines_of(numbered(0, 30)))
    added = numbered(30, 200 if spoil == "more is new than old" else 32)
    text = path.read_text()
    if spoil == "edit":
        text = text.replace("number 7", "number 8")
    if spoil == "delete a row":
        text = lines_of(numbered(1, 30))
    path.write_text(text + lines_of(added))
    given, run = look(store, path)
    if spoil == "limit":
        options = SessionOptions(limit=31)
    if spoil == "retry":
        options = SessionOptions(run_id=1, retry_failed=True)
    if spoil == "store":
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("DELETE FROM items WHERE key = '3'")
    if spoil == "no object first":
        given = given._replace(prompts=given.prompts._replace(read_behind=lambda offset, lines: None))
    if spoil == "read in another way":
        given = given._replace(prompts=given.prompts._replace(reading="other"))
    _, found = reading.scan_input(given, run, options)
    assert found.before.rows == 0
    assert found.rows == (29 if spoil == "delete a row" else 30) + len(added)


def test_an_edited_file_takes_the_beginning_away_until_it_is_settled_anew(tmp_path: Path) -> None:
    """Else a session over a file in another order would leave its lines behind for the next over the first."""
    path = tmp_path / "p.jsonl"
    lines = numbered(0, 30)
    store = finished(path, lines_of(lines))
    path.write_text(lines_of(lines[::-1]))
    runner.run(path, db=store, provider="simulator", limit=10)
    path.write_text(lines_of([*lines, *numbered(30, 31)]))
    runner.run(path, db=store, provider="simulator")
    assert [result.id for result in runner.results(db=store)] == [str(number) for number in range(31)]


def test_a_reader_without_the_means_reads_all(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    store = finished(path, lines_of(numbered(0, 30)))
    given, run = look(store, path)
    assert isinstance(run.head, Head)
    bare = given._replace(prompts=given.prompts._replace(read_behind=None))
    assert reading.scan_input(bare, run, OPTIONS)[1].before.rows == 0


def test_a_finished_run_whose_rows_are_read_in_another_way_now_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    """As after an update that takes fields of a row for its settings."""
    path = tmp_path / "p.jsonl"
    store = finished(path, lines_of(numbered(0, 30)))
    monkeypatch.setattr(
        opening, "PromptFile", lambda *fields, **named: scan.PromptFile(*fields, **named)._replace(reading="other")
    )
    # the first line shows what kind of a file it is
    for lines in (30, 1):
        read.clear()
        summary = runner.run(path, db=store, provider="simulator")
        assert (summary.finished, summary.run, summary.skipped, summary.done_now) == (True, 1, 30, 0)
        assert len(set(read)) == lines
