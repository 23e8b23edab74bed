"""A worker as its driver sees it, with the other end of its socket pair in the hands of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runner.engine.stop import Stop
from runner.entries import LateUsage
from runner.frames import join
from runner.model import HttpCall
from runner.providers.http import Timeouts
from runner.version import __version__
from runner.workers.crew import Crew
from runner.workers.member import Member
from runner.workers.protocol import PROTOCOL, Back, Beat, Bye, Hello, Setup, ToWorker, decode_for_worker, encode, fingerprint
from runner.workers.work import Work

SECRETS = {"THE_KEY": "sk-canary-of-the-workers-0123456789"}
SETUP = Setup("openai", ("http://127.0.0.1:9/v1",), {}, Timeouts(), Timeouts(), direct=True)


def call(**headers: str) -> HttpCall:
    return HttpCall(
        url="http://127.0.0.1:9/v1/x", headers={"authorization": f"Bearer {SECRETS['THE_KEY']}", **headers}, body=b"{}"
    )


class Peer:
    """The other end of the pair. sent: every byte that the driver has sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, member: Member, crew: Crew) -> None:
        self._reader, self.writer, self.member, self.crew = reader, writer, member, crew
        self.sent = b""
        self.told: list[str] = []
        self.late: list[LateUsage] = []

    async def hear(self) -> ToWorker:
        """Return the next message of the driver that is no beat."""
        while True:
            size = int.from_bytes(await self._reader.readexactly(4), "little")
            frame = await self._reader.readexactly(size)
            self.sent += frame
            message = decode_for_worker(frame)
            if not isinstance(message, Beat):
                return message

    def say(self, message: Any) -> None:
        self.say_bytes(encode(message))

    def say_bytes(self, frame: bytes) -> None:
        self.writer.write(len(frame).to_bytes(4, "little") + frame)

    async def greet(self, **more: Any) -> None:
        """Say hello as a worker does. more: what it says differently."""
        welcome = await self.hear()
        keys = {name: fingerprint(welcome.session, value) for name, value in SECRETS.items()}  # type: ignore[union-attr]
        self.say(msgspec.structs.replace(Hello(PROTOCOL, __version__, "a-host", 7, 100, keys), **more))

    def end(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def paired() -> AsyncIterator[Peer]:
    """Yield the other end of a worker that has been welcomed."""
    told: list[str] = []
    late: list[LateUsage] = []

    async def booked(found: Sequence[LateUsage]) -> None:
        late.extend(found)

    crew = Crew(Work(SETUP, SECRETS), 0, told.append, Stop(), booked, invites=True)
    await crew.begin()
    peer = await _welcomed(crew, 1)
    peer.told, peer.late = told, late
    try:
        yield peer
    finally:
        peer.end()
        await crew.end()


@asynccontextmanager
async def joined_by_another(peer: Peer) -> AsyncIterator[Peer]:
    """Yield a second worker of the same driver."""
    other = await _welcomed(peer.crew, 2)
    try:
        yield other
    finally:
        other.end()


async def _welcomed(crew: Crew, number: int) -> Peer:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=there)
    member = Member(number, f"worker {number}", crew.work, crew)
    await join(member.link, here)
    crew.add(member)
    return Peer(reader, writer, member, crew)


__all__ = ["Back", "Bye", "Peer", "call", "paired"]
