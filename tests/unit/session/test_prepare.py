"""Before a session: what is read of the input, and how little of it is kept."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import UsageError
from runner.inputs import scan
from runner.inputs.prompts import Template
from runner.model import Params, Row
from runner.session import continuing, identity, opening, prepare, reading
from runner.session.options import SessionOptions
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.runs import KnownRun, open_run

pytestmark = pytest.mark.anyio

TEMPLATE = Template(model="m", system=None, params=Params())


def written(path: Path, rows: Iterable[Any]) -> scan.PromptFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return opening.open_input(path)


def in_front_of(store: Path, prompts: scan.PromptFile) -> tuple[identity.Given, KnownRun | None]:
    """The input, and the run over its path."""
    known = continuing.known_runs(store)
    content = scan.measure(prompts, identity.lengths(known))
    return identity.Given(store, prompts, content, None), next((run for run in known if run.input == str(prompts.path)), None)


async def looked_through(store: Path, prompts: scan.PromptFile) -> scan.Scan:
    """What a session does before it sends anything."""
    given, run = in_front_of(store, prompts)
    _, found = reading.scan_input(given, run, SessionOptions())
    scan.refuse_duplicates(found, prompts.path, prompts.places)
    database.prepare(store, create=True)
    opened = open_run(store, prompts.path, {"model": "m"}, {"model": "m"}, new=False)
    async with RunStore.own(store, opened.id) as own:
        await own.begin(rows=found.rows, digest=given.digest, size=given.content.size, identical=found.identical)
    return found


def unread(given: scan.PromptFile) -> scan.PromptFile:
    def read() -> Any:
        raise AssertionError("the input was read again")

    return given._replace(read=read)


async def test_an_input_that_has_not_changed_is_not_looked_through_again(tmp_path: Path) -> None:
    store, path = tmp_path / "runner.db", tmp_path / "p.jsonl"
    given = written(path, [{"id": str(n), "prompt": "x"} for n in range(7)])
    first = await looked_through(store, given)
    input_, run = in_front_of(store, given)
    _, again = reading.scan_input(input_._replace(prompts=unread(given)), run, SessionOptions())
    assert (again.rows, len(again.repeated), again.duplicate_ids) == (first.rows, 0, 0) == (7, 0, 0)


async def test_an_input_that_has_changed_is_looked_through(tmp_path: Path) -> None:
    store, path = tmp_path / "runner.db", tmp_path / "p.jsonl"
    await looked_through(store, written(path, [{"id": "a", "prompt": "x"}]))
    with pytest.raises(UsageError, match="duplicate id 'a' on lines 1 and 2"):
        await looked_through(store, written(path, [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "x"}]))
    # and that refusal is not forgotten
    with pytest.raises(UsageError, match="duplicate id 'a' on lines 1 and 2"):
        await looked_through(store, opening.open_input(path))


async def test_the_same_bytes_under_another_name_are_looked_through(tmp_path: Path) -> None:
    """The ending may ask for another reader."""
    store = tmp_path / "runner.db"
    given = written(tmp_path / "p.jsonl", [{"id": "a", "prompt": "x"}])
    await looked_through(store, given)
    other = written(tmp_path / "q.jsonl", [{"id": "a", "prompt": "x"}])
    (run,), content = continuing.known_runs(store), scan.measure(other)
    with pytest.raises(AssertionError, match="read again"):
        reading.scan_input(identity.Given(store, unread(other), content, None), run, SessionOptions())


async def test_rows_that_are_alike_are_told_apart_in_every_session(tmp_path: Path) -> None:
    store = tmp_path / "runner.db"
    given = written(tmp_path / "p.jsonl", [{"prompt": "x"}, {"prompt": "x"}, {"prompt": "y"}])
    for _ in range(2):
        found = await looked_through(store, given)
        assert (found.rows, found.identical, len(found.repeated)) == (3, 1, 1)


def test_of_broken_rows_the_first_are_kept_and_all_are_counted() -> None:
    rows = [Row(line=n, fields={"id": str(n)}) for n in range(1, 2501)]
    found = prepare.broken_rows(scan.PromptFile(Path("p"), 0, lambda: (row for row in rows)), TEMPLATE)
    assert (found.number, len(found.first), found.first[0][0], found.first[-1][0]) == (2500, 1000, 1, 1000)


def test_check_tells_all_and_keeps_little(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    written(path, [{"id": f"id{n % 150}"} for n in range(1200)])
    found = runner.check(path, provider="simulator")
    assert (found.rows, found.broken_rows, len(found.broken)) == (1200, 1200, 1000)
    assert (found.duplicate_ids, len(found.duplicates)) == (150, 100)


async def test_a_session_needs_no_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: the run that is gone on with finds what is open by looking its keys up, and sends that only."""
    path, store = tmp_path / "p.jsonl", tmp_path / "runner.db"
    written(path, [{"id": str(n), "prompt": f"number {n}"} for n in range(30)])
    runner.run(path, db=store, limit=10, provider="simulator")
    looks: list[scan.PromptFile] = []
    look_through = scan.scan
    monkeypatch.setattr(scan, "scan", lambda given: looks.append(given) or look_through(given))
    summary = runner.run(path, db=store, provider="simulator")
    assert (summary.finished, summary.skipped, summary.done_now, looks) == (True, 10, 20, [])
