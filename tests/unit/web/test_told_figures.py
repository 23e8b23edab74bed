"""What the page and Prometheus are told in numbers, and how long what was read holds."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from filling import done, failed, filled
from msgspec import structs

from runner.model import Attempt, Run
from runner.pace import LaneState, Pace
from runner.store.checkpoint import RunStore
from runner.store.over_time import over_time
from runner.store.reader import StoreReader
from runner.store.row_index import RowIndex
from runner.store.runs import known_run
from runner.store.steered import Steered, note, steered_of
from runner.web import metrics, reads, rows, steering
from runner.web.reads import Reads
from runner.web.replies import ApiError


def test_figures_over_time_are_of_answers_and_their_limit_is_a_mean(tmp_path: Path) -> None:
    firsts = [0.1] * 9 + [0.5] * 9 + [2.0, 3.0]
    answers = [_first(done(f"k{number}", number), first) for number, first in enumerate(firsts, 1)]
    store = filled(tmp_path / "r.db", *answers, _first(failed("f", 99), 60.0))
    with closing(sqlite3.connect(store)) as driver, driver:
        moments = json.dumps([[0.004, 1.0, 4.0], [0.008, 1.0, 8.0]])
        driver.execute(
            "INSERT INTO sessions (run_id, began_at, noted_at, ended_at, time, timeline) VALUES (1, 1.0, 3.0, 3.0, '{}', ?)",
            (moments,),
        )
    with StoreReader(store) as reader, reader.snapshot():
        found = over_time(reader.fetch, 1)
    (one,) = [one for one in found.slices if one.answers]
    assert (one.answers, one.first_token_p50_s, one.first_token_p95_s) == (20, 0.5, 2.0)
    # a failed attempt has no time to the first token of an answer
    assert {one.first_token_p95_s for one in found.slices} == {None, 2.0}
    assert [one.limit for one in found.slices if one.limit is not None] == [6.0]


def _first(outcome: Any, seconds: float) -> Any:
    assert isinstance(outcome.attempt, Attempt)
    return structs.replace(outcome, attempt=structs.replace(outcome.attempt, time_to_first_token_s=seconds))


def test_what_was_steered_is_told_in_its_order_and_the_newest_of_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "r.db", done("a", 1))
    monkeypatch.setattr("runner.store.steered.MOST", 3)

    async def steer() -> None:
        async with RunStore.own(store, 1) as own:
            for number in range(5):
                one = Steered(at=float(number), session=1, by="page", command="pause", what=str(number))
                await own.write(lambda connection, one=one: note(connection, 1, one))

    anyio.run(steer)
    with StoreReader(store) as reader:
        assert [one.what for one in steered_of(reader.fetch, 1)] == ["2", "3", "4"]


def test_metrics_of_a_run_with_several_answers_and_of_its_lanes(tmp_path: Path) -> None:
    lanes = (LaneState(model='m"\\\n', slots=8, ceiling=9, in_flight=3),)
    run = Run(
        id=7,
        created_at=1.0,
        finished_at=None,
        settings={},
        input="p",
        rows=10,
        done=4,
        failed=1,
        broken=0,
        active=True,
        answers=3,
        pace=Pace(at=1.0, lanes=lanes, left_s=2.5),
        name="n",
    )
    samples: dict[str, list[Any]] = {name: [] for name in metrics._HELP}
    metrics._of_run(run, samples)
    told = [line for line in "".join(metrics._lines(samples)).split("\n") if line and not line.startswith("#")]
    model = 'run="7",model="m\\"\\\\\\n"'
    assert told == [
        'runner_run_active{run="7",name="n"} 1',
        'runner_run_rows{run="7",status="done"} 4',
        'runner_run_rows{run="7",status="failed"} 1',
        'runner_run_rows{run="7",status="left"} 25',
        f"runner_run_in_flight{{{model}}} 3",
        f"runner_run_slots{{{model}}} 8",
        'runner_run_left_seconds{run="7"} 2.5',
    ]
    # what no price is known of has not cost 0
    assert metrics._cost(filled(tmp_path / "r.db", done("a", 1)), 1) is None


def test_what_was_read_holds_until_the_store_changes_and_not_all_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_AGAIN_S", 0.0)
    monkeypatch.setattr(reads, "_PATIENCE", 0)
    monkeypatch.setattr(reads, "_MOST_KEPT", 4)
    monkeypatch.setattr(reads, "_MOST_LOCKS", 8)
    store, asked = tmp_path / "r.db", list[int]()
    store.write_bytes(b"1")

    async def main() -> None:
        held = Reads(store)

        def read() -> int:
            asked.append(len(asked))
            return asked[-1]

        assert [await held.kept("key", read) for _ in range(3)] == [0, 0, 0]
        store.write_bytes(b"22")
        assert await held.kept("key", read) == 1
        for number in range(30):
            await held.kept(number, lambda: number)  # noqa: B023 - it is read at once
        assert len(held._kept) <= reads._MOST_KEPT
        assert len(held._locks) <= reads._MOST_LOCKS + 1

    anyio.run(main)


def test_a_row_that_is_done_since_is_not_shown_as_failed(tmp_path: Path) -> None:
    store = filled(tmp_path / "r.db", failed("a", 1), failed("b", 2))
    index = RowIndex(store)
    assert not index.is_complete(1)
    while index.step():
        pass
    assert index.is_complete(1)

    async def mend() -> None:
        async with RunStore.own(store, 1) as own:
            await own.save([done("a", 1)])

    anyio.run(mend)
    # the index has not seen it yet
    for query in (("status", "failed"), ("code", "cut")):
        page = rows.page_of(store, known_run(store, 1), [query], index)
        assert [row["id"] for row in page["rows"]] == ["b"]


def test_more_ids_than_one_request_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "MOST_IDS", 3)
    assert steering._ids([1, "1", 1.5]) == ("1", "1.5")
    with pytest.raises(ApiError, match="more than 3 rows"):
        steering._ids(["a"] * 4)
