"""What attempts did from moment to moment, as SQL adds it up, against the same added up one by one."""

import random
import sqlite3
from pathlib import Path

import pytest
from filling import filled

from runner.errors import StoreError
from runner.store.timeline import span_of, traffic

SINCE, UNTIL, STRETCHES = 1_000.0, 1_060.0, 60


def fill(path: Path, attempts: list[tuple[float, float, str | None, int, int]], *, priced: bool = False) -> Path:
    """Make a store with a run of these attempts: begin, duration, error code, tokens of input and output."""
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM attempts")
        if priced:
            connection.execute(
                "INSERT INTO prices (id, run_id, model, tier, input, output, cached_input, cache_write, reasoning,"
                " cache_write_1h) VALUES (7, 1, 'm', 'standard', 1000000, 2000000, 0, 0, 2000000, 0)"
            )
        connection.executemany(
            "INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, status, sent, bytes_received, error_code,"
            " input_tokens, output_tokens, price_id) VALUES (1, 'k', 1, ?, ?, 200, 1, 0, ?, ?, ?, ?)",
            [(*one, 7 if priced else None) for one in attempts],
        )
    connection.close()
    return path


def test_each_stretch_has_what_began_and_ended_in_it_and_the_mean_of_what_was_open(tmp_path: Path) -> None:
    draw = random.Random(3)
    codes = [None, None, None, "rate_limited", "server_error"]
    made = [
        (draw.uniform(SINCE - 20, UNTIL + 5), draw.choice([0.0, 0.01, 3.0, 25.0]) * draw.random(), draw.choice(codes), 10, 5)
        for _ in range(500)
    ]
    found = traffic(fill(tmp_path / "s.db", made), 1, SINCE, UNTIL, stretches=STRETCHES)
    assert [one.at for one in found] == [SINCE + number for number in range(STRETCHES)]
    for one in found:
        begin, end = one.at, one.at + 1
        ended = [each for each in made if begin <= each[0] + each[1] < end]
        assert one.begun == sum(begin <= each[0] < end for each in made)
        assert one.done == sum(each[2] is None for each in ended)
        assert one.failed == sum(each[2] is not None for each in ended)
        assert one.refused == sum(each[2] == "rate_limited" for each in ended)
        assert (one.input_tokens, one.output_tokens) == (10 * len(ended), 5 * len(ended))
        assert one.in_flight == pytest.approx(sum(max(0.0, min(end, at + s) - max(begin, at)) for at, s, *_ in made), abs=1e-6)
        assert one.cost is None or not ended


def test_money_is_in_dollars_and_unknown_prices_are_none(tmp_path: Path) -> None:
    store = fill(tmp_path / "s.db", [(SINCE + 0.5, 0.1, None, 1_000_000, 0), (SINCE + 1.5, 0.1, None, 0, 1_000_000)], priced=True)
    assert [one.cost for one in traffic(store, 1, SINCE, SINCE + 3, stretches=3)] == [1.0, 2.0, None]
    unpriced = fill(tmp_path / "t.db", [(SINCE, 0.1, None, 1, 1)])
    assert {one.cost for one in traffic(unpriced, 1, SINCE, UNTIL)} == {None}


def test_no_time_and_no_attempts_are_nothing(tmp_path: Path) -> None:
    store = fill(tmp_path / "s.db", [])
    assert span_of(store, 1) is None
    assert traffic(store, 1, SINCE, SINCE) == []
    assert {one.begun + one.done for one in traffic(store, 1, SINCE, UNTIL)} == {0}
    assert span_of(fill(tmp_path / "t.db", [(5.0, 2.0, None, 1, 1), (3.0, 9.0, None, 1, 1)]), 1) == (3.0, 12.0)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"no database at all, but long enough to look at" * 40)
    with pytest.raises(StoreError):
        traffic(tmp_path / "s.db", 1, SINCE, UNTIL)
