"""What a session tells over its socket: every piece of every answer, once, whoever comes, goes, or never reads."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import json_schemas
import jsonschema_rs
import pytest
from asking import PROGRAM_LOOP
from following import Follower
from processes import rows, write_prompts
from raw_server import HANG, RawServer, Received, Reply, delta, events, stream
from simulating import quick, until

import runner
from runner.control.client import Connection, connect
from runner.control.messages import Ask, Feed, Watch, decode, encode
from runner.control.place import socket_of
from runner.errors import NotRunningError
from runner.session.feed_frames import KINDS

pytestmark = pytest.mark.anyio
ROWS = 14
FAULTS = {"truncate": 0.2, "malformed": 0.1, "json": 0.1}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


@asynccontextmanager
async def begun(folder: Path, count: int = ROWS, **settings: Any) -> AsyncIterator["asyncio.Task[Any]"]:
    """Begin a run in this loop. What goes wrong in it is raised at the end."""
    write_prompts(folder / "p.jsonl", range(count))
    given = {"db": folder / "r.db", "model": "m", "concurrency": 4, **settings}
    task = asyncio.get_running_loop().create_task(runner.arun(folder / "p.jsonl", **given))
    try:
        yield task
        await task
    finally:
        task.cancel()


async def connected(folder: Path) -> Connection:
    """Connect as soon as the session listens."""
    async with asyncio.timeout(60):
        while True:
            with suppress(NotRunningError):
                return await connect(folder / "r.db", 1)
            await asyncio.sleep(0.005)


async def follow(folder: Path, follower: Follower, most: int | None = None, *, texts: bool = True) -> None:
    """Watch until the session ends, or for so many frames; behind what was seen before."""
    connection = await connected(folder)
    try:
        async for frame in connection.watch(follower.after, texts=texts):
            follower.take(frame)
            if most is not None and len(follower.frames) >= most:
                return
    finally:
        await connection.aclose()


def assert_told(folder: Path, follower: Follower, *, all_: bool = True) -> None:
    """Hold what a watcher was told to what the store has."""
    stored = {(one.id, one.answer_number): one for one in runner.results(db=folder / "r.db")}
    good = {which: said for which, said in follower.ended.items() if follower.codes[which] is None}
    for (row, _, number), said in good.items():
        result = stored[row, number]
        assert said == [result.text, result.reasoning or ""]
    assert (follower.open, follower.frames[-1].kind) == ({}, "finished")
    for frame in {frame.kind: frame for frame in follower.frames}.values():
        fits(frame.kind, json.loads(frame.data))
    if all_:
        assert len(good) == len(stored)
        codes = rows(folder / "r.db", "SELECT error_code, count(*) FROM attempts GROUP BY 1")
        told = list(follower.codes.values())
        assert [(code, told.count(code)) for code, _ in codes] == codes
        assert {which: row["status"] for which, row in follower.rows.items()} == {
            which: one.status for which, one in stored.items()
        }
        assert (follower.last["done"], follower.last["left"]) == (len(stored), 0)


def fits(kind: str, data: Any) -> None:
    jsonschema_rs.validator_for(json.loads(json_schemas.text("live"))).validate({kind: data})


def test_every_kind_has_an_example_that_fits_its_schema() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "live-events.md").read_text(encoding="utf-8")
    examples = dict(re.findall(r"^(\w+) (\{.*\})$", page, re.MULTILINE))
    assert {*examples, "progress", "finished"} == {*KINDS}
    for kind, text in examples.items():
        fits(kind, json.loads(text))
    with pytest.raises(jsonschema_rs.ValidationError):
        fits("note", {"note": "x", "more": 1})


WAYS: dict[str, dict[str, Any]] = {
    "openai": {},
    "anthropic": {"provider": "anthropic", "max_tokens": 50},
    "not streamed": {"stream": False},
    "a schema": {"fields": "mood: good|bad, why: str", "repairs": 5, "fail_fast": True},
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_pieces_of_each_answer_are_its_text(tmp_path: Path, way: str) -> None:
    faults = {"invalid_json": 0.3} if way == "a schema" else FAULTS
    server = quick(first_token_s=0.02, chunk_s=0.004, tokens=30, reasoning_tokens=5, faults=faults)
    whole, gone, mute = Follower(), Follower(), Follower()
    given = {"db": tmp_path / "r.db", "model": "m", "concurrency": 4, "attempts": 9, **WAYS[way]}
    async with server:
        async with runner.Session(base_url=f"{server.url}/v1", **given) as session:
            watching = [asyncio.ensure_future(follow(tmp_path, one, texts=one is whole)) for one in (whole, mute)]
            await until(lambda: bool(whole.frames and mute.frames))
            asking = asyncio.gather(*(session.ask(f"{number}?", id=f"row-{number}") for number in range(ROWS)))
            await until(lambda: bool(whole.ended))
            # one comes in the middle, leaves, and comes back
            await follow(tmp_path, gone, 4)
            watching.append(asyncio.ensure_future(follow(tmp_path, gone)))
            await asking
        await asyncio.gather(*watching)
    assert_told(tmp_path, whole)
    assert_told(tmp_path, gone, all_=False)
    assert (gone.kinds["state"], gone.kinds["skipped"], mute.kinds["text"]) == (1, 0, 0)
    assert whole.ended.keys() == mute.ended.keys()


async def test_several_answers_of_a_row_are_told_apart(tmp_path: Path) -> None:
    server, whole = quick(first_token_s=0.1, chunk_s=0.004), Follower()
    async with server, begun(tmp_path, base_url=f"{server.url}/v1", answers=2):
        await follow(tmp_path, whole)
    assert_told(tmp_path, whole, all_=False)
    assert {number for _, _, number in whole.ended} == {1, 2}


async def test_several_endpoints_are_named(tmp_path: Path) -> None:
    one, two, whole = quick(first_token_s=0.1), quick(first_token_s=0.1), Follower()
    async with one, two:
        urls = [f"{server.url}/v1" for server in (one, two)]
        async with begun(tmp_path, base_url=urls):
            await follow(tmp_path, whole)
    assert_told(tmp_path, whole, all_=False)
    assert {row["endpoint"] for row in whole.rows.values()} == set(urls)


def long_answer(request: Received) -> Reply:
    """Answer with sixty thousand characters, in pieces that no read brings together."""
    name = request.json["messages"][0]["content"]
    steps: list[Any] = []
    for event in events("openai", *(f"{name} {number} ".ljust(6_000, "x") for number in range(10))):
        steps += [event, 0.01]
    return stream(*steps)


async def test_who_never_reads_is_skipped_and_nothing_waits_for_it(tmp_path: Path) -> None:
    whole, stuck = Follower(), Follower()
    gate = asyncio.Event()

    def answer(request: Received) -> Reply:
        return stream(gate, *events("openai", "last")) if "number 39." in str(request.json) else long_answer(request)

    async with RawServer(answer) as server, begun(tmp_path, 40, base_url=server.base_url, concurrency=8):
        watching = asyncio.ensure_future(follow(tmp_path, whole))
        await until(lambda: bool(whole.frames))
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(socket_of(tmp_path / "r.db", 1)))
            frame = encode(Ask(number=1, request=Watch()))
            end.sendall(len(frame).to_bytes(4, "little") + frame)
            # all the others are done although it has read nothing
            await until(lambda: sum(request.played for request in server.requests) == 39)
            end.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=end.dup())
            while stuck.kinds["skipped"] == 0 or stuck.frames[-1].kind != "state":
                length = int.from_bytes(await reader.readexactly(4), "little")
                message = decode(await reader.readexactly(length))
                if isinstance(message, Feed):
                    stuck.take(message)
            assert [which[0] for which in stuck.open] == ["row-39"]
            gate.set()
            while stuck.frames[-1].kind != "finished":
                length = int.from_bytes(await reader.readexactly(4), "little")
                message = decode(await reader.readexactly(length))
                assert isinstance(message, Feed)
                stuck.take(message)
            writer.close()
        await watching
    assert_told(tmp_path, whole)
    assert_told(tmp_path, stuck, all_=False)


async def test_what_is_told_of_money_and_of_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1234567890")
    whole, pieces = Follower(), ("it is secret-", "12345", "67890!")
    steps = [step for event in events("openai", *pieces) for step in (event, 0.15)]
    async with RawServer(stream(*steps)) as server:
        prices = {"m": {"input": 1, "output": 4}}
        async with begun(tmp_path, 2, base_url=server.base_url, prices=prices):
            await follow(tmp_path, whole)
    assert_told(tmp_path, whole)
    assert set(map(tuple, whole.ended.values())) == {("it is [redacted]!", "")}
    assert b"12345" not in b"".join(frame.data for frame in whole.frames)
    costs = [row["cost"] for row in whole.rows.values()]
    assert costs == [pytest.approx(19e-6)] * 2
    assert json.loads(whole.frames[-1].data)["cost"] == pytest.approx(sum(costs))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_what_workers_decode_is_told_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    key = "OPENAI_API_KEY" if dialect == "openai" else "ANTHROPIC_API_KEY"
    monkeypatch.setenv(key, "secret-1234567890")
    whole, gate, half = Follower(), asyncio.Event(), 3 if dialect == "openai" else 5
    parts = events(dialect, "it is ", "secret-12345", "67890! ", "secret-12", "34567890.")
    given = {"provider": dialect, "max_tokens": 9, "workers": 2}
    async with (
        RawServer(stream(*parts[:half], gate, *parts[half:])) as server,
        begun(tmp_path, 4, base_url=server.base_url, **given),
    ):
        watching = asyncio.ensure_future(follow(tmp_path, whole))
        # the answers are open, and what has come of them is there, but for the end that may be a secret
        await until(lambda: len(whole.open) == 4 and {said[0] for said in whole.open.values()} == {"it is [redacted]! "})
        gate.set()
        await watching
    assert_told(tmp_path, whole)
    assert set(map(tuple, whole.ended.values())) == {("it is [redacted]! [redacted].", "")}
    assert whole.restarts == 0


EARLY: dict[str, dict[str, Any]] = {
    "fail_fast": {"fields": "mood: good|bad", "fail_fast": True, "repairs": 0},
    "workers": {"stop_when": "an AI", "workers": 1},
}


@pytest.mark.parametrize("way", EARLY)
async def test_answers_that_are_ended_early_end_as_without_a_watcher(tmp_path: Path, way: str) -> None:
    """Of every other row, the answer is ended; it would never end by itself."""
    fits_ = '{"mood": "good"}' if way == "fail_fast" else "yes"
    bad = ('{"mood": ', '"grand", "why": ') if way == "fail_fast" else ("I am ", "an AI")

    def answer(request: Received) -> Reply:
        odd = int(re.findall(r"\d+", request.json["messages"][0]["content"])[-1]) % 2
        if not odd:
            return stream(0.15, *events("openai", fits_))
        return stream(delta(bad[0]), 0.15, delta(bad[1]), HANG)

    found, whole = [], Follower()
    for watched in (False, True):
        (folder := tmp_path / str(watched)).mkdir()
        async with RawServer(answer) as server, begun(folder, 8, base_url=server.base_url, **EARLY[way]) as run:
            if watched:
                await follow(folder, whole)
            summary = await run
            await until(lambda server=server: server.in_flight == 0)
        kept = rows(folder / "r.db", "SELECT key, status, text, error_code, error FROM items ORDER BY key")
        tried = rows(folder / "r.db", "SELECT item_key, number, error_code, sent FROM attempts ORDER BY 1, 2")
        found.append((kept, tried, summary.done, summary.failed, summary.causes, summary.ended_early, summary.finished))
    assert found[0] == found[1]
    assert (found[0][2], found[0][3], found[0][5]) == (4, 4, 4)
    assert (whole.open, whole.kinds["state"]) == ({}, 1)
    assert {(row, attempt, code) for (row, attempt, _), code in whole.codes.items()} == {
        (row, number, code) for row, number, code, _ in found[1][1]
    }
    assert {row: said[0] for (row, _, _), said in whole.ended.items()} == {row: text for row, _, text, *_ in found[1][0]}
