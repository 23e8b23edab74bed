"""``runner.Session``: each ask is a row of a run, paid once, under the limits and in the books of that run."""

import asyncio
import json
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from processes import HANG_S, Started, count, environment, run
from raw_server import RawServer, Received, Reply, delta, events, in_thread, openai_answer, stream, whole

import runner

REFUSED = whole(400, {"error": {"message": "no", "type": "invalid_request_error"}})


def echo(request: Received) -> Reply:
    return openai_answer(f"echo {request.json['messages'][-1]['content']}")


def given(folder: Path, server: RawServer, **more: Any) -> dict[str, Any]:
    return {"db": folder / "r.db", "model": "m", "base_url": server.base_url, "concurrency": 4, **more}


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def test_asks_are_rows_of_a_run_and_paid_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(tmp_path, server)
            async with runner.Session(**some) as session:
                first = await session.ask("one")
                assert (first.text, first.prompt, first.status, first.line) == ("echo one", "one", "done", 1)
                many = await asyncio.gather(*(session.ask(f"n {number}", id=number) for number in range(300)))
                assert [result.text for result in many] == [f"echo n {number}" for number in range(300)]
                chat = await session.ask([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
                row = await session.ask({"prompt": "c", "lang": "de"}, id="x")
                assert (chat.text, row.text, row.id, row.metadata) == ("echo b", "echo c", "x", {"lang": "de"})
                assert await session.ask("one") == first
            assert session.summary is not None
            assert (session.summary.done_now, session.summary.finished, session.summary.skipped) == (303, True, 1)
            # a later session, and the same at once
            async with runner.Session(**some) as later:
                assert await later.ask("one") == first
                assert await asyncio.gather(later.ask("new"), later.ask("new")) == [await later.ask("new")] * 2
            assert len(server.requests) == 304 == count(some["db"], "attempts")
            assert next(iter(runner.results(db=some["db"]))) == first
            assert len(runner.runs(db=some["db"])) == 1

    asyncio.run(work())


def test_no_more_requests_at_a_time_than_the_setting_says(tmp_path: Path) -> None:
    most = 0

    async def work() -> None:
        def answer(request: Received) -> Reply:
            nonlocal most
            most = max(most, server.in_flight)
            return stream(0.01, *events("openai", "x"))

        async with RawServer(answer) as server, runner.Session(**given(tmp_path, server)) as session:
            await asyncio.gather(*(session.ask(f"n {number}") for number in range(60)))

    asyncio.run(work())
    assert 1 < most <= 4


def test_another_prompt_under_the_same_id(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(tmp_path, server)
            async with runner.Session(**some) as session:
                await session.ask("one", id="a")
                with pytest.raises(runner.UsageError, match=r"'a' has the answer to another prompt; .*accept_changes=True"):
                    await session.ask("two", id="a")
            async with runner.Session(accept_changes=True, **some) as session:
                assert (await session.ask("two", id="a")).text == "echo two"
                server.answers = REFUSED
                # what is kept in the store is no answer to this
                failed = await session.ask("three", id="a")
                assert (failed.text, failed.status, failed.error_code, failed.prompt) == (None, "failed", "bad_request", "three")
            assert [result.text for result in runner.results(db=some["db"])] == ["echo two"]

    asyncio.run(work())


def test_a_row_that_fails_is_a_result_and_is_sent_again_when_it_is_asked_again(tmp_path: Path) -> None:
    async def work() -> None:
        refusing = RawServer(lambda request: REFUSED if request.number == 2 else echo(request))
        async with refusing as server, runner.Session(**given(tmp_path, server)) as session:
            await session.ask("first")
            failed = await session.ask("second")
            assert (failed.text, failed.status, failed.error_code, failed.attempts) == (None, "failed", "bad_request", 1)
            again = await session.ask("second")
            assert (again.text, again.attempts) == ("echo second", 2)
            broken = await session.ask({"lang": "de"})
            assert (broken.error_code, broken.error) == ("bad_row", "ask 3: no prompt and no messages")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("prompt", "id_", "words"),
    [
        (7, None, "a prompt is a text, a list of messages or a dict, not int"),
        ("x", True, "id must be a text or a whole number, not True"),
        ("x", "", "id must be a text or a whole number, not ''"),
        ({"prompt": "x", "other": object()}, None, "field 'other' of row 1 is a value of type object"),
    ],
)
def test_wrong_asks_are_one_sentence(tmp_path: Path, prompt: Any, id_: Any, words: str) -> None:
    async def work() -> None:
        async with RawServer(echo) as server, runner.Session(**given(tmp_path, server)) as session:
            with pytest.raises(runner.UsageError, match=words):
                await session.ask(prompt, id=id_)
            assert (await session.ask("x")).text == "echo x"

    asyncio.run(work())


def test_outside_of_its_block_a_session_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            session = runner.Session(**given(tmp_path, server))
            with pytest.raises(runner.UsageError, match="is used in its block"):
                await session.ask("x")
            async with session:
                await session.ask("x")
            with pytest.raises(runner.RunStoppedError, match="the session has ended"):
                await session.ask("y")
            with pytest.raises(runner.UsageError, match="is used once"):
                await session.__aenter__()
            with pytest.raises(runner.UsageError, match="name must be letters, digits"):
                runner.Session(name="../x")
            with pytest.raises(runner.UsageError, match="unknown setting 'modle'"):
                await runner.Session(modle="m").__aenter__()

    asyncio.run(work())


def test_an_error_that_stops_the_run_reaches_every_ask(tmp_path: Path) -> None:
    refusal = whole(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})

    async def work() -> None:
        async with RawServer(refusal) as server, runner.Session(**given(tmp_path, server)) as session:
            asks = (session.ask(f"n {number}") for number in range(10))
            found = await asyncio.gather(*asks, return_exceptions=True)
            assert Counter(map(type, found)) == {runner.RunStoppedError: 10}
            with pytest.raises(runner.RunStoppedError, match="key"):
                await session.ask("later")
            # no command continues a session
            assert not [error for error in found if "runner resume" in str(error)]
            assert "then run a new Session." in str(found[0])

    asyncio.run(work())
    said = run("status", "--db", str(tmp_path / "r.db"), cwd=tmp_path).out
    assert "then run a new Session." in said
    assert "runner resume" not in said


def test_what_is_said_of_a_row_that_asks_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server, runner.Session(**given(tmp_path, server)) as session:
            assert (await session.ask({"prompt": "x", "temperature": "warm"}, id="a")).error_code == "bad_row"

    asyncio.run(work())
    said = run("errors", "--db", str(tmp_path / "r.db"), cwd=tmp_path).out
    assert "Correct what was asked, and ask it in a new Session." in said
    assert "prompt file" not in said


def test_two_sessions_at_a_time_need_two_names(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server, runner.Session(**given(tmp_path, server)) as one:
            with pytest.raises(runner.RunLockedError):
                await runner.Session(**given(tmp_path, server)).__aenter__()
            async with runner.Session(name="other", **given(tmp_path, server)) as two:
                assert (await one.ask("x")).text == (await two.ask("x")).text
            assert len(server.requests) == 2

    asyncio.run(work())


def test_a_cancelled_ask_is_paid_and_kept(tmp_path: Path) -> None:
    async def work() -> None:
        release = asyncio.Event()
        first, *rest = events("openai", "one", " two")
        async with RawServer(stream(first, release, *rest)) as server, runner.Session(**given(tmp_path, server)) as session:
            ask = asyncio.create_task(session.ask("x"))
            await _until(lambda: server.in_flight)
            ask.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ask
            release.set()
            assert (await session.ask("x")).text == "one two"
            assert len(server.requests) == 1

    asyncio.run(work())


def test_an_ask_that_is_cancelled_at_once_is_not_sent(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server, runner.Session(**given(tmp_path, server)) as session:
            ask = asyncio.create_task(session.ask("x"))
            await asyncio.sleep(0)
            ask.cancel()
            assert (await session.ask("y")).text == "echo y"
            assert len(server.requests) == 1

    asyncio.run(work())


@pytest.mark.parametrize("way", ["exception", "anyio"])
def test_leaving_with_an_error_lets_open_requests_finish_and_sends_no_more(tmp_path: Path, way: str) -> None:
    async def work() -> None:
        release = asyncio.Event()
        first, *rest = events("openai", "one", " two")
        async with RawServer(stream(first, release, *rest)) as server:
            some, asks = given(tmp_path, server), list[asyncio.Task[Any]]()

            def told(event: object) -> None:
                if type(event).__name__ == "Stopping":
                    release.set()

            async def asked() -> None:
                async with runner.Session(observe=told, **some) as session:
                    asks.extend(asyncio.create_task(session.ask(f"n {number}")) for number in range(20))
                    await _until(lambda: server.in_flight == 4)
                    if way == "exception":
                        raise ZeroDivisionError
                    scope.cancel()
                    await anyio.sleep_forever()

            with anyio.CancelScope() as scope:
                with pytest.raises(ZeroDivisionError) if way == "exception" else anyio.CancelScope():
                    await asked()
            found = await asyncio.gather(*asks, return_exceptions=True)
            kinds = Counter(type(one) for one in found)
            assert kinds == {runner.Result: 4, runner.RunStoppedError: 16}
            assert len(server.requests) == 4 == count(some["db"])

    asyncio.run(work())


def test_the_run_of_a_session_in_the_commands(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server, runner.Session(**given(tmp_path, server)) as session:
            await session.ask("x", id="a")

    asyncio.run(work())
    db = ("--db", "r.db")
    assert "the session 'default' of a program" in run("list", *db, cwd=tmp_path).out
    assert "next: runner export 1 -o answers.csv" in run("status", "1", *db, cwd=tmp_path).out
    assert json.loads(run("export", "-o", "-", "--format", "jsonl", *db, cwd=tmp_path).out)["text"] == "echo x"
    for command in ("resume", "retry"):
        ended = run(command, "1", *db, cwd=tmp_path)
        assert (ended.code, ended.out) == (2, "")
        assert "run 1 is the session 'default' of a program, and there is no file of its prompts" in ended.err
    with pytest.raises(runner.UsageError, match="there is no unfinished run"):
        runner.resume(db=tmp_path / "r.db")


def test_a_file_does_not_continue_the_run_of_a_session(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(echo) as server:
            some = given(tmp_path, server)
            async with runner.Session(**some) as session:
                await session.ask("x", id="a")
            summary = await runner.arun([{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}], **some)
            assert summary.run == 2
            # its answer is taken over, as from any other run
            assert (summary.reused, len(server.requests)) == (1, 2)

    asyncio.run(work())


def test_in_synchronous_code_and_threads(tmp_path: Path) -> None:
    with in_thread(RawServer(echo)) as server:
        with runner.Session(**given(tmp_path, server)) as session, ThreadPoolExecutor(4) as threads:
            found = list(threads.map(session.ask, [f"n {number}" for number in range(20)]))
            assert [result.text for result in found] == [f"echo n {number}" for number in range(20)]
        assert session.summary is not None
        assert session.summary.done_now == 20
        with pytest.raises(ZeroDivisionError), runner.Session(**given(tmp_path, server)) as again:  # noqa: PT012 - the block is it
            assert again.ask("n 3").text == "echo n 3"
            raise ZeroDivisionError
        assert len(server.requests) == 20


def test_the_pieces_of_one_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with RawServer(stream(delta("one"), 0.02, *events("openai", " two"))) as server:
            some = given(tmp_path, server)
            async with runner.Session(**some) as session:
                other = asyncio.create_task(session.ask("y"))
                answer = session.stream("x", id=7)
                tokens = [token async for token in answer]
                assert (tokens[0].text, "".join(token.text for token in tokens)) == ("one", "one two")
                assert {token.id for token in tokens} == {7}
                assert answer.result == await session.ask("x", id=7)
                # what the store has is one piece
                assert [token.text async for token in session.stream("x", id=7)] == ["one two"]
                await other
            assert len(server.requests) == 2

    asyncio.run(work())


def test_the_pieces_of_one_answer_in_synchronous_code(tmp_path: Path) -> None:
    with in_thread(RawServer(stream(delta("one"), 0.02, *events("openai", " two")))) as server:
        with runner.Session(**given(tmp_path, server)) as session:
            answer = session.stream("x", id=7)
            assert [token.text for token in answer] == ["one", " two"]
            assert answer.result == session.ask("x", id=7)
            left = session.stream("y")
            assert next(left).text == "one"
            left.close()
        assert len(server.requests) == 2
        assert session.summary is not None
        assert session.summary.done == 2


def test_a_session_and_its_answers_say_how_far_they_are(tmp_path: Path) -> None:
    ended = r"Session 'default': run 1 finished: \d done, 0 failed of \d rows? in 0:0\d>"

    async def work() -> None:
        async with RawServer(echo) as server:
            session = runner.Session(**given(tmp_path, server))
            assert repr(session) == "<Session 'default': not begun; async with, or with, begins it>"
            async with session:
                assert repr(session) == "<Session 'default': begun>"
                answer = session.stream("why \x1b[31m " + "x" * 100)
                assert re.fullmatch(r"<Answer to 'why \\x1b\[31m x+…: its result comes at the end of the loop>", repr(answer))
                assert [token.text async for token in answer]
                assert re.fullmatch(r"<Answer: Result\('row-\w+', done, '.*'\)>", repr(answer))
            assert re.fullmatch(f"<{ended}", repr(session))

    asyncio.run(work())
    with in_thread(RawServer(echo)) as server, runner.Session(**given(tmp_path, server, new=True)) as session:
        answer = session.stream("why", id=7)
        assert repr(answer) == "<BlockingAnswer to 7: its result comes at the end of the loop>"
        assert [*answer]
        assert repr(answer).startswith("<BlockingAnswer: Result(7, done")
        assert repr(session) == "<BlockingSession 'default': begun>"
    assert re.fullmatch(f"<Blocking{ended.replace('run 1', 'run 2')}", repr(session))


def test_an_ask_that_cannot_come_back_is_refused(tmp_path: Path) -> None:
    refused = list[str]()

    def observe(event: object) -> None:
        if type(event).__name__ == "Saved" and not refused:
            with pytest.raises(runner.UsageError, match="an observer cannot wait for the session") as caught:
                blocking.ask("y")
            refused.append(str(caught.value))

    with in_thread(RawServer(echo)) as server:
        with runner.Session(observe=observe, **given(tmp_path, server)) as blocking:
            blocking.ask("x")
        assert len(refused) == 1
        with pytest.raises(runner.RunStoppedError, match="the session has ended"):
            blocking.ask("y")


def test_an_ask_behind_the_end_of_the_block_is_refused_and_not_left_in_the_books(tmp_path: Path) -> None:
    async def work() -> None:
        release = asyncio.Event()
        first, *rest = events("openai", "one", " two")
        async with RawServer(stream(first, release, *rest)) as server:
            async with runner.Session(**given(tmp_path, server)) as session:
                waits = asyncio.create_task(session.ask("x"))
                await _until(lambda: server.in_flight)
                leaving = asyncio.create_task(session.__aexit__(None, None, None))
                begun = asyncio.create_task(session.ask("y"))
                await _until(lambda: server.in_flight == 2)
                for _ in range(3):
                    with pytest.raises(runner.RunStoppedError, match="its block has been left") as late:
                        await session.ask("z")
                release.set()
                await leaving
                assert {(await waits).text, (await begun).text} == {"one two"}
            assert session.summary is not None
            assert (session.summary.done, session.summary.left, session.summary.finished) == (2, 0, True)
            # no ask is kept by the errors of later ones
            for _ in range(3):
                with pytest.raises(runner.RunStoppedError, match="its block has been left") as later:
                    await session.ask("z")
            assert len(later.traceback) == len(late.traceback)

    asyncio.run(work())


def test_a_row_that_somebody_takes_out_of_the_store_is_an_error_and_no_hang(tmp_path: Path) -> None:
    def take(event: object) -> None:
        if type(event).__name__ == "Saved":
            with closing(sqlite3.connect(tmp_path / "r.db")) as store, store:
                store.execute("DELETE FROM items")

    with (
        in_thread(RawServer(echo)) as server,
        runner.Session(observe=take, **given(tmp_path, server)) as session,
        pytest.raises(runner.StoreError, match="not in the store any more"),
    ):
        session.ask("x")


FEW_FILES = """
import resource, runner
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
notes = []
observe = lambda event: notes.extend(event.notes) if isinstance(event, runner.Started) else None
with runner.Session(provider="simulator", db="r.db", concurrency=1000, observe=observe) as session:
    session.ask("x")
print(*notes, sep="\\n")
"""


def test_a_session_says_what_a_run_says_first(tmp_path: Path) -> None:
    with Started([sys.executable, "-c", FEW_FILES], cwd=tmp_path, env=environment()) as process:
        ended = process.ended()
    assert "the limit of open files (ulimit -n) allows only 30 of 1000 open requests\n" in ended.out, ended


KILLED = """
import asyncio, os, signal, sys, runner
async def main():
    async with runner.Session(db="r.db", model="m", base_url=sys.argv[1]) as session:
        await session.ask("x")
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_a_session_that_was_killed_goes_on(tmp_path: Path) -> None:
    with in_thread(RawServer(echo)) as server:
        with Started([sys.executable, "-c", KILLED, server.base_url], cwd=tmp_path, env=environment()) as process:
            assert process.ended().code == -signal.SIGKILL
        assert "interrupted" in run("status", "1", "--db", "r.db", cwd=tmp_path).out
        some = given(tmp_path, server)
        with runner.Session(**some) as session:
            assert session.ask("x").text == "echo x"
            assert session.ask("y").text == "echo y"
        assert len(server.requests) == 2
        assert [(one.rows, one.done) for one in runner.runs(db=some["db"])] == [(2, 2)]
