"""What ends a session from inside the program: its own signal handlers and its observer. Every request stays on the books."""

import asyncio
import os
import signal
import sys
import threading
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from processes import QUICK, count, environment, rows, simulator, write_prompts
from processes import Started as Process
from programs import OBSERVED

import runner
from runner.event_types import Event, Finished, Progress, Saved, Started
from runner.session.blocking import _Running

WITHOUT_UVLOOP = """
import sys
library, handler, url = sys.argv[1:]
if library == "plain":
    sys.modules["uvloop"] = None
"""
PROGRAM = f"""{WITHOUT_UVLOOP}{OBSERVED}
import asyncio
class Bye(Exception): pass
def end(kind, frame):
    if handler == "exit":
        sys.exit(143)
    raise dict(own=Bye, timeout=TimeoutError, interrupt=KeyboardInterrupt)[handler]("too long") from ValueError("the cause")
for kind in (signal.SIGTERM, signal.SIGALRM):
    signal.signal(kind, end)
def work():
    try:
        runner.run("prompts.jsonl", model="m", base_url=url, concurrency=8, observe=observe)
    except BaseException as error:
        print(type(error).__name__, error, repr(error.__cause__), error.__suppress_context__, flush=True)
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGALRM) is end
async def main():
    work()
asyncio.run(main()) if library == "asyncio" else work()
print("end")
"""


RAISED = {
    "exit": (signal.SIGTERM, "SystemExit 143 None True"),
    "own": (signal.SIGTERM, "Bye too long ValueError('the cause') True"),
    "timeout": (signal.SIGALRM, "TimeoutError too long ValueError('the cause') True"),
    "interrupt": (signal.SIGALRM, "KeyboardInterrupt too long ValueError('the cause') True"),
}


# the loops tell apart only what is an Exception and what is not: one of each meets all of them
@pytest.mark.parametrize(
    ("library", "handler"),
    [*product(("plain", "uvloop", "asyncio"), ("own", "interrupt")), ("uvloop", "exit"), ("uvloop", "timeout")],
)
def test_what_a_signal_handler_raises_ends_the_session(tmp_path: Path, library: str, handler: str) -> None:
    kind, raised = RAISED[handler]
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    with simulator(*QUICK, "--fault", "stall=1") as server:
        command = [sys.executable, "-c", PROGRAM, library, handler, server.openai]
        with Process(command, cwd=tmp_path, env=environment()) as process:
            process.until(lambda: server.stats()["faults"].get("stall") == 8, "eight stalled answers")
            process.signal(kind)
            ended = process.ended()
        sent = server.sent()
    assert (ended.code, ended.out, ended.err) == (0, f"{raised}\nend\n", "")
    assert count(tmp_path / "runner.db", "attempts", "error_code = 'cancelled'") == sent == 8
    assert rows(tmp_path / "runner.db", "SELECT stop_reason FROM runs") == [("stopped by the program",)]


def test_a_signal_handler_that_raises_nothing_is_called_as_ever(tmp_path: Path) -> None:
    stop = runner.StopHandle()

    def observe(event: Event) -> None:
        if isinstance(event, Saved):
            signal.raise_signal(signal.SIGTERM)

    def end(kind: int, frame: object) -> None:
        stop.request(f"signal {kind}")

    write_prompts(tmp_path / "p.jsonl", range(60))
    before = signal.signal(signal.SIGTERM, end)
    try:
        given = {"db": tmp_path / "r.db", "provider": "simulator", "concurrency": 4}
        summary = runner.run(tmp_path / "p.jsonl", stop=stop, observe=observe, **given)
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (summary.finished, summary.stop_reason) == (False, f"signal {int(signal.SIGTERM)}")


def test_a_forked_process_is_no_session(tmp_path: Path) -> None:
    codes = []

    def observe(event: Event) -> None:
        if isinstance(event, Finished):
            with warnings.catch_warnings(action="ignore"):
                # Python 3.12 and newer advise against it where threads run
                child = os.fork()
            if not child:
                try:
                    signal.raise_signal(signal.SIGTERM)
                except SystemExit:
                    os._exit(7)
                os._exit(8)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def end(kind: int, frame: object) -> None:
        sys.exit(kind)

    write_prompts(tmp_path / "p.jsonl", range(1))
    before = signal.signal(signal.SIGTERM, end)
    try:
        assert runner.run(tmp_path / "p.jsonl", db=tmp_path / "r.db", provider="simulator", observe=observe).finished
    finally:
        signal.signal(signal.SIGTERM, before)
    assert codes == [7]


def test_three_ctrl_c_leave_the_reason_and_the_attempts(tmp_path: Path) -> None:
    def observe(event: Event) -> None:
        if isinstance(event, Progress) and event.in_flight == 8:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)

    write_prompts(tmp_path / "p.jsonl", range(200))
    store, before = tmp_path / "r.db", signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with simulator(*QUICK, "--fault", "stall=1") as server, pytest.raises(KeyboardInterrupt):
            runner.run(tmp_path / "p.jsonl", db=store, model="m", base_url=server.openai, concurrency=8, observe=observe)
    finally:
        signal.signal(signal.SIGINT, before)
    assert count(store, "attempts", "error_code = 'cancelled'") == 8
    assert rows(store, "SELECT stop_reason FROM runs") == [("stopped by Ctrl-C",)]


class Bye(BaseException):
    pass


@pytest.mark.parametrize("kind", [Started, Progress, Saved, Finished])
@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Bye()])
def test_what_an_observer_raises_that_is_no_error_stops_the_run(tmp_path: Path, kind: type, raised: BaseException) -> None:
    told: list[Event] = []

    def observe(event: Event) -> None:
        told.append(event)
        if isinstance(event, kind):
            raise raised

    write_prompts(tmp_path / "p.jsonl", range(60))
    store = tmp_path / "r.db"
    with simulator(*QUICK) as server:
        with pytest.raises(type(raised)) as caught:
            runner.run(tmp_path / "p.jsonl", db=store, model="m", base_url=server.openai, concurrency=4, observe=observe)
        assert caught.value is raised
        # it is told nothing more, and what was sent is finished and saved
        assert isinstance(told[-1], kind)
        assert server.sent() == count(store, "attempts", "error_code IS NULL") == count(store)
        wanted = None if kind is Finished else "stopped by the program"
        assert rows(store, "SELECT stop_reason FROM runs") == [(wanted,)]
        assert runner.run(tmp_path / "p.jsonl", db=store, model="m", base_url=server.openai).finished
        assert server.sent() == 60


def test_what_a_handler_raises_that_was_set_during_the_session_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes out of the loop, as nothing holds it back: uvloop would drop it."""
    monkeypatch.setitem(sys.modules, "uvloop", None)

    def end(kind: int, frame: object) -> None:
        raise TimeoutError("too long")

    def observe(event: Event) -> None:
        if isinstance(event, Progress) and event.in_flight == 4 and signal.getsignal(signal.SIGUSR2) is not end:
            signal.signal(signal.SIGUSR2, end)
            threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()

    write_prompts(tmp_path / "p.jsonl", range(20))
    before = signal.getsignal(signal.SIGUSR2)
    try:
        with simulator(*QUICK, "--fault", "stall=1") as server:
            address = {"model": "m", "base_url": server.openai, "concurrency": 4}
            with pytest.raises(TimeoutError, match=r"^too long$"):
                runner.run(tmp_path / "p.jsonl", db=tmp_path / "r.db", observe=observe, **address)
            assert count(tmp_path / "r.db", "attempts", "error_code = 'cancelled'") == server.sent() == 4
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_call_that_was_cancelled_before_it_begins_ends_at_once() -> None:
    running = _Running()
    running.cancel()

    async def call() -> None:
        running.begin()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call())


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        (5, "5"),
        (None, "stopped by the program"),
        ("", "stopped by the program"),
        (ValueError("x"), "ValueError('x')"),
        ("\ud800", "\ufffd"),
    ],
)
def test_whatever_the_reason_is_the_run_stops(tmp_path: Path, reason: Any, stored: str) -> None:
    stop = runner.StopHandle()
    stop.request(reason)
    write_prompts(tmp_path / "p.jsonl", range(3))
    summary = runner.run(tmp_path / "p.jsonl", db=tmp_path / "r.db", provider="simulator", stop=stop)
    assert (summary.done, summary.stop_reason) == (0, stored)
    assert rows(tmp_path / "r.db", "SELECT stop_reason FROM runs") == [(stored,)]
