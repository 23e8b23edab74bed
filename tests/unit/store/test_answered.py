"""Reading the answers of a run while it goes on, and the numbers of its files when these change."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.model import Attempt, Completion, Outcome
from runner.origin import LINES, STORED, Files
from runner.store import answered, database
from runner.store.answered import AnsweredRows
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.lookup import stored_rows
from runner.store.reader import StoreReader
from runner.store.runs import open_run

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    assert open_run(found, tmp_path / "p.jsonl", {"model": "m"}, {"model": "m"}, new=False).id == 1
    return found


def outcome(key: str, position: int, text: str | None = "yes") -> Outcome:
    completion = Completion(text=text, finish_reason="stop") if text is not None else None
    attempt = Attempt(key=key, number=1, started_at=1e9, duration_s=1.0)
    status = "done" if text is not None else "failed"
    return Outcome(key=key, position=position, status=status, metadata={}, fingerprint=0, completion=completion, attempt=attempt)  # type: ignore[arg-type]


async def save(path: Path, *outcomes: Outcome) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save(outcomes)


async def test_pages_of_rows_in_input_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "_PAGE", 7)
    monkeypatch.setattr(answered, "_AT_ONCE", 2)
    monkeypatch.setattr(answered, "_PAGE_CHARS", 40)
    numbers = [17, 3, 9, *range(20, 60), 1]
    await save(path, *(outcome(f"k{number}", number, "long " * (number % 5)) for number in numbers), outcome("bad", 2, None))
    rows = AnsweredRows(path, 1)
    assert len(rows) == len(numbers)
    for _ in range(2):
        assert [(row.position, row.key, row.text) for row in rows] == [(n, f"k{n}", "long " * (n % 5)) for n in sorted(numbers)]


async def test_each_reading_yields_the_same_rows_once_though_the_run_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "_PAGE", 2)
    await save(path, *(outcome(f"k{number}", number) for number in range(1, 7)))
    rows = AnsweredRows(path, 1)
    reading = iter(rows)
    first = [next(reading).key, next(reading).key]
    async with RunStore.own(path, 1) as store:
        await store.save([outcome("late", 4)])
        await store.reposition([("k1", 90), ("k6", 0), ("k3", 91)])
    assert first + [row.key for row in reading] == [f"k{number}" for number in range(1, 7)] == [row.key for row in rows]
    assert len(AnsweredRows(path, 1)) == 7


async def test_a_reader_keeps_no_lock_between_two_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "_PAGE", 2)
    await save(path, *(outcome(f"k{number}", number) for number in range(1, 7)))
    reading = iter(AnsweredRows(path, 1))
    next(reading)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("UPDATE runs SET rows = 6")
        # the whole log can be emptied, which an open reading would prevent
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        connection.execute("DELETE FROM items WHERE position > 3")
    with pytest.raises(UsageError, match="the answers of run 1 have been deleted while they were read"):
        list(reading)


async def test_rows_keep_their_files_when_the_numbers_change(path: Path) -> None:
    def files(*names: str) -> Files:
        return Files(folder="/d", names=names)

    async with RunStore.own(path, 1, changes=Changes(files=files("a", "b", "c"))) as store:
        await store.save(
            [outcome(f"{name}{line}", number * LINES + line) for number, name in enumerate("abc") for line in (1, 2)]
        )

    def places() -> dict[object, str | None]:
        with StoreReader(path) as reader:
            found = reader.run(1).settings[STORED]
            kept = Files(folder="/d", names=tuple(found["names"]), gone=tuple(found["gone"]))
            return {result.id: f"{result.file}{result.line}" for result in reader.results(1, files=kept)}

    every = {f"{name}{line}": f"{name}{line}" for name in "abc" for line in (1, 2)}
    assert places() == every
    for names in (("0", "c", "b", "a"), ("b",), ("x", "y", "a"), ("c", "b", "a"), ("a", "b", "c")):
        async with RunStore.own(path, 1, changes=Changes(files=files(*names))):
            pass
        assert places() == every, names
    with StoreReader(path) as reader:
        assert reader.run(1).settings["model"] == "m"


async def test_the_one_file_of_before_is_a_file_among_others(path: Path) -> None:
    await save(path, outcome("a1", 1), outcome("a2", 2))
    async with RunStore.own(path, 1, changes=Changes(files=Files(folder="/d", names=("0", "a")), single="/d/a")):
        pass
    with StoreReader(path) as reader:
        assert [result.line for result in reader.results(1)] == [LINES + 1, LINES + 2]


async def test_a_sample_is_spread_over_files_of_any_number_of_rows(path: Path) -> None:
    # files of one row each, on the same line: their lines alone would all be in the sample, or none
    await save(path, *(outcome(f"k{number}", number * LINES + 2) for number in range(400)))
    with stored_rows(path, 1) as stored:
        assert 10 <= len(stored.sample(20)) <= 40
        assert not stored.is_empty()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM items WHERE position > ?", [4 * LINES])
        connection.commit()
    with stored_rows(path, 1) as stored:
        assert len(stored.sample(100)) == 4
