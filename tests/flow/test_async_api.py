"""The Python API inside the program's own event loop: arun, stream and events, and how they end."""

import asyncio
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from processes import HANG_S, Started, count, environment, rows, simulator, write_prompts
from raw_server import FIN, HANG, RawServer, Received, Reply, delta, events, finish, in_thread, openai_answer, stream, whole

import runner
from runner.session import backlog

ROWS = 12


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    write_prompts(tmp_path / "p.jsonl", range(ROWS))
    return tmp_path / "p.jsonl"


def given(path: Path, server: RawServer, **more: Any) -> dict[str, Any]:
    return {"db": path.parent / "r.db", "model": "m", "base_url": server.base_url, "concurrency": 4, **more}


def echo(request: Received) -> Reply:
    return openai_answer(f"echo {request.json['messages'][0]['content']}")


Work = Callable[[], Coroutine[Any, Any, None]]
LOOPS: dict[str, Callable[[Work], None]] = {
    "asyncio": lambda work: asyncio.run(work()),
    "uvloop": lambda work: uvloop.run(work()),
    "anyio": lambda work: anyio.run(work),
    # a cell of a notebook
    "cell": lambda work: _cell(work),
}


def _cell(work: Work) -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(loop.create_task(work()))
    finally:
        loop.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_in_any_loop_of_asyncio(prompts: Path, loop: str) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            summary = await runner.arun(prompts, **given(prompts, server))
            assert (summary.done_now, summary.finished) == (ROWS, True)
            texts = [result.text async for result in runner.stream(prompts, **given(prompts, server))]
            assert len(set(texts)) == ROWS == len(server.requests)

    LOOPS[loop](work)


def test_without_a_loop_of_asyncio_there_is_one_sentence() -> None:
    waiting = runner.arun("p.jsonl", model="m")
    with pytest.raises(runner.UsageError, match=r"needs a running event loop of asyncio .* under trio"):
        waiting.send(None)


def test_wrong_arguments_are_one_sentence(prompts: Path) -> None:
    with pytest.raises(runner.UsageError, match='on_slow must be "wait" or "drop", not'):
        runner.events(prompts, on_slow="never")  # type: ignore[arg-type]
    with pytest.raises(runner.UsageError, match="limit must be a whole number"):
        runner.stream(prompts, limit=0)

    async def work() -> None:
        with pytest.raises(runner.UsageError, match="unknown setting 'modle'"):
            await runner.arun(prompts, modle="m")
        with pytest.raises(runner.UsageError, match="there is no file"):
            await _all(runner.stream("absent.jsonl", model="m"))

    asyncio.run(work())


@pytest.mark.parametrize("way", ["run", "arun"])
def test_the_program_may_change_its_folder_during_a_run(prompts: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.chdir(prompts.parent)
    (prompts.parent / "elsewhere").mkdir()
    with in_thread(RawServer(echo)) as server:
        some = given(prompts, server, db="r.db", observe=lambda _: os.chdir(prompts.parent / "elsewhere"))
        summary = runner.run("p.jsonl", **some) if way == "run" else asyncio.run(runner.arun("p.jsonl", **some))
    assert len(summary.results()) == ROWS


def test_two_runs_at_a_time_in_one_loop_but_not_the_same_run_twice(prompts: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(prompts, server)
            one, two = await asyncio.gather(runner.arun(prompts, **some), runner.arun(prompts, **{**some, "model": "n"}))
            assert (one.done_now, two.done_now) == (ROWS, ROWS)
        release = asyncio.Event()
        async with RawServer(stream(*events("openai", "x")[:1], release, *events("openai", "x")[1:])) as server:
            some = given(prompts, server, new=True)
            first = asyncio.create_task(runner.arun(prompts, **some))
            await _until(lambda: server.in_flight)
            with pytest.raises(runner.RunLockedError):
                await runner.aresume(db=some["db"])
            release.set()
            assert (await first).done_now == ROWS

    asyncio.run(work())


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


async def _all(elements: runner.Stream[Any], into: list[Any] | None = None) -> list[Any]:
    """Return everything that is yielded; in ``into`` also what came before an error."""
    into = [] if into is None else into
    async for element in elements:
        into.append(element)
    return into


def test_resume_and_retry(prompts: Path) -> None:
    async def work() -> None:
        bad = whole(400, {"error": {"message": "no", "type": "invalid_request_error"}})
        async with RawServer(lambda request: bad if "number 3" in request.body.decode() else echo(request)) as server:
            first = await runner.arun(prompts, limit=6, **given(prompts, server))
            assert (first.done_now, first.failed_now) == (5, 1)
            assert (await runner.aresume(db=prompts.parent / "r.db")).done_now == ROWS - 6
            server.answers = echo
            assert (await runner.aretry(db=prompts.parent / "r.db")).done == ROWS

    asyncio.run(work())


def _held(release: asyncio.Event) -> Reply:
    """Return an answer whose first piece comes at once, and its end with the event."""
    first, *rest = events("openai", "one", "two")
    return stream(first, release, *rest)


@pytest.mark.parametrize("how", ["task", "timeout", "anyio"])
def test_a_cancelled_run_lets_open_requests_finish(prompts: Path, how: str) -> None:
    async def work() -> None:
        release = asyncio.Event()
        async with RawServer(_held(release)) as server:
            some = given(prompts, server)
            seen: list[Any] = []

            async def release_later() -> None:
                await _until(lambda: any(type(event).__name__ == "Stopping" for event in seen))
                release.set()

            helper = asyncio.create_task(release_later())
            if how == "anyio":
                with anyio.CancelScope() as scope:
                    asyncio.get_running_loop().create_task(_cancel(server, scope.cancel))
                    await runner.arun(prompts, observe=seen.append, **some)
                assert scope.cancelled_caught
            else:
                task = asyncio.create_task(runner.arun(prompts, observe=seen.append, **some))
                await _cancel(server, task.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await task
            await helper
            # all that was sent is finished and saved, and nothing else was sent
            assert len(server.requests) == count(some["db"]) == count(some["db"], "attempts") == 4
            assert rows(some["db"], "SELECT stop_reason FROM runs") == [("stopped by the program",)]
            assert (await runner.arun(prompts, **some)).done_now == ROWS - 4

    asyncio.run(work())


async def _cancel(server: RawServer, cancel: Callable[[], Any]) -> None:
    await _until(lambda: server.in_flight == 4)
    cancel()


@pytest.mark.parametrize("reads", [False, True], ids=["arun", "stream"])
def test_a_cancellation_while_rows_are_taken_ends_at_once_and_leaves_nothing(tmp_path: Path, *, reads: bool) -> None:
    async def work() -> None:
        taken, closed = asyncio.Event(), list[bool]()

        async def slow() -> AsyncIterator[str]:
            yield "a"
            taken.set()
            try:
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        async with RawServer(echo) as server:
            some = given(tmp_path / "p", server)
            task = asyncio.create_task(_all(runner.stream(slow(), **some)) if reads else runner.arun(slow(), **some))
            await taken.wait()
            task.cancel()
            async with asyncio.timeout(HANG_S):
                with pytest.raises(asyncio.CancelledError):
                    await task
            left = [*tmp_path.glob("*")]  # noqa: ASYNC240 - a few names
            assert (closed, left, server.requests) == ([True], [], [])

    asyncio.run(work())


@pytest.mark.parametrize("reads", [False, True], ids=["arun", "stream"])
def test_a_cancellation_while_standard_input_gives_nothing_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, reads: bool
) -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"prompt": "a"}\n')

    async def work() -> None:
        some = {"db": tmp_path / "r.db", "provider": "simulator"}
        task = asyncio.create_task(_all(runner.stream("-", **some)) if reads else runner.arun("-", **some))
        await _until(lambda: [*tmp_path.glob("*.tmp")])
        task.cancel()
        async with asyncio.timeout(HANG_S):
            with pytest.raises(asyncio.CancelledError):
                await task

    with os.fdopen(reading) as stream, os.fdopen(writing, "wb"):
        monkeypatch.setattr(sys, "stdin", stream)
        asyncio.run(work())
        assert [*tmp_path.iterdir()] == []


def test_what_a_program_has_read_ahead_of_standard_input_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        os.write(writing, b'{"prompt": "a"}\n{"prompt": "b"}\n')
        assert stream.buffer.peek(1)
        os.write(writing, b'{"prompt": "c"}\n')
        os.close(writing)
        summary = asyncio.run(runner.arun("-", db=tmp_path / "r.db", provider="simulator"))
    assert [result.prompt for result in summary.results()] == ["a", "b", "c"]


def test_a_signal_that_cancels_is_seen_while_nothing_happens_but_the_wait_for_a_row(tmp_path: Path) -> None:
    """A notebook cancels the task of its cell in a handler of the signal, which does not wake the loop."""

    async def work() -> None:
        taken = asyncio.Event()

        async def slow() -> AsyncIterator[str]:
            taken.set()
            await asyncio.Event().wait()
            yield "a"

        task = asyncio.create_task(runner.arun(slow(), db=tmp_path / "r.db", provider="simulator"))
        await taken.wait()
        before = signal.signal(signal.SIGINT, lambda *_: task.cancel())
        # so that the signal comes while the loop waits
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        woken = asyncio.Event()
        late = asyncio.get_running_loop().call_later(HANG_S, woken.set)
        try:
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            late.cancel()
            signal.signal(signal.SIGINT, before)
        assert not woken.is_set()

    asyncio.run(work())


def test_a_stream_and_a_handle_say_how_far_they_are(prompts: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            stop = runner.StopHandle()
            assert repr(stop) == "<StopHandle: not asked to stop>"
            results = runner.stream(prompts, stop=stop, **given(prompts, server))
            assert repr(results) == "<Stream of results: not begun; async for begins it>"
            await anext(results)
            assert repr(results) == "<Stream of results: begun>"
            assert await _all(results)
            assert re.fullmatch(r"<Stream of results: run 1 finished: 12 done, 0 failed of 12 rows in 0:0\d>", repr(results))
            stop.request("enough \x1b[31m")
            assert repr(stop) == r"<StopHandle: asked to stop (enough \x1b[31m)>"
            failed = runner.events("absent.jsonl", model="m")
            with pytest.raises(runner.UsageError):
                await _all(failed)
            assert repr(failed) == "<Stream of events: ended>"

    asyncio.run(work())


def test_a_call_waits_for_the_run_that_a_reader_has_left(tmp_path: Path) -> None:
    async def work() -> None:
        release, taken = asyncio.Event(), asyncio.Event()
        in_flight = list[int]()

        async def again() -> AsyncIterator[str]:
            in_flight.append(server.in_flight)
            taken.set()
            for number in range(ROWS):
                yield f"number {number}"

        async with RawServer(lambda request: echo(request) if request.number == 1 else _held(release)) as server:
            some = given(tmp_path / "p", server)
            async for _ in runner.stream([f"number {number}" for number in range(ROWS)], **some):
                break
            await _until(lambda: server.in_flight)
            second = asyncio.create_task(runner.arun(again(), **some))
            # it must not come; too short a wait would only let an error pass
            await asyncio.wait([asyncio.create_task(taken.wait())], timeout=0.3)
            release.set()
            assert (await second).done == ROWS == len(server.requests)
            assert in_flight == [0]

    asyncio.run(work())


def test_a_second_cancellation_drops_them(prompts: Path) -> None:
    async def work() -> None:
        async with RawServer(stream(delta("one"), end=(HANG,))) as server:
            some, seen = given(prompts, server), list[Any]()
            task = asyncio.create_task(runner.arun(prompts, observe=seen.append, **some))
            await _cancel(server, task.cancel)
            await _until(lambda: any(type(event).__name__ == "Stopping" for event in seen))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert count(some["db"], "attempts", "error_code = 'cancelled'") == 4

    asyncio.run(work())


def test_what_an_observer_raises_that_is_no_error_comes_out(prompts: Path) -> None:
    def leave(event: object) -> None:
        if type(event).__name__ == "Saved":
            sys.exit(7)

    async def work() -> None:
        async with RawServer(echo) as server:
            await runner.arun(prompts, observe=leave, **given(prompts, server))

    with pytest.raises(SystemExit) as caught:
        asyncio.run(work())
    assert caught.value.code == 7


PROGRAM = """
import asyncio, sys, runner
async def main():
    given = {"model": "m", "base_url": sys.argv[2], "concurrency": 8}
    if sys.argv[1] == "arun":
        await runner.arun("prompts.jsonl", **given)
    elif sys.argv[1] == "stream":
        async for result in runner.stream("prompts.jsonl", **given):
            pass
    else:
        async with runner.Session(**given) as session:
            await asyncio.gather(*(session.ask(f"prompt {number}") for number in range(200)))
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("kind", ["arun", "stream", "session"])
def test_ctrl_c_under_asyncio_run(tmp_path: Path, kind: str) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    store = tmp_path / "runner.db"
    slow = ("--first-token-s", "0.25", "--chunk-s", "0.005", "--tokens", "20")
    with (
        simulator(*slow) as server,
        Started([sys.executable, "-c", PROGRAM, kind, server.openai], cwd=tmp_path, env=environment()) as process,
    ):
        process.until(lambda: count(store) > 8, "the first rows")
        process.signal(signal.SIGINT)
        ended = process.ended()
        assert (ended.out, ended.err) == ("interrupted\n", "")
        kept = count(store)
        assert 8 < kept < 200
        # all that was sent is finished and saved
        assert server.sent() == kept == count(store, "attempts")


# -- stream


def test_each_row_of_the_run_comes_once_from_session_to_session(prompts: Path) -> None:
    with prompts.open("a") as file:
        file.write("broken\n")

    async def work() -> None:
        bad = whole(400, {"error": {"message": "no", "type": "invalid_request_error"}})
        async with RawServer(lambda request: bad if "number 3" in request.body.decode() else echo(request)) as server:
            some = given(prompts, server, concurrency=2)
            read = []
            async for result in runner.stream(prompts, **some):
                read.append(result)
                if len(read) == 5:
                    break
            # the next call waits for the end of the last
            again = runner.stream(prompts, **some)
            everything = [result async for result in again]
            assert {result.line for result in read} <= {result.line for result in everything}
            assert sorted(result.line for result in everything) == list(range(1, ROWS + 2))
            answered = [result for result in read if result.error_code != "bad_row"]
            assert everything[: len(answered)] == answered
            assert Counter(result.status for result in everything) == {"done": ROWS - 1, "failed": 2}
            assert again.summary is not None
            assert again.summary.finished
            assert len(server.requests) == ROWS
            # as they are exported, and also when nothing is left to do
            exported = list(runner.results(db=some["db"]))
            idle = [result async for result in runner.stream(prompts, **some)]
            assert sorted(everything, key=lambda result: result.line) == exported
            assert sorted(idle, key=lambda result: result.line) == exported
            assert [result async for result in runner.stream(prompts, limit=4, **some)] == exported[:4]
            assert len(server.requests) == ROWS

    asyncio.run(work())


def _change(prompts: Path) -> None:
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    lines[2]["prompt"] = "changed"
    prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_changed_rows_that_are_sent_again_come_once(prompts: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(prompts, server)
            await runner.arun(prompts, **some)
            _change(prompts)
            found = [result async for result in runner.stream(prompts, accept_changes=True, **some)]
            assert found[0].text == "echo changed"
            assert sorted(found, key=lambda result: result.line) == list(runner.results(db=some["db"]))

    asyncio.run(work())


def test_rows_in_memory_are_streamed(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = {"db": tmp_path / "r.db", "model": "m", "base_url": server.base_url}
            assert {result.text async for result in runner.stream(["a", "b"], **some)} == {"echo a", "echo b"}

    asyncio.run(work())


@pytest.mark.parametrize("way", ["aclose", "exception", "with"])
def test_leaving_the_loop_waits_for_the_open_requests(prompts: Path, way: str) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(prompts, server)
            results = runner.stream(prompts, **some)
            with pytest.raises(ZeroDivisionError) if way == "exception" else anyio.CancelScope():
                async with results:
                    async for _ in results:
                        if way == "aclose":
                            await results.aclose()
                        elif way == "exception":
                            raise ZeroDivisionError
                        break
            assert results.summary is not None
            assert len(server.requests) == count(some["db"]) == count(some["db"], "attempts")
            assert (await runner.arun(prompts, **some)).done == ROWS

    asyncio.run(work())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the open files of a process are seen there")
def test_whoever_leaves_a_run_that_has_ended_leaves_no_file_open(prompts: Path) -> None:
    def is_open() -> bool:
        return any(os.path.realpath(one).startswith(str(prompts.parent / "r.db")) for one in Path("/proc/self/fd").iterdir())

    async def work() -> None:
        async with RawServer(echo) as server, runner.stream(prompts, **given(prompts, server)) as results:
            async for _ in results:
                assert results._along.task is not None
                await asyncio.wait([results._along.task])
                assert is_open()
                break
            await results.aclose()
            assert not is_open()

    asyncio.run(work())


def test_the_error_of_a_run_comes_behind_its_results(prompts: Path) -> None:
    refusal = whole(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})

    async def work() -> None:
        async with RawServer(lambda request: echo(request) if request.number <= 3 else refusal) as server:
            found = list[Any]()
            with pytest.raises(runner.RunStoppedError, match="key"):
                await _all(runner.stream(prompts, **given(prompts, server, concurrency=1)), found)
            assert len(found) == 3

    asyncio.run(work())


def test_a_slow_reader_holds_up_new_rows_and_nothing_else(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "AHEAD", 3)

    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(prompts, server)
            taken = 0
            async for _ in runner.stream(prompts, **some):
                taken += 1
                # what was begun is saved, although nobody takes it
                await _until(lambda: count(some["db"]) == min(ROWS, taken + 3))  # noqa: B023 - called at once
                assert len(server.requests) == min(ROWS, taken + 3)
            assert taken == ROWS

    asyncio.run(work())


def test_a_stop_reaches_rows_that_wait_for_the_reader(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "AHEAD", 1)

    async def work() -> None:
        async with RawServer(echo) as server:
            stop = runner.StopHandle()
            results = runner.stream(prompts, stop=stop, **given(prompts, server))
            await anext(results)
            stop.request("enough")
            assert len([result async for result in results]) <= 2
            assert results.summary is not None
            assert results.summary.stop_reason == "enough"

    asyncio.run(work())


# -- events


def _names(events: list[Any], row: str) -> list[str]:
    """Return the kinds of the events of a row, without the repetitions of tokens."""
    kinds = []
    for event in events:
        id_ = event.result.id if isinstance(event, runner.RowFinished) else getattr(event, "id", None)
        if id_ == row and (name := type(event).__name__) not in kinds[-1:]:
            kinds.append(name)
    return kinds


BEGUN = {"openai": (delta("wrong"),), "anthropic": events("anthropic", "wrong")[:-2]}


def _twice(dialect: str) -> Callable[[Received], Reply]:
    """Break off the first answer to each prompt in its middle."""
    seen: Counter[str] = Counter()

    def answer(request: Received) -> Reply:
        text = request.json["messages"][0]["content"]
        seen[text] += 1
        if seen[text] == 1:
            return stream(*BEGUN[dialect], end=(FIN,))
        return stream(*events(dialect, "echo ", text))

    return answer


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_attempt_that_fails_is_seen_and_its_text_starts_over(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "p.jsonl"
    write_prompts(path, range(2))

    async def work() -> None:
        async with RawServer(_twice(dialect)) as server:
            some = given(path, server, provider=dialect, max_tokens=10)
            if dialect == "anthropic":
                some["base_url"] = server.origin
            seen = [event async for event in runner.events(path, **some)]
            again = [event async for event in runner.events(path, **some)]
        attempt = ["RowStarted", "FirstToken", "Token"]
        assert _names(seen, "row-0") == [*attempt, "AttemptFailed", *attempt, "RowFinished"]
        assert type(seen[0]) is runner.Started
        assert type(seen[-1]) is runner.Finished
        tokens = [event for event in seen if isinstance(event, runner.Token) and event.id == "row-0"]
        assert [token.attempt for token in tokens if token.at == 0] == [1, 2]
        done = next(event for event in seen if isinstance(event, runner.RowFinished) and event.result.id == "row-0")
        assert "".join(token.text for token in tokens if token.attempt == 2) == done.result.text
        assert not done.earlier
        assert [event.earlier for event in again if isinstance(event, runner.RowFinished)] == [True, True]

    asyncio.run(work())


def test_an_answer_in_one_piece_is_one_token(prompts: Path) -> None:
    answer = whole(200, {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]})

    async def work() -> None:
        async with RawServer(answer) as server:
            seen = [event async for event in runner.events(prompts, stream=False, **given(prompts, server))]
        assert [event.text for event in seen if isinstance(event, runner.Token)] == ["Hello."] * ROWS

    asyncio.run(work())


def test_a_reader_that_drops_misses_pieces_and_no_result(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LONG", 5)

    async def work() -> None:
        pieces = [delta("a b. ") for _ in range(50)]
        # each piece in a read of its own
        steps = [step for piece in pieces for step in (piece, 0.001)]
        async with RawServer(stream(*steps, finish())) as server:
            some = given(prompts, server)
            seen = []
            async for event in runner.events(prompts, on_slow="drop", **some):
                seen.append(event)
                if isinstance(event, runner.FirstToken):
                    # so slow that a row is finished meanwhile
                    done = count(some["db"])
                    await _until(lambda: count(some["db"]) > done or count(some["db"]) == ROWS)  # noqa: B023 - called at once
            said = sum(len(event.text) for event in seen if isinstance(event, runner.Token))
            dropped = sum(event.tokens for event in seen if isinstance(event, runner.Dropped))
            assert dropped > 0
            assert said < ROWS * 50 * 5
            assert sum(isinstance(event, runner.RowFinished) for event in seen) == ROWS

            joined = [event async for event in runner.events(prompts, new=True, **some)]
            assert sum(len(event.text) for event in joined if isinstance(event, runner.Token)) == ROWS * 50 * 5

    asyncio.run(work())


def test_why_a_model_waits_is_told(prompts: Path) -> None:
    limited = whole(429, {"error": {"message": "slow down"}}, retry_after="1")

    async def work() -> None:
        # slow enough for a report of progress behind the wait
        answer = stream(0.15, *events("openai", "x"))
        async with RawServer(lambda request: limited if request.number == 1 else answer) as server:
            seen = [event async for event in runner.events(prompts, **given(prompts, server, concurrency=1))]
        waits = [event for event in seen if isinstance(event, runner.Waiting)]
        assert [wait.model for wait in waits] == ["m", "m"]
        assert "429" in (waits[0].reason or "")
        assert waits[1].reason is None

    asyncio.run(work())


# -- worker processes


def _in_worker(folder: str, base_url: str) -> int:
    return runner.run(Path(folder, "p.jsonl"), db=Path(folder, "r.db"), model="m", base_url=base_url, new=True).done_now


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_worker_of_a_pool_runs(prompts: Path, method: str) -> None:
    with in_thread(RawServer(echo)) as server:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(_in_worker, str(prompts.parent), server.base_url).result() == ROWS
