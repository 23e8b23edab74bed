"""The socket of a session, from both sides: where it is, what is said at it, and what neither side can do to the other."""

import asyncio
import socket
import stat
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asking import PROGRAM_LOOP
from simulating import until

from runner.control import client
from runner.control.feeds import NoFeed
from runner.control.messages import Ask, Cancel, Continue, Feed, Hello, Message, Pause, Reply, Request, Set, Watch, decode, encode
from runner.control.place import listen, places_of, socket_of
from runner.control.server import MOST_BYTES, MOST_GUESTS, MOST_WATCHERS, ControlServer
from runner.errors import NotRunningError
from runner.sharing import folder

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    return tmp_path / "r.db"


class Told(NoFeed):
    """A feed that a test tells."""

    def __init__(self) -> None:
        self.puts: list[Callable[[Feed], bool]] = []

    def subscribe(self, after: int | None, texts: bool, put: Callable[[Feed], bool]) -> Callable[[], None]:
        self.puts.append(put)
        return lambda: self.puts.remove(put) if put in self.puts else None


class Session:
    """The server of a session that does nothing, and what it was asked."""

    def __init__(self) -> None:
        self.feed, self.asked = Told(), list[Request]()
        self.goes_on = asyncio.Event()

    async def answer(self, request: Request, by: str) -> Reply:
        self.asked.append(request)
        if isinstance(request, Continue):
            await self.goes_on.wait()
        if isinstance(request, Cancel):
            raise ValueError("broken")
        return Reply(number=0, done=f"done for the {by}")


@asynccontextmanager
async def session(store: Path) -> AsyncIterator[Session]:
    made = Session()
    server = ControlServer(listen(store, 1), Hello(run=1, session=1, pid=1), made.answer, made.feed)
    server.begin()
    try:
        yield made
    finally:
        await server.aclose()


def framed(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


async def other_end(store: Path, *sent: bytes) -> bytes:
    """Send bytes to a session by hand, and return what comes until it ends the connection, or has said a reply."""
    reader, writer = await asyncio.open_unix_connection(str(socket_of(store, 1)))
    found = bytearray()
    try:
        for one in sent:
            writer.write(one)
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while piece := await reader.read(1 << 16):
                found += piece
                if b"reply" in found:
                    break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return bytes(found)


# -- messages


@pytest.mark.parametrize(
    "message",
    [
        Hello(run=1, session=2, pid=3, newest=4), Ask(number=1, request=Set(rpm="none", tpm=5.0, max_cost=0.5), by="agent"),
        Ask(number=2, request=Cancel(ids=("a", "ü", ""))), Reply(number=1, error="no", rows={"a": "cancelled"}),
        Feed(number=9, kind="state", data=b"{}"), Ask(number=3, request=Watch(after=7, texts=False)),
    ],
)  # fmt: skip
def test_what_is_said_comes_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


# -- where it is


def test_a_socket_is_for_its_user_alone_and_goes_with_its_session(store: Path) -> None:
    first = listen(store, 1)
    assert (first.path, stat.S_IMODE(first.path.lstat().st_mode)) == (socket_of(store, 1), 0o600)
    # one that a killed session has left is replaced, and the file of the second is not the first one's to take away
    second = listen(store, 1)
    first.close()
    assert second.path.exists()
    second.close()
    assert not second.path.exists()


@pytest.mark.parametrize("why", ["the path is too long", "the folder is read-only"])
def test_a_session_that_can_have_no_socket_beside_its_store_has_it_elsewhere(
    store: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "long" in why:
        store = store.parent / ("d" * 100) / "r.db"
        store.parent.mkdir()
        assert len(list(places_of(store, 1))) == 1
    else:
        bind = socket.socket.bind

        def refused(end: socket.socket, address: Any) -> None:
            # the user of a test may be one to whom no folder is read-only
            if str(address).startswith(str(store)):
                raise PermissionError(13, "Permission denied")
            bind(end, address)

        monkeypatch.setattr("socket.socket", type("Socket", (socket.socket,), {"bind": refused}))
    made = listen(store, 1)
    assert made.path == socket_of(store, 1)
    assert made.path.parent == folder.of({"XDG_RUNTIME_DIR": str(store.parent if "read" in why else store.parent.parent)})
    made.close()


# -- what is sent to a session


@pytest.mark.parametrize(
    "sent",
    [
        (framed(b"\xc1 no message"),), (framed(encode(Hello(run=1, session=1, pid=1))),), (framed(b""),),
        (struct.pack("<I", MOST_BYTES + 1),), (b"GET / HTTP/1.1\r\n\r\n",),
    ],
    ids=["malformed", "no request", "empty", "huge", "another protocol"],
)  # fmt: skip
async def test_who_sends_what_is_no_request_is_cut_off_and_nobody_else(store: Path, sent: tuple[bytes, ...]) -> None:
    async with session(store) as made:
        assert b"reply" not in await other_end(store, *sent)
        connection = await client.connect(store, 1)
        assert (await connection.ask(Pause(), by="page")).done == "done for the page"
        await connection.aclose()
        assert made.asked == [Pause()]


async def test_a_frame_may_come_in_pieces_and_half_of_one_is_none(store: Path) -> None:
    async with session(store) as made:
        frame = framed(encode(Ask(number=7, request=Pause())))
        assert b"done for the terminal" in await other_end(store, *(frame[at : at + 1] for at in range(len(frame))))
        _, half = await asyncio.open_unix_connection(str(socket_of(store, 1)))
        half.write(frame[:-1])
        half.close()
        await half.wait_closed()
        assert made.asked == [Pause()]


async def test_two_at_once_do_not_wait_for_each_other_and_an_error_is_a_sentence(store: Path) -> None:
    async with session(store) as made:
        one, two = await client.connect(store, 1), await client.connect(store, 1)
        waits = asyncio.ensure_future(one.ask(Continue()))
        await until(lambda: made.asked == [Continue()])
        error = (await two.ask(Cancel(ids=("a",)))).error or ""
        assert error == "internal error, ValueError: broken. This is a bug; the run goes on"
        made.goes_on.set()
        assert (await waits).error is None
        await one.aclose()
        await two.aclose()


async def test_one_who_never_reads_is_skipped(store: Path) -> None:
    async with session(store) as made:
        reader, writer = await asyncio.open_unix_connection(str(socket_of(store, 1)), limit=1)
        writer.write(framed(encode(Ask(number=1, request=Watch()))))
        await until(lambda: bool(made.feed.puts))
        (put,) = made.feed.puts
        frame = Feed(number=1, kind="text", data=b"x" * 100_000)
        # its buffers are full after some of them
        assert not all(put(frame) for _ in range(200))
        quick = await client.connect(store, 1)
        assert (await quick.ask(Pause())).done
        await quick.aclose()
        writer.close()
        await until(lambda: not made.feed.puts)
        del reader


async def test_the_next_watcher_after_the_last_is_told_so_and_may_steer(store: Path) -> None:
    async with session(store) as made:
        watchers = [await client.connect(store, 1) for _ in range(MOST_WATCHERS)]
        for one in watchers:
            assert (await one.ask(Watch())).done == "watching"
        late = await client.connect(store, 1)
        with pytest.raises(NotRunningError, match="56 watch this session already, which is the most; `runner status --watch`"):
            await anext(late.watch())
        assert (await late.ask(Pause())).done
        # who does not watch makes room for who comes, the oldest first
        others = [await client.connect(store, 1) for _ in range(MOST_GUESTS - MOST_WATCHERS)]
        with pytest.raises(NotRunningError):
            await late.ask(Pause())
        assert len(made.feed.puts) == MOST_WATCHERS
        for one in (*watchers, *others, late):
            await one.aclose()


# -- what a command is told


def says(store: Path, *sent: bytes, shut: bool = True) -> threading.Thread:
    """Say something to the next who comes, as a session would that is not as it should be."""
    listening = listen(store, 1)
    listening.end.setblocking(True)

    def attend() -> None:
        end, _ = listening.end.accept()
        with end:
            for one in sent:
                end.sendall(one)
            if shut:
                end.shutdown(socket.SHUT_WR)
            while end.recv(1 << 16):
                pass
        listening.close()

    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    return thread


HELLO = framed(encode(Hello(run=1, session=1, pid=1)))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ((), "has ended"), ((HELLO[:5],), "has ended"), ((HELLO,), "has ended"), ((HELLO, framed(b"\xc1")), "speaks otherwise"),
        ((framed(b"nonsense"),), "speaks otherwise"), ((struct.pack("<I", 1 << 31),), "has ended"),
        ((framed(encode(Hello(version=99, run=1, session=1, pid=77))),), "another version of runner .process 77"),
    ],
    ids=["nothing", "half a frame", "no reply", "malformed reply", "malformed", "huge", "another version"],
)  # fmt: skip
def test_a_session_that_is_not_as_it_should_be_is_told_in_a_sentence(store: Path, sent: tuple[bytes, ...], words: str) -> None:
    thread = says(store, *sent)
    with pytest.raises(NotRunningError, match=words):
        client.ask(store, 1, Pause())
    thread.join(60)


def test_a_session_that_says_nothing_is_not_waited_for_for_ever(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    thread = says(store, HELLO, shut=False)
    with pytest.raises(NotRunningError, match="has not answered for"):
        client.ask(store, 1, Pause())
    thread.join(60)


def test_a_socket_that_a_kill_has_left_is_no_session(store: Path) -> None:
    listen(store, 1).end.close()
    assert socket_of(store, 1).exists()
    with pytest.raises(NotRunningError, match=r"run 1 of r\.db is not running; `runner resume 1 --db "):
        client.ask(store, 1, Pause())
