"""The Python API: Ctrl-C, stop=, errors out of a process pool, the log, and errors that come when they should."""

import logging
import multiprocessing
import pickle
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import QUICK, Ended, Started, count, environment, rows, simulator, write_prompts
from programs import OBSERVED
from raw_server import RawServer, in_thread, whole

import runner
from runner import errors
from runner.event_types import Event, Finished, Progress, Saved, Stopping
from runner.event_types import Started as Began
from runner.pace import LaneState, Pace
from runner.session.audience import Audience

SLOW = ("--first-token-s", "0.25", "--chunk-s", "0.005", "--tokens", "20")
CALL = f"""{OBSERVED}
def work():
    try:
        runner.run("prompts.jsonl", model="m", base_url=sys.argv[1], concurrency=8, observe=observe)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
    print("finished", flush=True)
"""


def documented() -> str:
    """Return the asyncio program of docs/reference/commands.md, with the arguments of these tests."""
    page = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    shown = 'print(await asyncio.to_thread(runner.run, "prompts.jsonl", model="gpt-5-mini", stop=stop))'
    assert shown in code
    arguments = "stop=stop, base_url=sys.argv[1], concurrency=8, observe=observe"
    call = shown.removeprefix("print(").removesuffix(")").replace("stop=stop", arguments)
    ended = 'print("interrupted" if summary.stop_reason == "stopped by Ctrl-C" else summary); sys.exit(130)'
    return code.replace(shown, f"summary = {call}; {ended}")


PROGRAMS = {
    "plain": CALL + "work()",
    "asyncio": CALL + "import asyncio\nasync def main(): work()\nasyncio.run(main())",
    "uvloop": CALL + "import uvloop\nasync def main(): work()\nuvloop.run(main())",
    # as docs/reference/commands.md has it
    "thread": f"{OBSERVED}\n{documented()}",
    # a cell: the loop runs, and Ctrl-C is Python's own
    "notebook": CALL
    + "import asyncio, signal\nasync def main():\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n    work()\n"
    + "asyncio.new_event_loop().run_until_complete(main())",
}


def program(kind: str, folder: Path, url: str) -> Started:
    return Started([sys.executable, "-c", PROGRAMS[kind], url], cwd=folder, env=environment())


@pytest.mark.parametrize("kind", PROGRAMS)
def test_one_ctrl_c_lets_what_is_in_flight_finish(tmp_path: Path, kind: str) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    store = tmp_path / "runner.db"
    with simulator(*SLOW) as server:
        with program(kind, tmp_path, server.openai) as process:
            process.until(lambda: count(store) > 8, "the first rows")
            process.signal(signal.SIGINT)
            ended = process.ended()
        assert ended.code == 130, ended
        assert ended.out.replace("finished\n", "") == "stopping\ninterrupted\n"
        assert "Traceback" not in ended.err
        kept = count(store)
        assert 8 < kept < 200
        # all that was sent is finished and saved
        assert server.sent() == kept == count(store, "attempts")
    assert rows(store, "SELECT stop_reason FROM runs") == [("stopped by Ctrl-C",)]


@pytest.mark.parametrize("kind", ["plain", "asyncio", "thread", "notebook"])
def test_a_second_ctrl_c_drops_them(tmp_path: Path, kind: str) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    store = tmp_path / "runner.db"
    with simulator(*QUICK, "--fault", "stall=1") as server:
        with program(kind, tmp_path, server.openai) as process:
            process.until(lambda: server.stats()["faults"].get("stall") == 8, "eight stalled answers")
            process.signal(signal.SIGINT)
            process.until(lambda: process.out == "stopping\n", "the stop")
            process.signal(signal.SIGINT)
            # a hang here would be the grace time of 30 s
            ended = process.ended(25)
        assert ended.code == 130, ended
        assert count(store, "attempts", "error_code = 'cancelled'") == 8


# Ctrl-C comes while the call still reads: asyncio would keep the signal until its loop runs again, and all rows would be sent.
EARLY = """
import asyncio, os, signal, sys, runner
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupting:
    def __fspath__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return {"run": "p.jsonl"}.get(sys.argv[1], "runner.db")
calls = {
    "run": lambda: runner.run(Interrupting(), model="m", base_url=sys.argv[2]),
    "resume": lambda: runner.resume(db=Interrupting()),
    "retry": lambda: runner.retry(db=Interrupting()),
}
async def main():
    calls[sys.argv[1]]()
    print("finished", flush=True)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("call", ["run", "resume", "retry"])
def test_ctrl_c_in_an_asyncio_program_before_the_first_request(tmp_path: Path, call: str) -> None:
    file = prompts(tmp_path, 20)
    with simulator(*QUICK, "--fault", "truncate=0.5") as server:
        if call != "run":
            ended = runner.run(file, db=tmp_path / "runner.db", limit=10, model="m", base_url=server.openai, attempts=1)
            assert (ended.left, ended.failed > 0) == (10, True)
        sent = server.sent()
        with Started([sys.executable, "-c", EARLY, call, server.openai], cwd=tmp_path, env=environment()) as process:
            assert process.ended() == Ended(130, "interrupted\n", ""), process
        assert server.sent() == sent


@pytest.mark.parametrize("stop", [5, 1.5, threading.Event(), object()])
def test_stop_must_be_a_handle_or_texts(tmp_path: Path, stop: Any) -> None:
    file = prompts(tmp_path, 1)
    for call in (lambda: runner.run(file, stop=stop), lambda: runner.resume(stop=stop), lambda: runner.retry(stop=stop)):
        with pytest.raises(
            runner.UsageError, match=r"^stop must be a runner\.StopHandle, or the texts at which an answer ends, not "
        ):
            call()


def prompts(folder: Path, number: int) -> Path:
    write_prompts(folder / "p.jsonl", range(number))
    return folder / "p.jsonl"


def test_a_program_stops_its_run(tmp_path: Path) -> None:
    stop, events = runner.StopHandle(), list[Event]()

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, Saved):
            # from another thread
            threading.Thread(target=stop.request).start()

    with simulator(*SLOW) as server:
        address = {"model": "m", "base_url": server.openai, "concurrency": 4}
        summary = runner.run(prompts(tmp_path, 60), db=tmp_path / "r.db", stop=stop, observe=observe, **address)
        assert (summary.finished, summary.stop_reason) == (False, "stopped by the program")
        assert 0 < summary.done < 60
        assert isinstance(events[-1], Finished)
        sent = server.sent()
        # it stays asked: nothing more is sent
        for again in (
            lambda: runner.run(tmp_path / "p.jsonl", db=tmp_path / "r.db", stop=stop, **address),
            lambda: runner.resume(db=tmp_path / "r.db", stop=stop),
        ):
            assert again().done_now == 0
        assert server.sent() == sent
        assert runner.resume(db=tmp_path / "r.db", stop=runner.StopHandle()).finished


def test_a_second_request_drops_what_is_open(tmp_path: Path) -> None:
    stop = runner.StopHandle()

    def observe(event: Event) -> None:
        if isinstance(event, Progress) and event.in_flight == 4:
            stop.request("enough")
        if isinstance(event, Stopping):
            stop.request()

    with simulator(*QUICK, "--fault", "stall=1") as server:
        address = {"model": "m", "base_url": server.openai, "concurrency": 4}
        summary = runner.run(prompts(tmp_path, 20), db=tmp_path / "r.db", stop=stop, observe=observe, **address)
    assert summary.stop_reason == "enough"
    assert count(tmp_path / "r.db", "attempts", "error_code = 'cancelled'") == 4


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[runner.Summary] = []
    thread = threading.Thread(
        target=lambda: done.append(runner.run(prompts(tmp_path, 5), db=tmp_path / "r.db", provider="simulator"))
    )
    thread.start()
    thread.join()
    assert done[0].finished
    runner.run(prompts(tmp_path, 6), db=tmp_path / "r.db", provider="simulator")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("kind", [Began, Finished, Stopping, Progress])
def test_an_observer_that_fails_changes_nothing(tmp_path: Path, kind: type, caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: Event) -> None:
        if isinstance(event, kind):
            raise RuntimeError("no more")

    file = prompts(tmp_path, 5)
    # the second time nothing is left to do
    for _ in range(2):
        assert runner.run(file, db=tmp_path / "r.db", provider="simulator", observe=observe).finished
    told = caplog.text.count("the observer failed")
    assert told == (2 if kind in (Began, Finished) else told)


ERRORS = [
    errors.RunnerError("a"),
    errors.UsageError("a"),
    errors.NotReadyError("a"),
    errors.NotRunningError("a"),
    errors.StoreError("a", kept=False, stuck=True),
    errors.RunLockedError("a", kept=False),
    errors.RunStoppedError("a", code="auth"),
    errors.AttemptError("a", code="x", verdict="fail", sent=False),
    errors.AttachmentError("a"),
    errors.TransportError("a", code="x", verdict="stop", sent=False, stale=True),
    errors.AttemptTimeoutError("a", timeout="silence", sent=False),
    errors.StreamError("a", code="x", verdict="fail"),
    errors.FinishError("a", code="x", verdict="fail", kept=True),
    errors.InvalidAnswerError("a", text="b", mendable=False, early=True),
    errors.UnwantedTextError("a", text="b", early=True),
    errors.ProviderError("a", code="x", verdict="stop", status=402, provider_code="y", throttled=True, retry_after_s=1.5),
]


def test_every_error_is_listed_below() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RunnerError)}
    assert {type(error) for error in ERRORS} == kinds


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_pickles_with_its_attributes(error: errors.RunnerError, protocol: int) -> None:
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def stopped(folder: str, url: str) -> None:
    runner.run(Path(folder) / "p.jsonl", db=Path(folder) / "r.db", model="m", base_url=url)


def test_an_error_comes_out_of_a_process_pool(tmp_path: Path) -> None:
    prompts(tmp_path, 3)
    refusal = whole("401 Unauthorized", {"error": {"message": "wrong key", "code": "invalid_api_key"}})
    with in_thread(RawServer(refusal)) as server:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool, pytest.raises(runner.RunStoppedError) as caught:
            pool.submit(stopped, str(tmp_path), server.base_url).result(100)
    assert caught.value.code == "auth"


# -- the log


def test_the_log_says_what_matters_and_no_library_floods_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        runner.run(prompts(tmp_path, 5), db=tmp_path / "r.db", provider="simulator")
    ours = [record for record in caplog.records if record.name.startswith("runner")]
    assert {record.name for record in ours} == {"runner"}
    words = [record.getMessage() for record in ours]
    assert words[0] == "run 1: simulator: the answers are synthetic"
    assert words[1].startswith("run 1: cost unknown: no price is known for simulated-model; state one, such as --prices ")
    assert words[2].startswith("run 1: started: 5 rows of ")
    assert words[-1].startswith("run 1: finished: 5 done, 0 failed in ")
    libraries = {record.name.partition(".")[0] for record in caplog.records} - {"runner"}
    assert not libraries & {"aiosqlite", "alembic", "filelock", "sqlalchemy", "aiohttp", "httpx"}, libraries


def test_a_misspelt_variable_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(2))
    monkeypatch.setenv("RUNNER_MAX_TOKEN", "5")
    for _ in range(2):
        caplog.clear()
        runner.run(tmp_path / "prompts.jsonl", db=tmp_path / "r.db", provider="simulator")
        said = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert said == ["RUNNER_MAX_TOKEN is set, but runner has no such variable; did you mean RUNNER_MAX_TOKENS?"]


def test_waits_of_a_lane_are_logged_when_they_begin_and_end(caplog: pytest.LogCaptureFixture) -> None:
    audience = Audience(lambda _: None, lambda _: None)

    def progress(waiting: str | None) -> Progress:
        lane = LaneState(model="m", slots=1, ceiling=1, in_flight=0, waiting=waiting, blocked=waiting is not None)
        pace = Pace(at=0.0, lanes=(lane,))
        return Progress(rows=1, restored=0, done=0, failed=0, in_flight=0, output_tokens=0, elapsed_s=0.0, pace=pace)

    with caplog.at_level(logging.INFO, "runner"):
        audience.tell(Began(run=7, input="p.jsonl", rows=1, restored=0, notes=()))
        for waiting in (None, "out of \x1b reach for 1 s", "out of reach for 2 s", None, None):
            audience.tell(progress(waiting))
        audience.tell(Stopping(reason="stopped by Ctrl-C", in_flight=2, grace_s=30.0))
    assert caplog.messages[1:] == [
        "run 7: m sends nothing for now: out of \\x1b reach for 1 s",
        "run 7: m goes on",
        "run 7: stopping: stopped by Ctrl-C; 2 open requests, 30 s to finish",
    ]


def test_a_level_that_the_program_has_set_stays() -> None:
    code = (
        "import logging; logging.getLogger('aiosqlite').setLevel(logging.DEBUG); import runner.api;"
        "print(logging.getLogger('aiosqlite').level, logging.getLogger('alembic').level)"
    )
    with Started([sys.executable, "-c", code], cwd=Path.cwd(), env=environment()) as process:
        assert process.ended().out == "10 30\n"


# -- when errors come, and how


def test_results_raises_at_the_call(tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [lambda: runner.results(db=tmp_path / "absent.db")]
    runner.run(prompts(tmp_path, 3), db=tmp_path / "r.db", provider="simulator")
    calls.append(lambda: runner.results(9, db=tmp_path / "r.db"))
    for call in calls:
        with pytest.raises(runner.RunnerError):
            call()
    found = runner.results(db=tmp_path / "r.db")
    assert len(list(found)) == 3
    with sqlite3.connect(tmp_path / "r.db") as store:
        store.execute("SELECT 1")
    store.close()


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
def test_in_a_thread_of_a_program_with_anyio(tmp_path: Path, library: str) -> None:
    """The thread has inherited the context in which sniffio says that a loop runs."""
    prompts(tmp_path, 3)
    thread = "asyncio.to_thread(work)" if library == "asyncio" else "anyio.to_thread.run_sync(work)"
    program = f"""
import anyio, asyncio, runner, sniffio
def work():
    return runner.run("p.jsonl", provider="simulator")
async def main():
    print(sniffio.current_async_library())
    print((await {thread}).done)
anyio.run(main)
"""
    with Started([sys.executable, "-c", program], cwd=tmp_path, env=environment()) as process:
        ended = process.ended()
    assert (ended.code, ended.out, ended.err) == (0, "asyncio\n3\n", "")


def test_in_a_task_of_another_library(tmp_path: Path) -> None:
    """Trio marks the thread for sniffio while a task of its own runs."""
    prompts(tmp_path, 3)
    program = """
import runner, sniffio
sniffio.thread_local.name = "trio"
print(runner.run("p.jsonl", provider="simulator").done, sniffio.current_async_library())
"""
    with Started([sys.executable, "-c", program], cwd=tmp_path, env=environment()) as process:
        ended = process.ended()
    assert (ended.code, ended.out, ended.err) == (0, "3 trio\n", "")


def test_a_handle_says_that_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match=r"^a StopHandle cannot be pickled: it stops runs of its own process only"):
        pickle.dumps(runner.StopHandle())


def test_an_error_has_no_context_of_ours(tmp_path: Path) -> None:
    with pytest.raises(runner.UsageError) as caught:
        runner.run(prompts(tmp_path, 1), db=tmp_path / "r.db", base_url="http://127.0.0.1:9")
    error: BaseException | None = caught.value
    while error is not None:
        assert "no running event loop" not in str(error)
        error = error.__context__
