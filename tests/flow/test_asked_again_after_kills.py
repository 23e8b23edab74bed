"""A retry that is killed, or stopped: what is left of it is asked again by ``resume``, none of it twice, with its settings."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from advised import advised
from processes import assert_clean, rows, run
from processes import runner as started
from raw_server import RawServer, in_thread
from retried import Answering, Bench

import runner

ROWS = 10
LONG = [f"r{one}" for one in range(2, ROWS)]
"""Rows whose answers are cut off: r4 again, when it is asked again; and the last two hang once."""


@pytest.fixture(params=["openai", "anthropic"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A finished run with two whole answers and eight that are cut off, two requests of whose retry never end."""
    kinds = {
        **{key: ["cut", "ok"] for key in LONG},
        "r4": ["cut", "refused"],
        "r8": ["cut", "hang", "ok"],
        "r9": ["cut", "hang", "ok"],
    }
    asked = Answering(kinds)
    with in_thread(RawServer(asked)) as server:
        bench = Bench(tmp_path, server, asked, request.param, rows=ROWS)
        bench.run()
        yield bench


def interrupted(bench: Bench, kind: int) -> None:
    """Ask the rows again with other settings, and end the process when all but two were answered."""
    with started("retry", "--class", "length", "--max-tokens", "200", "--concurrency", "3", cwd=bench.folder) as process:
        process.until(lambda: settled(bench) == 6, "six outcomes")
        process.until(lambda: bench.asked["r8"] == bench.asked["r9"] == 2, "two open requests")
        if kind == signal.SIGKILL:
            process.killed()
            return
        process.signal(kind)
        process.until(lambda: "to drop them" in process.out + process.err, "the words of the stop")
        process.signal(kind)
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 130
    assert "2 rows of the retry are still to be asked again, and keep their results until then" in ended.out
    (resume, _) = advised(ended.out)
    assert (resume.arguments, resume.words) == (("resume", "1"), "sends 2 rows that the retry has left")


def settled(bench: Bench) -> int:
    try:
        ((number,),) = rows(bench.store, "SELECT count(*) FROM retried WHERE outcome IS NOT NULL")
    except AssertionError:
        return 0
    return int(number)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_resume_asks_what_is_left_and_nothing_else(bench: Bench, kind: int) -> None:
    old = bench.texts()
    interrupted(bench, kind)
    between = bench.texts()
    # what was not asked yet, and what failed, has its old answer
    assert {key for key, text in between.items() if text == old[key]} == {"r0", "r1", "r4", "r8", "r9"}
    status = run("status", cwd=bench.folder).out
    assert "  retry         2 rows are still to be asked again\n" in status
    assert advised(status)[0].arguments == ("resume", "1")
    assert json.loads(run("status", "--json", cwd=bench.folder).out)["books"]["retry_left"] == 2
    before = Counter(bench.asked)
    said = run("resume", cwd=bench.folder)
    assert said.code == 0, said
    assert "run 1: retrying 2 answered rows: 2 length (r8, r9)\n" in said.out
    assert bench.asked - before == {"r8": 1, "r9": 1}
    assert {body["max_tokens"] for body in bench.asked.bodies[ROWS:]} == {200}
    assert bench.texts() == {**between, "r8": "ok 3: r8", "r9": "ok 3: r9"}
    assert sorted(one.id for one in runner.results(db=bench.store).former()) == ["r2", "r3", "r5", "r6", "r7", "r8", "r9"]
    run_, books = runner.status(db=bench.store)
    assert (run_.done, run_.failed, run_.finished_at is not None, books.retry_left) == (ROWS, 0, True, 0)
    # there is nothing more to go on with
    assert "no unfinished run" in run("resume", cwd=bench.folder).err
    assert bench.asked.total() == ROWS + len(LONG) + 2


def test_the_same_file_leaves_the_rest_of_a_retry_to_resume(bench: Bench) -> None:
    interrupted(bench, signal.SIGKILL)
    sent = bench.asked.total()
    ended = run("run", "p.jsonl", *_options(bench), cwd=bench.folder)
    assert ended.code == 0, ended
    assert "2 rows of an interrupted retry are still to be asked again: `runner resume 1` does that" in ended.out
    assert bench.asked.total() == sent
    assert runner.status(db=bench.store)[1].retry_left == 2
    runner.resume(db=bench.store)
    assert (bench.asked.total(), runner.status(db=bench.store)[1].retry_left) == (sent + 2, 0)


def test_another_retry_takes_the_place_of_the_first(bench: Bench) -> None:
    interrupted(bench, signal.SIGKILL)
    sent = bench.asked.total()
    # nothing is chosen, so the first one goes on to be there
    assert run("retry", "--class", "empty", cwd=bench.folder).code == 0
    assert runner.status(db=bench.store)[1].retry_left == 2
    said = run("retry", "--ids", "-", cwd=bench.folder)
    assert (said.code, bench.asked.total()) == (2, sent)
    ended = run("retry", "--class", "length", "--where", "id == 'r4'", cwd=bench.folder)
    assert "2 rows that an earlier retry has left are not asked again by it" in ended.out
    assert bench.asked.total() == sent + 1
    # the run was finished before both
    state, books = runner.status(db=bench.store)
    assert (state.finished_at is not None, books.retry_left) == (True, 0)


def test_a_row_that_has_changed_is_not_bought_again_for_the_retry(bench: Bench) -> None:
    """``--accept-changes`` asks for one of the two rows that are left, so only the other one is left for ``resume``."""
    interrupted(bench, signal.SIGKILL)
    sent = Counter(bench.asked)
    changed = [{"id": f"r{one}", "prompt": f"{'new ' if one == 8 else ''}r{one}"} for one in range(ROWS)]
    bench.write(changed)
    ended = run("run", "p.jsonl", *_options(bench), "--accept-changes", cwd=bench.folder)
    assert ended.code == 0, ended
    assert "2 rows of an interrupted retry are still to be asked again: `runner resume 1` asks for what this" in ended.out
    assert runner.status(db=bench.store)[1].retry_left == 1
    runner.resume(db=bench.store)
    assert bench.asked - sent == {"new r8": 1, "r9": 1}
    state, books = runner.status(db=bench.store)
    assert (state.finished_at is not None, books.retry_left, bench.texts()["r8"]) == (True, 0, "ok 1: new r8")


def test_a_run_is_finished_once_its_changed_rows_were_all_that_a_retry_had_left(bench: Bench) -> None:
    interrupted(bench, signal.SIGKILL)
    bench.write([{"id": f"r{one}", "prompt": f"{'new ' if one >= 8 else ''}r{one}"} for one in range(ROWS)])
    bench.run(accept_changes=True)
    state, books = runner.status(db=bench.store)
    assert (state.finished_at is not None, books.retry_left) == (True, 0)


def _options(bench: Bench) -> tuple[str, ...]:
    job = bench.job
    names = ("model", "base_url", "provider", "attempts", "max_tokens")
    return tuple(word for name in names for word in (f"--{name.replace('_', '-')}", str(job[name])))
