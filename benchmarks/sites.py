"""Servers beside workers, and ways to cut a worker off from its driver: for ``benchmarks.faults``."""

import asyncio
import ctypes
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.streams import answer
from benchmarks.stub import Connection

_NEW_NET = 0x40000000
_NOBODY = "02:00:00:00:00:99"
"""An address of no card: frames to it go nowhere, and nobody is told."""


class Site:
    """A server that one worker sends to. arrived, answered: when, in seconds since the epoch."""

    def __init__(self, chunks: int, pause_s: float) -> None:
        self.arrived: list[float] = []
        self.answered: list[float] = []
        self.url = ""
        self._whole, self._pause_s = answer(chunks), pause_s
        self._draw = random.Random(0)  # noqa: S311 - times

    async def listen(self, space: str | None) -> None:
        """Begin, on loopback. space: the network namespace whose loopback it is."""
        listening = _in_space(space)
        await asyncio.get_running_loop().create_server(lambda: _Served(self), sock=listening)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    def serve(self, transport: asyncio.WriteTransport) -> None:
        """Answer a request after a pause, up to a quarter longer or shorter."""
        self.arrived.append(time.time())
        seconds = self._pause_s * self._draw.uniform(0.75, 1.25)
        asyncio.get_running_loop().call_later(seconds, self._answer, transport)

    def _answer(self, transport: asyncio.WriteTransport) -> None:
        if not transport.is_closing():
            self.answered.append(time.time())
            transport.write(self._whole)


class _Served(Connection):
    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    def requested(self) -> None:
        self._site.serve(self.transport)


def _listening() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    listening.setblocking(False)
    return listening


def _in_space(space: str | None) -> socket.socket:
    """Return a socket that listens on the loopback of a network namespace. It stays there; the thread that makes it goes."""
    made: list[socket.socket] = []

    def work() -> None:
        if space is not None:
            with Path(f"/run/netns/{space}").open("rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NET):
                    raise OSError(ctypes.get_errno(), "setns")
        made.append(_listening())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


class Road(NamedTuple):
    """A way between driver and worker. listen: where the driver listens. space: the network namespace of the worker."""

    listen: str
    space: str | None = None

    def cut(self, sides: Sequence[str]) -> None:
        """Let nothing through any more to these sides, ``driver`` and ``worker``, and tell nobody."""
        if "worker" in sides:
            _ip("neigh", "replace", _THERE, "lladdr", _NOBODY, "dev", _card("h"), "nud", "permanent")
        if "driver" in sides:
            _ip("-n", str(self.space), "neigh", "replace", _HERE, "lladdr", _NOBODY, "dev", _card("w"), "nud", "permanent")


_HERE, _THERE = "10.213.77.1", "10.213.77.2"


def _card(side: str) -> str:
    return f"rb{side}{os.getpid()}"


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True)  # noqa: S603, S607 - our own words


@contextmanager
def apart() -> Iterator[Road]:
    """Make a network namespace with a cable to this one. It needs root."""
    space = f"runner-bench-{os.getpid()}"
    _ip("netns", "add", space)
    try:
        _ip("link", "add", _card("h"), "type", "veth", "peer", "name", _card("w"), "netns", space)
        for words in (
            ("addr", "add", f"{_HERE}/30", "dev", _card("h")),
            ("link", "set", _card("h"), "up"),
            ("-n", space, "addr", "add", f"{_THERE}/30", "dev", _card("w")),
            ("-n", space, "link", "set", _card("w"), "up"),
            ("-n", space, "link", "set", "lo", "up"),
        ):
            _ip(*words)
        yield Road(_HERE, space)
    finally:
        # connections that are cut keep the other end for a while
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", _card("h"))
        _ip("netns", "del", space)


class Tunnel:
    """A proxy on loopback: a way on which both ends go on to be heard by somebody. to_driver, to_worker: what is let through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open = {"driver": asyncio.Event(), "worker": asyncio.Event()}
        for gate in self.open.values():
            gate.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.address = ""

    async def listen(self) -> None:
        """Begin."""
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def cut(self, sides: Sequence[str]) -> None:
        """Let nothing through any more to these sides."""
        for side in sides:
            self.open[side].clear()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        for source, target, side in ((reader, back, "driver"), (there, writer, "worker")):
            pump = asyncio.get_running_loop().create_task(self._pump(source, target, self.open[side]))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        try:
            while data := await source.read(1 << 16):
                await gate.wait()
                target.write(data)
                await target.drain()
            target.close()
        except OSError:
            # the other end has gone
            target.close()
