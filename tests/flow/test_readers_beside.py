"""Whoever reads a store while a session writes to it does no harm: no process loses its locks by opening the store as a file."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import environment
from raw_server import RawServer, in_thread
from retried import Answering, Bench

import runner
from runner.event_types import Saved

READS = "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); one.execute('SELECT count(*) FROM items'); one.close()"
WATCHED = Path(__file__).parent.parent / "support" / "watched_opens.py"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Eight rows, of which each is cut the first time."""
    asked = Answering({f"r{one}": ["cut", "ok"] for one in range(8)})
    with in_thread(RawServer(asked)) as server:
        yield Bench(tmp_path, server, asked)


def once_saved(work: Callable[[], object]) -> tuple[Callable[[object], None], list[object]]:
    """Return an observer that does the work once a session has saved something, and a list that then has one entry."""
    done: list[object] = []

    def observe(event: object) -> None:
        if isinstance(event, Saved) and not done:
            done.append(work())

    return observe, done


def read_by_another(bench: Bench) -> None:
    """Open the store for writing in another process, read, and close it: the last one to do so deletes the log."""
    subprocess.run([sys.executable, "-c", READS, str(bench.store)], check=True)


def test_a_reader_beside_a_run_a_retry_and_a_resume(bench: Bench) -> None:
    for session in (bench.run, lambda **more: bench.retry(classes="length", **more)):
        observe, read = once_saved(lambda: read_by_another(bench))
        ended = session(observe=observe, concurrency=1)
        assert (len(read), ended.finished, ended.done) == (1, True, 8)
    handle = runner.StopHandle()
    stopping, stopped = once_saved(handle.request)
    assert bench.retry(all_rows=True, concurrency=1, stop=handle, observe=stopping).retry_left
    observe, read = once_saved(lambda: read_by_another(bench))
    ended = runner.resume(db=bench.store, observe=observe)
    assert (len(stopped), len(read), ended.finished, ended.retry_left) == (1, 1, True, 0)


def test_threads_that_read_and_write_the_same_store(bench: Bench) -> None:
    """Another thread asks for all that can be read, and runs rows of its own; then another process reads."""
    bench.run()
    other = bench.folder / "other.jsonl"
    other.write_text('{"prompt": "other"}\n')

    def read_all() -> None:
        runner.status(db=bench.store)
        list(runner.results(db=bench.store))
        runner.export(bench.folder / "out.csv", db=bench.store)
        runner.run(other, db=bench.store, **bench.job)
        with pytest.raises(runner.UsageError):
            runner.run(bench.store, db=bench.folder / "second.db", **bench.job)

    def in_a_thread() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(read_all).result()
        read_by_another(bench)

    observe, read = once_saved(in_a_thread)
    ended = bench.retry(1, classes="length", concurrency=1, observe=observe)
    assert (len(read), ended.finished, ended.done, ended.kept) == (1, True, 8, 0)


def test_nothing_opens_the_store_as_a_file(bench: Bench) -> None:
    """A program that runs, retries, reads and exports tells each plain open of its store, of which there is none."""
    command = [sys.executable, str(WATCHED), str(bench.prompts), str(bench.store), bench.server.base_url]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=bench.folder, check=False)
    assert (ended.returncode, ended.stdout) == (0, "refused\n" * 4), ended
