"""The socket of a session: what others send, do not read, or ask twice costs it neither memory nor its life."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from webbing import GUARD_S, Told, until

from runner.control import place, server
from runner.control.client import connect
from runner.control.messages import VERSION, Ask, Feed, Hello, Pause, Reply, Request, Stop, Watch, encode
from runner.control.place import listen
from runner.control.server import ControlServer
from runner.errors import NotRunningError

pytestmark = pytest.mark.anyio


class Session:
    """A session whose answers a test gives."""

    def __init__(self, store: Path, **hello: Any) -> None:
        self.store, self.feed = store, Told(1)
        self.asked: list[Request] = []
        self.reply: Callable[[], Awaitable[Reply]] = _done
        self.server = ControlServer(
            listen(store, 1), Hello(**{"run": 1, "session": 1, "pid": 7, **hello}), self._answer, self.feed
        )

    async def _answer(self, request: Request, _: str) -> Reply:
        self.asked.append(request)
        return await self.reply()


async def _done() -> Reply:
    return Reply(number=0, done="done")


@asynccontextmanager
async def session(store: Path, **hello: Any) -> AsyncIterator[Session]:
    found = Session(store, **hello)
    found.server.begin()
    async with asyncio.timeout(GUARD_S):
        try:
            yield found
        finally:
            await found.server.aclose()


@asynccontextmanager
async def raw(one: Session) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect without the client, which is well-behaved."""
    reader, writer = await asyncio.open_unix_connection(str(place.socket_of(one.store, 1)), limit=1024)
    try:
        yield reader, writer
    finally:
        writer.close()


def framed(number: int, request: Request) -> bytes:
    frame = encode(Ask(number=number, request=request))
    return len(frame).to_bytes(4, "little") + frame


async def test_who_asks_and_never_reads_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_NEVER_READS", 1 << 16)
    monkeypatch.setattr(server, "_PAUSE_S", 0)

    async def large() -> Reply:
        return Reply(number=0, rows={"row": "x" * (1 << 16)})

    async with session(tmp_path / "r.db") as one, raw(one) as (_, writer):
        one.reply = large
        for number in range(30):
            writer.write(framed(number, Pause()))
        await until(lambda: bool(one.asked))
        await until(lambda: not one.server._guests)
        assert len(one.asked) < 30


async def test_who_asks_without_end_has_to_wait(tmp_path: Path) -> None:
    free = asyncio.Event()

    async def held() -> Reply:
        await free.wait()
        return Reply(number=0)

    async with session(tmp_path / "r.db") as one, raw(one) as (_, writer):
        one.reply = held
        frame, sent = framed(1, Pause()), 0
        # until the system takes no more, since the session reads nothing further
        while writer.transport.get_write_buffer_size() == 0:
            writer.write(frame * 1_000)
            sent += 1_000
            await asyncio.sleep(0.001)
            assert sent < 1_000_000
        (guest,) = one.server._guests
        waiting = len(guest._asks)
        writer.write(frame * 50_000)
        await asyncio.sleep(0.05)
        assert len(guest._asks) == waiting
        free.set()
        # all that was asked is done, one after the other
        await until(lambda: len(one.asked) > 3)


async def test_who_watches_and_does_not_read_keeps_a_bounded_number_of_frames(tmp_path: Path) -> None:
    async with session(tmp_path / "r.db") as one:
        connection = await connect(one.store, 1)
        feed = connection.watch()
        assert (await anext(feed)).kind == "state"
        for _ in range(5_000):
            one.feed.tell(text="x" * 1_000)
            await asyncio.sleep(0)
        # some reads more than the most may be under way
        assert 200 < len(connection._frames) < 1_000
        told = [await anext(feed) for _ in range(len(connection._frames) + 10)]
        assert [frame.number for frame in told] == [*range(1, len(told) + 1)]
        await feed.aclose()
        await connection.aclose()
        await until(lambda: not one.feed.watchers)


async def test_who_watches_and_never_reads_is_offered_nothing_until_it_has_read(tmp_path: Path) -> None:
    async with session(tmp_path / "r.db") as one, raw(one) as (reader, writer):
        writer.write(framed(1, Watch()))
        await until(lambda: bool(one.feed.watchers))
        (put,), (guest,) = one.feed.watchers, one.server._guests
        frame, taken = Feed(number=1, kind="text", data=b"x" * 100_000), 0
        while put(frame):
            taken += 1
            await asyncio.sleep(0)
            assert taken < 100
        # what the system and this side have taken, and a frame more
        assert guest.unsent < server._BEHIND + 2 * len(frame.data)
        await reader.readexactly(taken * len(frame.data))
        await until(lambda: put(frame))


async def test_who_watches_twice_gets_each_frame_once(tmp_path: Path) -> None:
    async with session(tmp_path / "r.db") as one:
        connection = await connect(one.store, 1)
        for _ in range(2):
            assert (await connection.ask(Watch())).done == "watching"
        one.feed.tell()
        one.feed.tell("finished")
        await until(lambda: any(frame.kind == "finished" for frame in connection._frames))
        assert [frame.kind for frame in connection._frames] == ["state", "state", "note", "finished"]
        await connection.aclose()


async def test_an_error_within_is_an_answer_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def wrong() -> Reply:
        raise KeyError("not there")

    async with session(tmp_path / "r.db") as one:
        connection = await connect(one.store, 1)
        one.reply = wrong
        assert "internal error, KeyError" in ((await connection.ask(Pause())).error or "")
        one.reply = _done
        assert (await connection.ask(Pause())).done == "done"
        await connection.aclose()


async def test_the_end_waits_for_no_answer_but_for_those_who_read(tmp_path: Path) -> None:
    async def never() -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with session(tmp_path / "r.db") as one:
        connection, other = await connect(one.store, 1), await connect(one.store, 1)
        one.reply = never
        feed = connection.watch()
        assert (await anext(feed)).kind == "state"
        asking = asyncio.create_task(other.ask(Stop()))
        await until(lambda: bool(one.asked))
        one.feed.tell("finished", text="x" * 900_000)
        await one.server.aclose()
        assert [frame.kind async for frame in feed] == ["finished"]
        with pytest.raises(NotRunningError, match="has ended"):
            await asking
        await connection.aclose()


async def test_another_version_is_told_so(tmp_path: Path) -> None:
    async with session(tmp_path / "r.db", version=VERSION + 1):
        with pytest.raises(NotRunningError, match=r"another version of runner \(process 7\)"):
            await connect(tmp_path / "r.db", 1)


async def test_who_comes_takes_no_place_of_one_who_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_GUESTS", 3)
    async with session(tmp_path / "r.db") as one:
        watching = await connect(one.store, 1)
        feed = watching.watch()
        assert (await anext(feed)).kind == "state"
        others = [await connect(one.store, 1) for _ in range(4)]
        await until(lambda: [other.ended for other in others] == [True, True, False, False])
        one.feed.tell()
        assert isinstance(found := await anext(feed), Feed)
        assert found.kind == "note"
        for end in (watching, *others):
            await end.aclose()


async def test_nobody_else_is_let_in_and_a_session_of_somebody_else_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session(tmp_path / "r.db") as one:
        # as if the other side, which the system names, were another user
        monkeypatch.setattr("runner.sharing.folder._ROOT", tmp_path)
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(tmp_path / "r.db-run1.sock"))
        reader, writer = await asyncio.open_unix_connection(sock=end)
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(NotRunningError, match="is not running"):
            await connect(one.store, 1)
        assert not one.server._guests


def test_a_socket_that_was_replaced_is_left_to_its_owner(tmp_path: Path) -> None:
    before = listen(tmp_path / "r.db", 1)
    now = listen(tmp_path / "r.db", 1)
    before.close()
    assert place.socket_of(tmp_path / "r.db", 1).is_socket()
    assert now.path.lstat().st_mode & 0o777 == 0o600
    now.close()
    assert not now.path.exists()
