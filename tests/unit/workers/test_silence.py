"""A way between driver and worker on which nothing comes through any more, in one direction only."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from asking import PROGRAM_LOOP
from peers import SECRETS, SETUP, Bye, paired
from simulating import until

from runner.frames import Link, join
from runner.version import __version__
from runner.workers.process import STILL_S, Worker
from runner.workers.protocol import PROTOCOL, Back, Beat, Cancel, Done, Route, Tries, Try, Welcome, decode_for_driver, encode
from runner.workers.silence import Silence
from runner.workers.states import LOST_S, SUSPECT_S, State

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


async def test_a_worker_that_hears_nothing_is_given_up_though_it_is_heard() -> None:
    async with paired() as peer:
        await peer.greet()
        member = peer.member
        await until(lambda: member.state is State.LIVE)
        # as if it had come long ago
        member._silence._excused_at -= 60
        for deaf_s, state in ((SUSPECT_S + 0.1, State.SUSPECT), (0.5, State.LIVE), (SUSPECT_S + 0.2, State.SUSPECT)):
            peer.say(Beat(deaf_s=deaf_s))
            await until(lambda said=deaf_s: member._silence.deaf_s == said)  # type: ignore[misc]
            member.look(monotonic())
            assert member.state is state
        # what it brings shows that it lives, and not that it hears
        peer.say(Back([], [], []))
        peer.say(Beat(deaf_s=LOST_S + 0.1))
        await until(lambda: member._silence.deaf_s > LOST_S)
        member.look(monotonic())
        assert (member.state, member.why) == (State.LOST, "it has heard nothing of the run for 5 s")


async def test_what_a_driver_has_not_said_while_it_stood_still_does_not_count() -> None:
    async with paired() as peer:
        await peer.greet()
        member = peer.member
        await until(lambda: member.state is State.LIVE)
        member._silence._excused_at -= 60
        member.excuse(monotonic())
        member._silence.deaf_s = 99.0
        peer.say(Beat(deaf_s=40.0))
        await until(lambda: member._silence.deaf_s != 99.0)
        assert member._silence.deaf_s < 40
        member.look(monotonic())
        assert member.state is State.LIVE


class Driver:
    """The other end of a worker. done: what it has given back. connections: those that have come to the server."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.connections = 0
        self.link = Link(self._take, lambda _: None)

    def _take(self, frame: bytes) -> None:
        message = decode_for_driver(frame)
        if isinstance(message, Back):
            self.done += message.done

    def say(self, *messages: Any) -> None:
        for message in messages:
            self.link.send(encode(message))

    def met(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@asynccontextmanager
async def working() -> AsyncIterator[tuple[Driver, Worker, str]]:
    """Yield a driver, its worker, and the address of a server that answers nothing."""
    driver, worker = Driver(), Worker(SECRETS, None, "")
    here, there = socket.socketpair()
    server = await asyncio.start_server(driver.met, "127.0.0.1", 0)
    await join(driver.link, here)
    await join(worker.link, there)
    work = asyncio.ensure_future(worker.work())
    driver.say(Welcome(PROTOCOL, __version__, b"drawn", 1, (), SETUP))
    await until(lambda: worker._hands is not None)
    try:
        yield driver, worker, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
    finally:
        driver.link.end()
        await work
        server.close()


@pytest.mark.parametrize("given_up", [True, False])
async def test_what_comes_behind_a_long_silence_is_not_begun_before_the_next_word_is_read(given_up: bool) -> None:
    async with working() as (driver, worker, url):
        worker.link.read_at -= STILL_S + 1
        tries = Tries([Try(1, 1, b"{}"), Try(2, 1, b"{}")], [Route(1, url, {}, SETUP.base_urls[0])])
        # in one piece, as it comes through again
        driver.say(tries, Cancel([2]), *([Bye("the run has given it up")] if given_up else []))
        await until(lambda: len(driver.done) == 2)
        found = {done.number: (done.connected, done.is_ended) for done in driver.done}
        assert found[2] == (False, True)
        assert found[1] == ((False, True) if given_up else (True, False))
        assert (driver.connections > 0) is not given_up


async def test_what_a_worker_has_said_before_its_driver_stood_still_does_not_count() -> None:
    now = asyncio.get_running_loop().time()
    silence = Silence(Link(lambda _: None, lambda _: None), now - 60)
    silence.told(Beat(deaf_s=LOST_S - 0.1), now)
    assert silence.seconds(now) == LOST_S - 0.1
    silence.excuse(now + 60)
    assert silence.seconds(now + 60) == 0
