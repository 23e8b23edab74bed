"""A session that is steered while it runs: what is asked takes effect, is on the books and in the history, and is paid once."""

import asyncio
import re
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from asking import PROGRAM_LOOP
from processes import rows, write_prompts
from raw_server import DONE, HANG, MESSAGE_START, USAGE, RawServer, Received, Reply, delta, events, finish, stream, whole
from simulating import until

import runner
from runner.control.client import Connection, connect
from runner.control.messages import Cancel, Continue, Pause, Requeue, Set, Stop
from runner.control.messages import Reply as Said
from runner.control.place import socket_of
from runner.errors import NotRunningError
from runner.session.input_rows import InputRows
from runner.session.row_steering import CANCELLED_ROW, REQUEUED, Found
from runner.settled import Settled
from runner.store.checkpoint import RunStore

pytestmark = pytest.mark.anyio
ROWS = 12
PRICES = {"m": {"input": 1.0, "output": 1.0}}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


def row_of(request: Received) -> str:
    found = re.search(r"number (\d+)\.", request.json["messages"][0]["content"])
    assert found is not None
    return f"row-{found[1]}"


Answers = Callable[[Received], Reply]


def answered(request: Received, dialect: str = "openai") -> Reply:
    text = f"echo {row_of(request)}"
    if request.json.get("stream"):
        return stream(*events(dialect, text))
    return whole("200 OK", {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})


def held(gate: asyncio.Event) -> Answers:
    """Answer half, and the rest when the gate opens."""
    return lambda request: stream(delta(f"echo {row_of(request)}"), gate, finish(), USAGE, DONE)


class Desk:
    """A run in this loop, and what it is asked at its socket."""

    def __init__(self, store: Path, servers: list[RawServer], task: "asyncio.Task[Any]", socket: Connection) -> None:
        self.store, self.servers, self.task, self.socket = store, servers, task, socket
        self.notes: list[str] = []

    async def ask(self, request: Any) -> Said:
        return await self.socket.ask(request)

    @property
    def sent(self) -> Counter[str]:
        """How often each row was sent."""
        return Counter(row_of(one) for server in self.servers for one in server.requests)

    @property
    def open(self) -> int:
        return sum(server.in_flight for server in self.servers)

    @property
    def history(self) -> list[str]:
        return [command for (command,) in rows(self.store, "SELECT command FROM steered ORDER BY id")]

    @property
    def results(self) -> dict[str, str | None]:
        """The error code of each row that has an outcome; None: it is done."""
        return {str(one.id): one.error_code for one in runner.results(db=self.store)}

    @property
    def attempts(self) -> Counter[tuple[str, str | None]]:
        return Counter(rows(self.store, "SELECT item_key, error_code FROM attempts"))


@asynccontextmanager
async def at_work(
    folder: Path, says: Answers, *, count: int = ROWS, servers: int = 1, text: str = "", **settings: Any
) -> AsyncIterator[Desk]:
    """Begin a run, and connect to it. text: of its prompt file."""
    write_prompts(folder / "p.jsonl", range(count))
    if text:
        (folder / "p.jsonl").write_text(text, encoding="utf-8")
    notes: list[str] = []

    def observe(event: Any) -> None:
        notes.extend([event.note] if hasattr(event, "note") else [])

    async with AsyncExitStack() as stack:
        all_ = [await stack.enter_async_context(RawServer(says)) for _ in range(servers)]
        addresses = [server.base_url for server in all_]
        given: dict[str, Any] = {"base_url": addresses if servers > 1 else addresses[0], "concurrency": 2, **settings}
        run = runner.arun(folder / "p.jsonl", db=folder / "r.db", model="m", observe=observe, **given)
        task = asyncio.get_running_loop().create_task(run)
        socket: Connection | None = None
        try:
            async with asyncio.timeout(60):
                while socket is None:
                    assert not task.done(), task.exception()
                    with suppress(NotRunningError):
                        socket = await connect(folder / "r.db", 1)
                    await asyncio.sleep(0.005)
            desk = Desk(folder / "r.db", all_, task, socket)
            desk.notes = notes
            yield desk
        finally:
            if socket is not None:
                await socket.aclose()
            if not task.done():
                task.cancel()
                with suppress(BaseException):
                    await task


async def test_a_pause_lets_open_requests_end_and_no_other_begin(tmp_path: Path, gate: asyncio.Event) -> None:
    async with at_work(tmp_path, held(gate)) as desk:
        await until(lambda: desk.sent.total() == 2)
        said = await desk.ask(Pause())
        again = f"`runner continue 1 --db {desk.store}`"
        assert (said.error, said.done) == (None, f"paused: no further request goes out; 2 open requests may end; {again} goes on")
        gate.set()
        await until(lambda: len(desk.results) == 2)
        assert "paused already" in (await desk.ask(Pause())).done
        await until(lambda: (pace := runner.status(1, db=desk.store)[0].pace) is not None and pace.halted_at is not None)
        run = runner.status(1, db=desk.store)[0]
        assert run.pace is not None
        assert [(lane.halted, lane.waiting) for lane in run.pace.lanes] == [(True, f"paused by you: {again}")]
        assert desk.sent.total() == 2
        assert (await desk.ask(Continue())).done.startswith("goes on after a pause of ")
        summary = await desk.task
        assert (summary.done_now, desk.sent) == (ROWS, Counter(dict.fromkeys(desk.results, 1)))
        assert desk.history == ["pause", "continue"]
        assert summary.time is not None
        assert summary.time.causes["halt"] > 0
        assert [note for note in desk.notes if note.startswith("asked by you: paused")]


async def test_a_paused_session_stops_and_then_drops(tmp_path: Path, gate: asyncio.Event) -> None:
    async with at_work(tmp_path, held(gate)) as desk:
        await until(lambda: desk.sent.total() == 2)
        await desk.ask(Pause())
        assert "2 open requests may end" in (await desk.ask(Stop())).done
        for late in (Pause(), Set(rpm=5), Requeue(ids=("row-1",))):
            assert "is stopping" in ((await desk.ask(late)).error or "")
        assert "drops" in (await desk.ask(Stop())).done
        summary = await desk.task
        assert (summary.stop_reason or "").startswith("stopped by `runner stop")
        assert (summary.done_now, summary.left, desk.sent.total()) == (0, ROWS, 2)
        assert {code for _, code in desk.attempts} == {"cancelled"}


WAYS: dict[str, dict[str, Any]] = {
    "openai": {},
    "anthropic": {"provider": "anthropic", "max_tokens": 50},
    "not streamed": {"stream": False},
    "workers": {"workers": 1},
    "endpoints": {"servers": 2},
    "a budget": {"max_cost": 5, "prices": PRICES, "max_tokens": 50},
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_open_request_is_ended_at_once_and_is_on_the_books(tmp_path: Path, way: str) -> None:
    dialect = "anthropic" if way == "anthropic" else "openai"

    def answers(request: Received) -> Reply:
        if row_of(request) != "row-3":
            return answered(request, dialect)
        if not request.json.get("stream"):
            return Reply((HANG,))
        return stream(MESSAGE_START if dialect == "anthropic" else delta("half"), HANG)

    async with at_work(tmp_path, answers, **WAYS[way]) as desk:
        await until(lambda: len(desk.results) == ROWS - 1)
        assert desk.open == 1
        said = await desk.ask(Cancel(ids=("row-3", "nobody", "row-1")))
        left = {"nobody": "the input has no row with this id", "row-1": "it is done already"}
        assert (said.error, said.rows) == (None, {"row-3": CANCELLED_ROW, **left})
        # it was saved before the answer
        assert desk.results["row-3"] == "cancelled_by_user"
        summary = await desk.task
        await until(lambda: desk.open == 0)
    assert (summary.done, summary.failed, summary.left, summary.finished) == (ROWS - 1, 1, 0, True)
    assert desk.attempts["row-3", "cancelled"] == desk.sent["row-3"] == 1
    if dialect == "anthropic":
        assert rows(desk.store, "SELECT input_tokens FROM attempts WHERE error_code = 'cancelled'") == [(7,)]
    assert desk.history == ["cancel"]


async def test_a_row_that_waits_is_given_up_without_a_request(tmp_path: Path, gate: asyncio.Event) -> None:
    """In the queue of the lane, not read yet by its line, and between two attempts."""

    def answers(request: Received) -> Reply:
        return Reply((b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n",)) if row_of(request) == "row-0" else held(gate)(request)

    async with at_work(tmp_path, answers, count=300, attempts=50) as desk:
        await until(lambda: desk.attempts["row-0", "server_error"] > 0 and desk.open == 2)
        before = desk.sent["row-0"]
        said = await desk.ask(Cancel(ids=("row-0", "row-4", "290")))
        assert said.rows == dict.fromkeys(("row-0", "row-4", "290"), CANCELLED_ROW)
        assert desk.results == {"row-0": "cancelled_by_user", "row-4": "cancelled_by_user"}
        gate.set()
        summary = await desk.task
    assert (summary.failed, summary.done, summary.finished) == (3, 297, True)
    assert desk.results["row-289"] == "cancelled_by_user"
    assert (desk.sent["row-0"], desk.sent["row-4"], desk.sent["row-289"]) == (before, 0, 0)


async def test_all_answers_of_a_row_are_given_up(tmp_path: Path, gate: asyncio.Event) -> None:
    async with at_work(tmp_path, held(gate), count=3, answers=3, concurrency=4) as desk:
        await until(lambda: desk.open == 4)
        assert (await desk.ask(Cancel(ids=("row-0", "row-1")))).rows == {"row-0": CANCELLED_ROW, "row-1": CANCELLED_ROW}
        gate.set()
        summary = await desk.task
    assert (summary.failed, summary.done, summary.finished) == (6, 3, True)
    assert {str(one.id): one.status for one in runner.results(db=desk.store)} == {
        "row-0": "failed",
        "row-1": "failed",
        "row-2": "done",
    }


async def test_rows_that_share_a_request_send_their_own(tmp_path: Path, gate: asyncio.Event) -> None:
    """Of four rows with one request, one is sent and given up, and so is another that waits for it."""
    same = "".join(f'{{"id": "s{n}", "prompt": "the number 1."}}\n' for n in range(4))

    async with at_work(tmp_path, held(gate), text=same, dedupe=True, concurrency=1) as desk:
        await until(lambda: desk.open == 1)
        assert (await desk.ask(Cancel(ids=("s0", "s2")))).rows == {"s0": CANCELLED_ROW, "s2": CANCELLED_ROW}
        gate.set()
        summary = await desk.task
    assert desk.results == {"s0": "cancelled_by_user", "s1": None, "s2": "cancelled_by_user", "s3": None}
    assert (desk.sent.total(), summary.shared, summary.finished) == (2, 1, True)


async def test_a_request_that_rows_share_is_sent_again_once_for_all(tmp_path: Path, gate: asyncio.Event) -> None:
    """Of three rows with one request, the one that was sent has failed, and the others wait for what comes of it."""
    sent = Counter[str]()

    def answers(request: Received) -> Reply:
        sent[row := row_of(request)] += 1
        if row == "row-2":
            return held(gate)(request)
        return Reply((b"HTTP/1.1 400 E\r\nContent-Length: 0\r\n\r\n",)) if sent[row] == 1 else answered(request)

    same = "".join(f'{{"id": "s{n}", "prompt": "the number {1 if n < 3 else 2}."}}\n' for n in range(4))
    async with at_work(tmp_path, answers, text=same, dedupe=True) as desk:
        await until(lambda: desk.results == {"s0": "bad_request"} and desk.open == 1)
        turn = "it has not failed: it is sent when its turn comes"
        assert (await desk.ask(Requeue(ids=("s0", "s1")))).rows == {"s0": REQUEUED, "s1": turn}
        await until(lambda: desk.results["s0"] is None)
        gate.set()
        summary = await desk.task
    assert (summary.done, summary.shared, summary.finished) == (4, 2, True)
    assert sent == Counter({"row-1": 2, "row-2": 1})


async def test_a_failed_row_is_sent_again_at_once(tmp_path: Path, gate: asyncio.Event) -> None:
    sent = Counter[str]()

    def answers(request: Received) -> Reply:
        sent[row := row_of(request)] += 1
        if row not in ("row-0", "row-1"):
            # a few show that the endpoint answers
            return answered(request) if len(row) == 5 else held(gate)(request)
        return Reply((b"HTTP/1.1 400 E\r\nContent-Length: 0\r\n\r\n",)) if sent[row] == 1 else answered(request)

    async with at_work(tmp_path, answers, count=60, concurrency=4) as desk:
        await until(lambda: len([code for code in desk.results.values() if code]) == 2 and desk.open == 4)
        await desk.ask(Set(concurrency=70))
        said = await desk.ask(Requeue(ids=("row-0", "row-10", "nobody", "row-50")))
        assert said.rows["row-0"] == REQUEUED
        assert said.rows["nobody"] == "the input has no row with this id"
        assert {said.rows["row-10"], said.rows["row-50"]} <= {
            "it is being sent already",
            "it has not failed: it is sent when its turn comes",
        }
        # while the others are still held
        await until(lambda: desk.results["row-0"] is None)
        refused = await desk.ask(Requeue(ids=("row-0",)))
        assert (refused.error, refused.rows) == ("row row-0: it is done already", {"row-0": "it is done already"})
        gate.set()
        summary = await desk.task
    assert (summary.done, summary.failed, summary.left, summary.finished) == (59, 1, 0, True)
    assert desk.sent == Counter({**dict.fromkeys(desk.results, 1), "row-0": 2})
    assert desk.attempts["row-0", "bad_request"] == desk.attempts["row-0", None] == 1
    assert desk.history == ["set", "requeue"]


async def test_a_row_that_is_named_twice_is_sent_again_once(tmp_path: Path, gate: asyncio.Event) -> None:
    """By its id and by its line, and in two requests at the same time; so is one that is given up."""
    sent = Counter[str]()

    def answers(request: Received) -> Reply:
        sent[row := row_of(request)] += 1
        if row not in ("row-0", "row-1"):
            return held(gate)(request)
        return Reply((b"HTTP/1.1 400 E\r\nContent-Length: 0\r\n\r\n",)) if sent[row] == 1 else answered(request)

    async with at_work(tmp_path, answers) as desk:
        await until(lambda: len([code for code in desk.results.values() if code]) == 2 and desk.open == 2)
        await desk.ask(Pause())
        other = await connect(desk.store, 1)
        both = await asyncio.gather(desk.ask(Requeue(ids=("row-0", "1"))), other.ask(Requeue(ids=("1", "row-0", "row-1"))))
        await other.aclose()
        assert [said.rows["row-0"] for said in both] in (
            [REQUEUED, "it is being sent already"],
            ["it is being sent already", f"{REQUEUED}: the same row as 1"],
        )
        said = await desk.ask(Cancel(ids=("row-11", "12")))
        assert said.done == "cancelled 1 row (row-11)"
        assert said.rows == {"row-11": CANCELLED_ROW, "12": f"{CANCELLED_ROW}: the same row as row-11"}
        gate.set()
        await desk.ask(Continue())
        summary = await desk.task
    assert (summary.done, summary.failed, summary.left, summary.finished) == (ROWS - 1, 1, 0, True)
    assert desk.sent == Counter({**dict.fromkeys([f"row-{n}" for n in range(ROWS - 1)], 1), "row-0": 2, "row-1": 2})


async def test_only_the_answer_that_failed_is_sent_again(tmp_path: Path, gate: asyncio.Event) -> None:
    """Of two of a row, with two workers; and none of a row that is open, waits for a retry, or is asked for one that fits."""
    sent, first = Counter[str](), asyncio.Event()

    def answers(request: Received) -> Reply:
        sent[row := row_of(request)] += 1
        fits = (delta('{"a": "b"}'), finish(), USAGE, DONE)
        match row, sent[row]:
            case "row-0", 1:
                # a refusal that is about the row, whatever others get, and about no seed
                return whole("400 Bad Request", {"error": {"code": "context_length_exceeded", "message": "too long"}})
            case "row-0", _:
                return stream(*fits)
            case "row-1", 1:
                return Reply((first, b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n"))
            case "row-2", 1 | 2:
                return stream(first, delta("does not fit"), finish(), USAGE, DONE)
            case _:
                return stream(gate, *fits)

    more: dict[str, Any] = {"workers": 2, "answers": 2, "concurrency": 8, "fields": "a: str", "attempts": 3}
    async with at_work(tmp_path, answers, count=4, **more) as desk:
        await until(lambda: "context_length" in {code for _, code in desk.attempts})
        first.set()
        await until(lambda: sent["row-2"] == 4 and [code for _, code in desk.attempts].count("server_error") == 1)
        said = await desk.ask(Requeue(ids=tuple(f"row-{n}" for n in range(4))))
        others = dict.fromkeys(("row-1", "row-2", "row-3"), "it is being sent already")
        assert (said.error, said.rows) == (None, {"row-0": REQUEUED, **others})
        gate.set()
        summary = await desk.task
    assert (summary.done, summary.failed, summary.finished) == (8, 0, True)
    assert sent == Counter({"row-0": 3, "row-1": 3, "row-2": 4, "row-3": 2})
    assert desk.attempts.total() == sent.total()


async def test_a_row_that_is_answered_while_it_is_looked_at_is_not_paid_twice(
    tmp_path: Path, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store has said of it is from before it was sent again."""
    sent, again, read, goes_on = Counter[str](), asyncio.Event(), asyncio.Event(), asyncio.Event()

    def answers(request: Received) -> Reply:
        sent[row := row_of(request)] += 1
        if row == "row-0" and sent[row] == 1:
            return Reply((b"HTTP/1.1 400 E\r\nContent-Length: 0\r\n\r\n",))
        return held(again if row == "row-0" else gate)(request)

    async def late(store: RunStore, keys: Sequence[str]) -> Mapping[str, Settled]:
        found = await settled(store, keys)
        if again_asked:
            read.set()
            await goes_on.wait()
        return found

    settled, again_asked = RunStore.settled, False
    monkeypatch.setattr(RunStore, "settled", late)
    async with at_work(tmp_path, answers, count=2) as desk:
        await until(lambda: desk.results == {"row-0": "bad_request"} and desk.open == 1)
        assert (await desk.ask(Requeue(ids=("row-0",)))).rows == {"row-0": REQUEUED}
        await until(lambda: desk.open == 2)
        again_asked = True
        asked = asyncio.ensure_future(desk.ask(Requeue(ids=("row-0",))))
        await read.wait()
        again.set()
        await until(lambda: desk.results["row-0"] is None)
        goes_on.set()
        # the second, if the session has not heard yet that it is saved
        assert (await asked).rows["row-0"] in ("it is done already", "it is being sent already")
        gate.set()
        summary = await desk.task
    assert (summary.done, summary.finished, desk.sent) == (2, True, Counter({"row-0": 2, "row-1": 1}))


@pytest.mark.parametrize("end", ["is stopping, and sends nothing further", "is about to end"])
async def test_a_row_that_is_still_looked_for_at_the_end_is_not_told_as_sent(
    tmp_path: Path, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """At a stop, and when the last row has its answer."""
    looked, goes_on, find = threading.Event(), threading.Event(), InputRows.find

    def slow(rows: InputRows, words: Collection[str], until: float) -> Found:
        looked.set()
        assert goes_on.wait(60)
        return find(rows, words, until + 60)

    def answers(request: Received) -> Reply:
        if row_of(request) == "row-0":
            return Reply((b"HTTP/1.1 400 E\r\nContent-Length: 0\r\n\r\n",))
        return held(gate)(request)

    monkeypatch.setattr(InputRows, "find", slow)
    async with at_work(tmp_path, answers, count=4) as desk:
        await until(lambda: len(desk.results) == 1 and desk.open == 2)
        asked = asyncio.ensure_future(desk.ask(Requeue(ids=("row-0",))))
        await until(looked.is_set)
        other = await connect(desk.store, 1)
        if "stopping" in end:
            await other.ask(Stop())
        else:
            gate.set()
            # which changes nothing, and is refused once the session sends no more
            while (await other.ask(Continue())).done:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await other.aclose()
        goes_on.set()
        said = await asked
        gate.set()
        summary = await desk.task
    assert (said.error, said.rows) == (f"run 1 {end}", {})
    assert (summary.failed, desk.sent["row-0"]) == (1, 1)
    assert desk.history == ["stop"] * ("stopping" in end)


@pytest.mark.parametrize("way", ["fixed", "auto", "endpoints"])
async def test_slots_are_set_up_and_down(tmp_path: Path, gate: asyncio.Event, way: str) -> None:
    more: dict[str, Any] = {"fixed": {}, "auto": {"concurrency": None, "max_concurrency": 2}, "endpoints": {"servers": 2}}[way]
    each = 2 if way == "endpoints" else 1
    async with at_work(tmp_path, held(gate), count=100, **more) as desk:
        await until(lambda: desk.open == 2 * each)
        assert (await desk.ask(Set(concurrency=5))).error is None
        if way == "auto":
            # it finds more by itself, up to the new number
            gate.set()
        else:
            await until(lambda: desk.open == 5 * each)
            await desk.ask(Set(concurrency=1))
            gate.set()
        summary = await desk.task
    assert summary.done == 100
    assert desk.history == ["set"] * (1 if way == "auto" else 2)


async def test_limits_a_minute_and_a_budget_are_set_while_it_runs(tmp_path: Path, gate: asyncio.Event) -> None:
    more = {"max_cost": 5.0, "prices": PRICES, "max_tokens": 50}
    async with at_work(tmp_path, held(gate), count=2_000, concurrency=1, **more) as desk:
        await until(lambda: desk.open == 1)
        for wrong, words in (
            (Set(rpm=0.0), "rpm"),
            (Set(concurrency=0), "concurrency"),
            (Set(max_cost=-1.0), "max_cost"),
            (Set(), "name a"),
        ):
            assert words in ((await desk.ask(wrong)).error or "")
        said = await desk.ask(Set(rpm=6000.0, tpm=1e6))
        assert said.done == "rpm 6,000; tpm 1,000,000; this holds until the session ends"
        # so few that the next would wait for minutes, if the limit were not taken away again
        assert (await desk.ask(Set(rpm=0.1))).error is None
        gate.set()
        await until(lambda: desk.open == 0)
        assert (await desk.ask(Set(rpm="none", tpm="none"))).done == "rpm none; tpm none; this holds until the session ends"
        await until(lambda: desk.sent.total() > 20)
        assert (await desk.ask(Set(max_cost=0.000001))).done.startswith("the run may cost ")
        with pytest.raises(runner.RunStoppedError, match="the budget of"):
            await desk.task
    sent = desk.sent.total()
    assert sent < 2_000
    assert len(desk.results) == sent
    assert desk.history == ["set"] * 4


async def test_a_raised_budget_lets_rows_go_that_had_no_room(tmp_path: Path, gate: asyncio.Event) -> None:
    more = {"max_cost": 0.0006, "prices": PRICES, "max_tokens": 50}
    async with at_work(tmp_path, held(gate), concurrency=4, **more) as desk:
        await until(lambda: desk.open >= 1)
        # room for one or two of them at once
        assert desk.open < 4
        await desk.ask(Set(max_cost=1.0))
        await until(lambda: desk.open == 4)
        gate.set()
        summary = await desk.task
    assert summary.done == ROWS


async def test_without_a_budget_none_can_be_set(tmp_path: Path, gate: asyncio.Event) -> None:
    async with at_work(tmp_path, held(gate)) as desk:
        said = await desk.ask(Set(max_cost=1.0, rpm=60.0))
        assert "has begun without a budget of dollars" in (said.error or "")
        # nothing of it was done
        assert desk.history == []
        gate.set()
        assert (await desk.task).done == ROWS


async def test_two_runs_of_a_store_in_a_thread_and_in_this_loop_are_steered_apart(tmp_path: Path, gate: asyncio.Event) -> None:
    other, store = tmp_path / "other.jsonl", tmp_path / "r.db"
    write_prompts(other, range(ROWS))
    async with at_work(tmp_path, held(gate)) as here:
        given: dict[str, Any] = {"db": store, "model": "n", "base_url": here.servers[0].base_url, "concurrency": 2}
        in_thread = asyncio.ensure_future(asyncio.to_thread(runner.run, other, **given))
        await until(lambda: here.open == 4)
        there = await connect(store, 2)
        assert (await there.ask(Pause())).error is None
        gate.set()
        assert (await here.task).done == ROWS
        assert not socket_of(store, 1).exists()
        await until(lambda: here.open == 0)
        assert (here.sent.total(), socket_of(store, 2).exists()) == (ROWS + 2, True)
        await there.ask(Continue())
        assert (await in_thread).done == ROWS
        await there.aclose()
    assert not any(socket_of(store, run).exists() for run in (1, 2))
    assert rows(store, "SELECT run_id, command FROM steered ORDER BY id") == [(2, "pause"), (2, "continue")]


async def test_a_run_goes_on_where_no_socket_can_be_and_whoever_steers_is_told(
    tmp_path: Path, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as own:
        # a short path, as there is another folder for sockets where this one has a long one
        monkeypatch.setenv("XDG_RUNTIME_DIR", own)
        (Path(own) / "runner").write_text("")
        await goes_on_without_a_socket(tmp_path, gate)


async def goes_on_without_a_socket(tmp_path: Path, gate: asyncio.Event) -> None:
    (tmp_path / "r.db-run1.sock").mkdir()
    write_prompts(tmp_path / "p.jsonl", range(ROWS))
    events: list[Any] = []
    async with RawServer(held(gate)) as server:
        given: dict[str, Any] = {"db": tmp_path / "r.db", "model": "m", "base_url": server.base_url, "share": False}
        run = asyncio.ensure_future(runner.arun(tmp_path / "p.jsonl", observe=events.append, **given))
        await until(lambda: bool(server.in_flight))
        words = r"run 1 of r\.db is at work in .* found no place for its socket.*runner status 1"
        with pytest.raises(NotRunningError, match=words):
            await connect(tmp_path / "r.db", 1)
        gate.set()
        assert (await run).done == ROWS
    assert [event.note for event in events if hasattr(event, "note")] == []
