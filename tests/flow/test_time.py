"""Clocks that jump and processes that are suspended: waits and rates are unharmed, and times are UTC."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from processes import Ended, Started, assert_clean, count, rows, run, runner, write_prompts
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole

DAY_S = 86_400
FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1")]


@pytest.fixture
def clock(tmp_path: Path) -> dict[str, str]:
    """Give the environment of a process whose wall clock is read from a file; the monotonic clock stays true."""
    if not FAKETIME:
        pytest.skip("not run: there is no libfaketime")
    (tmp_path / "clock").write_text("+0")
    return {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "TZ": "America/St_Johns",
    }


def set_clock(folder: Path, offset: str) -> None:
    """Set the clock at once: the process may read the file at any moment, and must not find it empty."""
    (folder / "clock.new").write_text(offset)
    (folder / "clock.new").replace(folder / "clock")


class Refusing:
    """Refuses every third request with a wait in its headers, and answers the others."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, request: Received) -> Reply:
        self.number += 1
        if self.number % 3 == 0:
            return whole("429 Too Many Requests", {"error": {"type": "rate_limit_error", "message": "slow"}}, retry_after="0.2")
        return Reply((0.02, *openai_answer().steps))


def options(server: RawServer, *more: str) -> tuple[str, ...]:
    return ("run", "prompts.jsonl", "--model", "m", "--base-url", server.base_url, "--concurrency", "3", *more)


def finished(ended: Ended, store: Path, number: int) -> None:
    assert_clean(ended)
    assert (ended.code, ended.err) == (0, ""), ended
    assert rows(store, "SELECT status, count(*) FROM items GROUP BY 1") == [("done", number)]


def test_x11_a_clock_that_jumps_harms_no_wait_and_no_rate(tmp_path: Path, clock: dict[str, str]) -> None:
    """Forth, far back, and to where it was: in one run, as each reading of such a clock takes its time."""
    write_prompts(tmp_path / "prompts.jsonl", range(28))
    store = tmp_path / "runner.db"
    before = time.time()
    # a rate as well, so that a bucket would notice, and a deadline
    pace = ("--rpm", "1200", "--deadline", "1h", "--json")
    with (
        in_thread(RawServer(Refusing())) as server,
        runner(*options(server, *pace), cwd=tmp_path, env=clock) as process,
    ):
        for settled, days in ((6, 3), (13, -3), (20, 0)):
            process.until(lambda settled=settled: count(store) >= settled, "rows before a jump")
            set_clock(tmp_path, f"{days * DAY_S:+d}")
        ended = process.ended()
    finished(ended, store, 28)
    after = time.time()
    started = [at for (at,) in rows(store, "SELECT started_at FROM attempts ORDER BY id")]
    # the process did see the jumps, there and back
    jumped = {days: [at for at in started if abs(at - days * DAY_S - before) < DAY_S] for days in (3, -3)}
    assert all(jumped.values())
    assert all(before - 1 <= at <= after + 1 for at in started if at not in jumped[3] + jumped[-3])
    # and no duration did; none is below zero either
    durations = [took for (took,) in rows(store, "SELECT duration_s FROM attempts")]
    assert all(0 <= took < DAY_S / 2 for took in durations)


def test_x11_times_are_utc_whatever_the_zone(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(3))
    zone = {"TZ": "Pacific/Kiritimati"}
    before = time.time()
    with in_thread(RawServer(openai_answer())) as server:
        assert run(*options(server), cwd=tmp_path, env=zone).code == 0
    after = time.time()
    ((created,),) = rows(tmp_path / "runner.db", "SELECT created_at FROM runs")
    assert before <= created <= after
    # what people read is their own time
    shown = run("list", cwd=tmp_path, env={"TZ": "UTC"}).out
    assert datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M") in shown


# suspended


@pytest.fixture
def journal() -> Iterator[RawServer]:
    with in_thread(RawServer(Reply((0.3, *openai_answer().steps)))) as server:
        yield server


def suspend(process: Started, seconds: float) -> None:
    process.signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.signal(signal.SIGCONT)


def test_x12_a_suspended_run_goes_on_and_sends_no_burst(tmp_path: Path, journal: RawServer) -> None:
    """Ten requests a second with a burst of one second's worth: eight seconds of sleep must not save eighty of them up."""
    write_prompts(tmp_path / "prompts.jsonl", range(120))
    store = tmp_path / "runner.db"
    pace = ("--rpm", "600", "--concurrency", "100", "--json")
    with runner(*options(journal)[:-2], *pace, cwd=tmp_path) as process:
        process.until(lambda: count(store) >= 15, "the first rows")
        suspend(process, 8)
        ended = process.ended()
    finished(ended, store, 120)
    assert len(journal.requests) == count(store, "attempts")
    arrived = sorted(request.at for request in journal.requests)
    most = max(sum(begin <= at < begin + 1 for at in arrived) for begin in arrived)
    assert most <= 40, most


def test_x12_what_was_in_flight_is_finished_or_tried_again(tmp_path: Path, journal: RawServer) -> None:
    """The silence clock runs out during the sleep; whatever had not come by then is asked for again, and nothing is lost."""
    write_prompts(tmp_path / "prompts.jsonl", range(30))
    store = tmp_path / "runner.db"
    clocks = ("--first-byte-s", "1.5", "--silence-s", "1.5", "--json")
    with runner(*options(journal), *clocks, cwd=tmp_path) as process:
        process.until(lambda: count(store) >= 6 and journal.in_flight > 0, "requests in flight")
        suspend(process, 4)
        ended = process.ended()
    finished(ended, store, 30)
    assert count(store, "attempts") == len(journal.requests)
    assert rows(store, "SELECT count(*) FROM attempts WHERE error_code IS NULL") == [(30,)]
    assert count(store, "attempts", "error_code IS NOT NULL AND error_code NOT LIKE 'timeout_%'") == 0
